package tun

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// configure sets the MTU, sysctls and addresses and sets the link up. For an attached
// device it only reads the MTU.
func (d *Device) configure(cfg *Config) error {
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return fmt.Errorf("look for device %s: %w", d.name, err)
	}
	d.index, d.mtu = link.Attrs().Index, link.Attrs().MTU
	if cfg.Attach {
		return nil
	}
	if err := netlink.LinkSetMTU(link, cfg.MTU); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", d.name, cfg.MTU, err)
	}
	d.mtu = cfg.MTU
	// Without it packets are lost sooner, which is no reason not to start.
	_ = netlink.LinkSetTxQLen(link, queueLength(len(d.queues)))
	quiet(d.name)
	for _, a := range addresses(cfg) {
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add address %s to %s: %w", a.IPNet, d.name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", d.name, err)
	}
	return nil
}

// queueLength is how many packets the kernel keeps for each queue until they are read. Its
// own 500 overflow when flows with large windows begin: memory that they take for the first
// time slows the reader down for tens of milliseconds, and a packet has up to 64 KiB. More
// queues get fewer each, so that all together are bounded.
func queueLength(queues int) int { return min(max(4000/queues, 500), 2000) }

// dummyAddress is the IPv4 dummy address (RFC 7600, section 4.8), for a device that is
// given no address. Where rp_filter is on, even loose, Linux drops what comes in by a
// device without an IPv4 address (__fib_validate_source). The address has link scope so
// that it is not chosen as a source.
var dummyAddress = netip.MustParsePrefix("192.0.0.8/32")

func addresses(cfg *Config) []*netlink.Addr {
	var all []*netlink.Addr
	has4 := false
	for _, p := range cfg.Addresses {
		has4 = has4 || p.Addr().Is4()
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		all = append(all, a)
	}
	if !has4 {
		all = append(all, &netlink.Addr{IPNet: ipNet(dummyAddress), Scope: unix.RT_SCOPE_LINK})
	}
	return all
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// quiet makes the kernel neither send nor accept packets of its own on the device. Best
// effort: where IPv6 is switched off, half of the keys do not exist.
//
// rp_filter is 2, loose, because the answers that sslgate writes come from the
// destinations' addresses, whose route leads elsewhere. The kernel takes the greater of
// this and conf/all, and loose is the greatest. accept_local is 1 because answers come
// from this host's own addresses if the destination is this host. forwarding is 1 so that
// answers are forwarded on a host that forwards from captured interfaces alone.
func quiet(name string) {
	for _, s := range [][2]string{
		{"ipv4/conf/%/rp_filter", "2"},
		{"ipv4/conf/%/accept_local", "1"},
		{"ipv4/conf/%/forwarding", "1"},
		{"ipv4/conf/%/accept_redirects", "0"},
		{"ipv6/conf/%/addr_gen_mode", "1"}, // none: no link-local address
		{"ipv6/conf/%/accept_ra", "0"},
		{"ipv6/conf/%/accept_redirects", "0"},
		{"ipv6/conf/%/autoconf", "0"},
		{"ipv6/conf/%/accept_dad", "0"},
		{"ipv6/conf/%/dad_transmits", "0"},
		{"ipv6/conf/%/router_solicitations", "0"},
	} {
		_ = os.WriteFile(filepath.Join("/proc/sys/net", strings.Replace(s[0], "%", name, 1)), []byte(s[1]), 0)
	}
}
