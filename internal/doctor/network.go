package doctor

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun"
)

// forwarding checks that the host forwards packets: otherwise none reaches the TUN.
func (d *doctor) forwarding() {
	device := ""
	if d.steers() && len(d.o.Config.Capture.Interfaces) == 0 {
		d.good("forwarding", "programs of this host alone are captured: nothing need be forwarded")
		return
	}
	if d.steers() {
		device = d.o.Config.TUN.Name
	}
	for _, t := range tun.ForwardingTroubles(device, d.captured()...) {
		d.fail("forwarding", t.Fix, "%s", t.Text)
	}
	if d.clean("forwarding") {
		what := "packets are forwarded"
		if v, ok := d.sysctlInt("ipv6/conf/all/forwarding"); !ok || v == 0 {
			what = "IPv4 is forwarded; IPv6 is not, and no captured interface has an address of it to route by"
		}
		d.good("forwarding", "%s", what)
	}
}

// reversePath checks that the reverse path filter lets captured packets in.
func (d *doctor) reversePath() {
	found := tun.CheckReversePath(d.captured()...)
	if d.steers() {
		found = append(found, tun.DeviceTroubles(d.o.Config.TUN.Name, d.o.Config.CapturesLocal())...)
	}
	for _, t := range found {
		d.fail("rp_filter", t.Fix, "%s", t.Text)
	}
	if d.clean("rp_filter") {
		d.good("rp_filter", "the reverse path filter lets captured packets in")
	}
}

// interfaces checks that the captured interfaces exist, and deliver large pieces.
func (d *doctor) interfaces() {
	for _, name := range d.captured() {
		link, err := netlink.LinkByName(name)
		var none netlink.LinkNotFoundError
		switch {
		case errors.As(err, &none):
			d.fail("interface", "ip -br link", "there is no interface %s: take its name from the list", name)
			continue
		case err != nil:
			d.fail("interface", "", "look for interface %s: %v", name, err)
			continue
		}
		a := link.Attrs()
		if a.Flags&net.FlagUp == 0 {
			d.fail("interface", "ip link set dev "+Quote(name)+" up", "%s is down", name)
		}
		d.offloads(name)
	}
	d.names()
	if len(d.captured()) > 0 && d.clean("interface") {
		d.good("interface", "the captured interfaces are there and up")
	}
	if len(d.captured()) > 0 && d.clean("gro") {
		d.good("gro", "captured packets come in large pieces")
	}
}

// names checks what the names mean, and whether packets come in by these interfaces.
func (d *doctor) names() {
	if !d.steers() {
		return
	}
	c := d.o.Config
	found, err := tun.CheckInterfaces(c.Capture.Interfaces, c.Capture.Exempt, c.TUN.Name)
	if err != nil {
		d.fail("interface", "", "%v", err)
	}
	for _, t := range found {
		if t.Fatal {
			d.fail("interface", t.Fix, "%s", t.Text)
		} else {
			d.warn("interface", t.Fix, "%s", t.Text)
		}
	}
}

// offloads checks the offloads: with one packet of 1500 bytes for each system call the
// speed is an eighth.
func (d *doctor) offloads(name string) {
	// With capture.gro auto the gateway itself switches it on.
	if on, err := ethtool(name, unix.ETHTOOL_GGRO); err == nil && !on && d.o.Config.Capture.GRO != "auto" {
		d.warn("gro", "ethtool -K "+Quote(name)+" gro on", "generic receive offload of %s is off: uploads run at a fraction of the speed", name)
	}
	if on, err := ethtool(name, unix.ETHTOOL_GTSO); err == nil && !on {
		d.warn("gro", "ethtool -K "+Quote(name)+" tx on sg on tso on", "segmentation offload of %s is off: downloads cost more than they must", name)
	}
}

// ethtool reads one value (linux/ethtool.h, struct ethtool_value).
func ethtool(name string, cmd uint32) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(fd) }()
	value := struct{ cmd, data uint32 }{cmd: cmd}
	ifr := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // of the union in struct ifreq
	}{data: unsafe.Pointer(&value)}
	copy(ifr.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return false, errno
	}
	return value.data != 0, nil
}

// family is an address family.
type family struct {
	number int
	flag   string // of ip(8)
}

var families = []family{{unix.AF_INET, "-4"}, {unix.AF_INET6, "-6"}}

// foreignRoutes reports another program's routes in our table, which would be preferred
// to the TUN.
func (d *doctor) foreignRoutes() {
	if !d.steers() {
		return
	}
	table := d.o.Config.Capture.Table
	for _, f := range families {
		list, err := netlink.RouteListFiltered(f.number, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			d.fail("routes", "", "list table %d: %v", table, err)
			continue
		}
		for _, r := range list {
			if r.Protocol == tun.RuleProtocol {
				continue
			}
			dst := routeDst(&r)
			d.fail("routes", fmt.Sprintf("ip %s route del %s table %d proto %d", f.flag, dst, table, int(r.Protocol)),
				"the route %s in our table %d is not ours: captured packets to it go nowhere", dst, table)
		}
	}
	if d.clean("routes") {
		d.good("routes", "table %d leads nowhere but to the TUN", table)
	}
}
