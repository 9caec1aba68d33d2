package tun

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func newSocketFile(fd int) *os.File { return os.NewFile(uintptr(fd), "socket") }

// TestAttach: the owner's device is unchanged before, during and after.
func TestAttach(t *testing.T) {
	for _, c := range []struct {
		name, add string
		mode      Offload
		offload   bool
		reason    string
	}{
		{"one queue", "ip tuntap add dev t0 mode tun", OffloadAuto, false, "multi_queue"},
		{"many queues", "ip tuntap add dev t0 mode tun multi_queue", OffloadAuto, true, ""},
		{"many queues, plain", "ip tuntap add dev t0 mode tun multi_queue", OffloadOff, false, "switched off"},
		{"header", "ip tuntap add dev t0 mode tun multi_queue vnet_hdr", OffloadAuto, true, ""},
		{"header, plain", "ip tuntap add dev t0 mode tun vnet_hdr", OffloadAuto, false, "multi_queue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNS(t, "gateway")
			n.run(c.add)
			for _, line := range []string{"sysctl -qw net.ipv6.conf.t0.addr_gen_mode=1", "ip link set t0 mtu 1350", "ip addr add 192.0.2.1/24 dev t0", "ip link set t0 up"} {
				n.run(line)
			}
			before := n.run("ip -d addr show dev t0")
			d := openIn(t, n, Config{Name: "t0", MTU: 1500, Attach: true, Offload: c.mode})
			if d.MTU() != 1350 || d.Offload() != c.offload || !strings.Contains(d.OffloadReason(), c.reason) {
				t.Errorf("MTU %d, offload %v, reason %q", d.MTU(), d.Offload(), d.OffloadReason())
			}
			if during := n.run("ip addr show dev t0"); !strings.Contains(during, "192.0.2.1/24") || !strings.Contains(during, "mtu 1350") || strings.Contains(during, "192.0.0.8") {
				t.Errorf("touched:\n%s", during)
			}
			pkt := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: unix.IPPROTO_UDP}.bytes()
			if taken, err := d.WriteBatch([][][]byte{{make([]byte, headerLen), pkt}}); taken != 1 || err != nil {
				t.Errorf("%d taken, %v", taken, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if after := n.run("ip -d addr show dev t0"); owners(after) != owners(before) {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			again := openIn(t, n, Config{Name: "t0", Attach: true, Offload: c.mode})
			if again.Offload() != c.offload {
				t.Errorf("the second time: offload %v, %q", again.Offload(), again.OffloadReason())
			}
		})
	}
}

// owners removes from `ip -d addr` what the last open caused: the virtio-net flag, which
// the next open sets anew, and the carrier.
func owners(s string) string {
	for _, cut := range []string{"vnet_hdr off", "vnet_hdr on", "vnet_hdr", "NO-CARRIER,", ",LOWER_UP", "state UNKNOWN", "state DOWN", "linkdown"} {
		s = strings.ReplaceAll(s, cut, "")
	}
	return strings.Join(strings.Fields(s), " ")
}

// TestAttachTemporary: a device that disappears with its owner still does.
func TestAttachTemporary(t *testing.T) {
	n := newNS(t, "gateway")
	owner := openIn(t, n, Config{Name: "t0"}) // many queues, not persistent
	user := openIn(t, n, Config{Name: "t0", Attach: true})
	if !user.Offload() {
		t.Errorf("no offload beside an offloaded queue: %s", user.OffloadReason())
	}
	_ = owner.Close()
	_ = user.Close()
	if err := n.try(func() error { _, err := netlink.LinkByName("t0"); return err }); err == nil {
		t.Error("the device has become persistent")
	}
}

func TestOpenErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup string
		cfg   Config
		want  string
	}{
		{"exists", "ip tuntap add dev t0 mode tun", Config{Name: "t0"}, "`ip link delete t0`"},
		{"is a TAP", "ip tuntap add dev t0 mode tap", Config{Name: "t0", Attach: true}, "another kind"},
		{"is no tuntap", "ip link add t0 type veth peer name t1", Config{Name: "t0", Attach: true}, "another kind (veth)"},
		{"nothing to attach to", "true", Config{Name: "t0", Attach: true}, "`ip tuntap add dev t0 mode tun multi_queue`"},
		{"name", "true", Config{Name: "t%d"}, "not the name of an interface"},
		{"long name", "true", Config{Name: "sixteen-bytes-xx"}, "not the name of an interface"},
		{"MTU", "true", Config{Name: "t0", MTU: 1279}, "1280 to 65535"},
		{"addresses of the owner", "true", Config{Name: "t0", Attach: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}}, "its owner's"},
		{"no address", "true", Config{Name: "t0", Addresses: make([]netip.Prefix, 1)}, "10.0.0.1/24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNS(t, "gateway")
			n.run(c.setup)
			before := n.run("ip -d addr")
			err := n.try(func() error { _, err := Open(c.cfg); return err })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if after := n.run("ip -d addr"); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// TestBusy: the error says who holds the device.
func TestBusy(t *testing.T) {
	for _, attach := range []bool{false, true} {
		n := newNS(t, "gateway")
		n.run("ip tuntap add dev t0 mode tun")
		openIn(t, n, Config{Name: "t0", Attach: true, Offload: OffloadOff})
		err := n.try(func() error { _, err := Open(Config{Name: "t0", Attach: attach}); return err })
		if err == nil || !strings.Contains(err.Error(), `held by "tun.test"`) {
			t.Errorf("attach %v: %v", attach, err)
		}
	}
}

func TestHint(t *testing.T) {
	for err, want := range map[error]string{
		unix.ENOENT: "modprobe tun", unix.ENODEV: "modprobe tun", unix.EACCES: "root", unix.EPERM: "setcap cap_net_admin",
		unix.EBUSY: "in use", unix.EINVAL: "ip tuntap add dev t0", unix.ENOMEM: "cannot allocate memory",
	} {
		if got := hint("t0", os.NewSyscallError("open", err)).Error(); !strings.Contains(got, want) || strings.HasSuffix(got, ": ") {
			t.Errorf("%v: %q, want %q in it", err, got, want)
		}
	}
}
