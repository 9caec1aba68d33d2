package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// With a second gateway, client and server have a bridge where they otherwise have one end of
// a pair: it has the same name and addresses, and a port for each gateway.

// ownAddr is a gateway's own address in network 1, the client's, or 2, the server's.
func ownAddr(ns NS, network int, six bool) string {
	last := 3
	if ns == Standby {
		last = 4
	}
	if six {
		return fmt.Sprintf("fd77:%d::%d", network, last)
	}
	return fmt.Sprintf("10.77.%d.%d", network, last)
}

// linksOfTwo are the links of a lab with two gateways.
func (l *Lab) linksOfTwo() []link {
	var all []link
	for _, ns := range []NS{Gateway, Standby} {
		own := func(network int) []string {
			return []string{ownAddr(ns, network, false) + "/24", ownAddr(ns, network, true) + "/64"}
		}
		all = append(all,
			link{a: ns, aName: LANIface, aAddr: own(1), b: Client, bName: string(ns), mtu: l.opt.ClientMTU, bridge: ClientIface},
			link{a: ns, aName: WANIface, aAddr: own(2), b: Server, bName: string(ns), mtu: l.opt.ServerMTU, bridge: ServerIface})
	}
	return all
}

// addBridges makes the bridges of client and server.
func (l *Lab) addBridges() error {
	client := []string{ClientAddr(false).String() + "/24", ClientAddr(true).String() + "/64"}
	for ns, b := range map[NS]struct {
		name  string
		addrs []string
		mtu   int
	}{Client: {ClientIface, client, l.opt.ClientMTU}, Server: {ServerIface, l.serverAddrs(), l.opt.ServerMTU}} {
		err := l.Netlink(ns, func(h *netlink.Handle) error {
			return h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: b.name, MTU: b.mtu, TxQLen: -1}})
		})
		if err == nil {
			err = l.addAddrs(ns, b.name, b.addrs)
		}
		if err != nil {
			return fmt.Errorf("bridge %s in %s: %w", b.name, ns, err)
		}
	}
	return nil
}

// addPort makes the far end of a link a port of its bridge.
func (l *Lab) addPort(k link) error {
	return l.Netlink(k.b, func(h *netlink.Handle) error {
		port, err := h.LinkByName(k.bName)
		if err != nil {
			return err
		}
		bridge, err := h.LinkByName(k.bridge)
		if err != nil {
			return err
		}
		return h.LinkSetMaster(port, bridge)
	})
}

// CutOff sets a gateway's interfaces down: the others hear nothing of it any more, as if the
// host had died.
func (l *Lab) CutOff(ns NS) error {
	return l.Netlink(ns, func(h *netlink.Handle) error {
		for _, name := range []string{LANIface, WANIface} {
			link, err := h.LinkByName(name)
			if err != nil {
				return fmt.Errorf("interface %s in %s: %w", name, ns, err)
			}
			if err := h.LinkSetDown(link); err != nil {
				return err
			}
		}
		return nil
	})
}
