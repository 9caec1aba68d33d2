package soak

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/sslgate/sslgate/internal/lab"
)

// hereAddr is the gateway's address on the clients' side.
func hereAddr(six bool) netip.Addr {
	if six {
		return netip.MustParseAddr("fd77:1::1")
	}
	return netip.MustParseAddr("10.77.1.1")
}

// namedHere are these addresses in the rule that bypasses: it must name them.
const namedHere = `"10.77.1.1:80", "[fd77:1::1]:80"`

// makeLocal gives each origin the gateway's own addresses too, and writes a configuration
// that captures what programs of the gateway's host open.
func (s *site) makeLocal() error {
	s.local = true
	for _, o := range s.origins() {
		o.here = here(o.addrs)
	}
	// Programs choose their ports from firstPort on; sslgate takes others.
	if err := s.lab.Sysctl(lab.Gateway, "net.ipv4.ip_local_port_range", "1024 19999"); err != nil {
		return err
	}
	return s.writeConfig()
}

// here are the gateway's addresses in place of those of the server, of which there may be
// several with one port.
func here(addrs []string) (all []string) {
	for _, addr := range addrs {
		at := netip.MustParseAddrPort(addr)
		if own := netip.AddrPortFrom(hereAddr(at.Addr().Is6()), at.Port()).String(); !slices.Contains(all, own) {
			all = append(all, own)
		}
	}
	return all
}

// ends says where the next connection to that address of the server begins, and its two addresses.
func (s *site) ends(server int, six bool) (from lab.NS, client, to netip.Addr) {
	switch {
	case !s.local:
		return lab.Client, lab.ClientAddr(six), lab.ServerAddr(server, six)
	case rand.IntN(2) == 0:
		return lab.Gateway, lab.GatewayAddr(six), lab.ServerAddr(0, six)
	}
	return lab.Client, lab.ClientAddr(six), hereAddr(six)
}
