// Package clientkey says what counts as one client for bounds by client.
package clientkey

import "net/netip"

// Of is the client that an address belongs to: an IPv4 address, or the /64 of an IPv6
// address, which is the smallest net that one host or subscriber gets (RFC 4291, section
// 2.5.1; RFC 6177). All invalid addresses are one client.
func Of(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
