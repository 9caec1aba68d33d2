package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/line"
)

// link is one veth pair and the addresses on its two ends.
type link struct {
	a, b         NS
	aName, bName string
	aAddr, bAddr []string
	mtu          int
	bridge       string // in b, that the end there belongs to; "": none
}

// connect makes the links, addresses and routes.
func (l *Lab) connect() error {
	for ns := range l.spaces {
		// Duplicate address detection would keep IPv6 addresses unusable for
		// about two seconds; there are no duplicates in a lab.
		for _, key := range []string{"net.ipv6.conf.all.accept_dad", "net.ipv6.conf.default.accept_dad"} {
			if err := l.Sysctl(ns, key, "0"); err != nil {
				return err
			}
		}
		if err := l.linkUp(ns, "lo"); err != nil {
			return err
		}
	}
	if l.opt.Line != nil { // only the line sends on these links: no packets of Between's own
		if err := l.Sysctl(Between, "net.ipv6.conf.default.disable_ipv6", "1"); err != nil {
			return err
		}
	}
	if l.opt.Standby {
		if err := l.addBridges(); err != nil {
			return err
		}
	}
	for _, k := range l.links() {
		if err := l.addLink(k); err != nil {
			return fmt.Errorf("link %s - %s: %w", k.a, k.b, err)
		}
	}
	if err := l.routes(); err != nil {
		return err
	}
	if l.opt.Line != nil {
		if err := l.layLine(); err != nil {
			return err
		}
	}
	for _, ns := range []NS{Gateway, Hop, Between, Gateway2, Standby} {
		if l.spaces[ns] == nil || l.opt.Line != nil && ns == Between {
			continue
		}
		for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
			if err := l.Sysctl(ns, key, "1"); err != nil {
				return err
			}
		}
	}
	if l.opt.GRO {
		for _, ns := range []NS{Gateway, Gateway2} {
			for _, name := range []string{LANIface, WANIface} {
				if l.spaces[ns] == nil {
					continue
				}
				if err := l.Do(ns, func() error { return setGRO(name) }); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// serverAddrs are all addresses of the server.
func (l *Lab) serverAddrs() []string {
	var all []string
	for i := range l.opt.Servers + 1 {
		all = append(all, ServerAddr(i, false).String()+"/24", ServerAddr(i, true).String()+"/64")
	}
	return all
}

func (l *Lab) links() []link {
	server := l.serverAddrs()
	client := []string{ClientAddr(false).String() + "/24", ClientAddr(true).String() + "/64"}
	near := []string{"10.77.1.1/24", "fd77:1::1/64"}
	last := Gateway
	if l.opt.Two {
		last = Gateway2
	}
	all := []link{{
		a: last, aName: WANIface, aAddr: []string{GatewayAddr(false).String() + "/24", GatewayAddr(true).String() + "/64"},
		b: Server, bName: ServerIface, bAddr: server, mtu: l.opt.ServerMTU,
	}}
	switch {
	case l.opt.Standby:
		return l.linksOfTwo()
	case l.opt.Two:
		return append(all,
			link{a: Gateway, aName: LANIface, aAddr: near, b: Client, bName: ClientIface, bAddr: client, mtu: l.opt.ClientMTU},
			link{
				a: Gateway, aName: WANIface, aAddr: []string{FirstAddr(false).String() + "/24", FirstAddr(true).String() + "/64"},
				b: Between, bName: NearIface, bAddr: []string{"10.77.3.2/24", "fd77:3::2/64"}, mtu: l.opt.ServerMTU,
			},
			link{
				a: Gateway2, aName: LANIface, aAddr: []string{"10.77.4.1/24", "fd77:4::1/64"},
				b: Between, bName: FarIface, bAddr: []string{"10.77.4.2/24", "fd77:4::2/64"}, mtu: l.opt.ServerMTU,
			})
	case l.opt.Line != nil:
		return append(all,
			link{a: Gateway, aName: LANIface, aAddr: near, b: Between, bName: NearIface, mtu: l.opt.ClientMTU},
			link{a: Between, aName: FarIface, b: Client, bName: ClientIface, bAddr: client, mtu: l.opt.ClientMTU})
	case l.opt.HopMTU == 0:
		return append(all, link{
			a: Gateway, aName: LANIface, aAddr: near,
			b: Client, bName: ClientIface, bAddr: client, mtu: l.opt.ClientMTU,
		})
	}
	return append(all,
		link{
			a: Gateway, aName: LANIface, aAddr: []string{"10.77.3.1/24", "fd77:3::1/64"},
			b: Hop, bName: "up0", bAddr: []string{"10.77.3.2/24", "fd77:3::2/64"}, mtu: l.opt.ClientMTU,
		},
		link{
			a: Hop, aName: "down0", aAddr: near,
			b: Client, bName: ClientIface, bAddr: client, mtu: l.opt.ClientMTU,
		})
}

func (l *Lab) routes() error {
	type route struct {
		ns            NS
		dst, via, dev string
		mtu           int
	}
	all := []route{
		{Client, "0.0.0.0/0", "10.77.1.1", ClientIface, 0}, {Client, "::/0", "fd77:1::1", ClientIface, 0},
		{Server, "0.0.0.0/0", "10.77.2.1", ServerIface, 0}, {Server, "::/0", "fd77:2::1", ServerIface, 0},
	}
	if m := l.opt.HopMTU; m != 0 {
		all = append(all,
			route{Hop, "0.0.0.0/0", "10.77.3.1", "up0", 0}, route{Hop, "::/0", "fd77:3::1", "up0", 0},
			// With a locked MTU on the host route, a forwarding kernel answers "too big" although
			// the link itself is wider.
			route{Hop, ClientAddr(false).String() + "/32", "", "down0", m},
			route{Hop, ClientAddr(true).String() + "/128", "", "down0", m},
			route{Gateway, "10.77.1.0/24", "10.77.3.2", LANIface, 0}, route{Gateway, "fd77:1::/64", "fd77:3::2", LANIface, 0})
	}
	if l.opt.Two {
		all = append(all,
			route{Gateway, "0.0.0.0/0", "10.77.3.2", WANIface, 0}, route{Gateway, "::/0", "fd77:3::2", WANIface, 0},
			route{Between, "10.77.1.0/24", "10.77.3.1", NearIface, 0}, route{Between, "fd77:1::/64", "fd77:3::1", NearIface, 0},
			route{Between, "10.77.2.0/24", "10.77.4.1", FarIface, 0}, route{Between, "fd77:2::/64", "fd77:4::1", FarIface, 0},
			route{Gateway2, "0.0.0.0/0", "10.77.4.2", LANIface, 0}, route{Gateway2, "::/0", "fd77:4::2", LANIface, 0})
	}
	for _, r := range all {
		err := l.Netlink(r.ns, func(h *netlink.Handle) error {
			dev, err := h.LinkByName(r.dev)
			if err != nil {
				return err
			}
			_, dst, err := net.ParseCIDR(r.dst)
			if err != nil {
				return err
			}
			return h.RouteReplace(&netlink.Route{
				LinkIndex: dev.Attrs().Index, Dst: dst, Gw: net.ParseIP(r.via), MTU: r.mtu, MTULock: r.mtu != 0,
			})
		})
		if err != nil {
			return fmt.Errorf("route %s in %s: %w", r.dst, r.ns, err)
		}
	}
	return nil
}

func (l *Lab) addLink(k link) error {
	far, err := l.space(k.b)
	if err != nil {
		return err
	}
	err = l.Netlink(k.a, func(h *netlink.Handle) error {
		v := netlink.NewVeth(netlink.LinkAttrs{Name: k.aName, MTU: k.mtu, TxQLen: -1})
		v.PeerName, v.PeerNamespace, v.PeerMTU = k.bName, netlink.NsFd(int(far.handle)), uint32(k.mtu)
		return h.LinkAdd(v)
	})
	if err != nil {
		return err
	}
	if err := l.addAddrs(k.a, k.aName, k.aAddr); err != nil {
		return err
	}
	if k.bridge != "" {
		if err := l.addPort(k); err != nil {
			return err
		}
	}
	return l.addAddrs(k.b, k.bName, k.bAddr)
}

// Unlink deletes an interface of the gateway, and with it the other end of the
// pair; Relink makes both anew, with their addresses and routes.
func (l *Lab) Unlink(dev string) error {
	return l.Netlink(Gateway, func(h *netlink.Handle) error {
		link, err := h.LinkByName(dev)
		if err != nil {
			return fmt.Errorf("interface %s: %w", dev, err)
		}
		return h.LinkDel(link)
	})
}

// Relink undoes Unlink. It does not work in a lab with a line.
func (l *Lab) Relink(dev string) error {
	if l.opt.Line != nil {
		return errors.New("a lab with a line cannot be linked again")
	}
	for _, k := range l.links() {
		if k.a == Gateway && k.aName == dev {
			if err := l.addLink(k); err != nil {
				return fmt.Errorf("link %s - %s: %w", k.a, k.b, err)
			}
			return l.routes()
		}
	}
	return fmt.Errorf("the lab has no interface %s in its gateway", dev)
}

func (l *Lab) addAddrs(ns NS, dev string, addrs []string) error {
	return l.Netlink(ns, func(h *netlink.Handle) error {
		link, err := h.LinkByName(dev)
		if err != nil {
			return err
		}
		for _, s := range addrs {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			if strings.Contains(s, ":") {
				a.Flags = unix.IFA_F_NODAD
			} else {
				a.Broadcast = nil
			}
			if err := h.AddrAdd(link, a); err != nil {
				return fmt.Errorf("address %s: %w", s, err)
			}
		}
		return h.LinkSetUp(link)
	})
}

func (l *Lab) linkUp(ns NS, dev string) error {
	return l.Netlink(ns, func(h *netlink.Handle) error {
		link, err := h.LinkByName(dev)
		if err != nil {
			return fmt.Errorf("interface %s in %s: %w", dev, ns, err)
		}
		return h.LinkSetUp(link)
	})
}

// disconnect removes the links at once, because the kernel removes a namespace some time
// after its last user is gone.
func (l *Lab) disconnect() error {
	var errs []error
	for _, k := range l.links() {
		s := l.spaces[k.a]
		if s == nil {
			continue
		}
		h, err := netlink.NewHandleAt(s.handle, unix.NETLINK_ROUTE)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if link, err := h.LinkByName(k.aName); err == nil {
			errs = append(errs, h.LinkDel(link))
		}
		h.Close()
	}
	return errors.Join(errs...)
}

// layLine joins the two links between client and gateway.
func (l *Lab) layLine() error {
	var ends []*os.File
	err := l.Do(Between, func() error {
		for _, name := range []string{NearIface, FarIface} {
			f, err := line.Open(name)
			if err != nil {
				return err
			}
			ends = append(ends, f)
		}
		return nil
	})
	if err != nil {
		for _, f := range ends {
			err = errors.Join(err, f.Close())
		}
		return err
	}
	l.line, err = line.Join(ends[0], ends[1], *l.opt.Line)
	return err
}

// Line is the long line between client and gateway, whose end a is the
// gateway's; nil without Options.Line.
func (l *Lab) Line() *line.Line { return l.line }

// Netlink runs fn with a netlink handle of the namespace, for tests that rename, add and remove
// links, routes and rules.
func (l *Lab) Netlink(ns NS, fn func(*netlink.Handle) error) error {
	s, err := l.space(ns)
	if err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(s.handle, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in %s: %w", ns, err)
	}
	defer h.Close()
	return fn(h)
}

// Sysctl sets a network parameter of the namespace, for example
// "net.ipv4.ip_forward".
func (l *Lab) Sysctl(ns NS, key, value string) error {
	if !strings.HasPrefix(key, "net.") {
		return fmt.Errorf("sysctl %s: only net.* belongs to a namespace", key)
	}
	path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
	// /proc/sys/net shows the namespace of the thread that opens it.
	return l.Do(ns, func() error {
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("sysctl %s in %s: %w", key, ns, err)
		}
		return nil
	})
}

// setGRO turns generic receive offload on (ETHTOOL_SGRO, ethtool.h).
func setGRO(dev string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	value := struct{ cmd, data uint32 }{unix.ETHTOOL_SGRO, 1}
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // struct ifreq is 40 bytes
	}{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], dev)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return fmt.Errorf("turn GRO on at %s: %w", dev, errno)
	}
	return nil
}
