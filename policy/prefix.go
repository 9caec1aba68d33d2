package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Everything of one family.
var (
	anyIPv4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	anyIPv6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// endpoint is one destination of a rule: a prefix and a port.
type endpoint struct {
	prefix netip.Prefix
	port   uint16 // 0 is any port
}

// contains says whether a destination fits. addr is unmapped.
func (e endpoint) contains(addr netip.Addr, port uint16) bool {
	return (e.port == 0 || e.port == port) && e.prefix.Contains(addr)
}

// overlaps says whether some destination fits both.
func (e endpoint) overlaps(o endpoint) bool {
	return (e.port == 0 || o.port == 0 || e.port == o.port) && e.prefix.Overlaps(o.prefix)
}

// String is the endpoint in the form it is written.
func (e endpoint) String() string {
	port := "*"
	if e.port != 0 {
		port = strconv.Itoa(int(e.port))
	}
	return bracketed(e.prefix) + ":" + port
}

// bracketed writes a prefix as a `to` entry has it: "10.0.0.0/8", "10.0.0.1",
// "[fd00::]/32".
func bracketed(p netip.Prefix) string {
	s := p.Addr().String()
	if p.Addr().Is6() {
		s = "[" + s + "]"
	}
	if p.IsSingleIP() {
		return s
	}
	return s + "/" + strconv.Itoa(p.Bits())
}

// parsePrefix reads a CIDR prefix or an address. Host bits and IPv4-mapped
// forms are mistakes, and the error says the right form.
func parsePrefix(s string) (netip.Prefix, error) {
	return parsePrefixAs(s, func(p netip.Prefix) string {
		if p.IsSingleIP() {
			return p.Addr().String()
		}
		return p.String()
	})
}

// parsePrefixAs is parsePrefix with a way to write a prefix in an error.
func parsePrefixAs(s string, form func(netip.Prefix) string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, errors.New("this is no address or CIDR prefix")
		}
		switch {
		case a.Zone() != "":
			return netip.Prefix{}, errors.New("an address with a zone means something on one machine only; write it without")
		case a.Is4In6():
			return netip.Prefix{}, fmt.Errorf("write the IPv4 form: %q", form(single(a.Unmap())))
		}
		return single(a), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, errors.New("this is no CIDR prefix")
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, errors.New("the prefix begins inside the IPv4-mapped addresses; write IPv4 prefixes in their own form")
		}
		p4 := netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
		return netip.Prefix{}, fmt.Errorf("write the IPv4 form: %q", form(p4))
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, fmt.Errorf("bits are set behind the prefix length: write %q for the network, or %q for the host", form(m), form(single(p.Addr())))
	}
	return p, nil
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// parseEndpoints reads one entry of `to`: HOST:PORT, where HOST is "*", an
// IPv4 address or prefix, or an IPv6 address in brackets with an optional
// "/length" behind them, and PORT a number or "*". A "*" host is two
// endpoints, one a family.
func parseEndpoints(s string) ([]endpoint, error) {
	host, portText, err := splitEndpoint(s)
	if err != nil {
		return nil, err
	}
	port, err := parsePort(portText)
	if err != nil {
		return nil, err
	}
	if host == "*" {
		return []endpoint{{anyIPv4, port}, {anyIPv6, port}}, nil
	}
	plain := host
	if strings.HasPrefix(host, "[") {
		addr, length, ok := strings.Cut(host[1:], "]")
		if strings.Contains(addr, "/") {
			return nil, fmt.Errorf("the prefix length stands behind the bracket: %q", "["+strings.Replace(addr, "/", "]/", 1)+":"+portText)
		}
		if !ok || (length != "" && length[0] != '/') {
			return nil, errors.New(`this is no IPv6 destination: "[fd00::]/32:443" or "[fd00::1]:443"`)
		}
		plain = addr + length
		if !strings.Contains(addr, ":") {
			return nil, fmt.Errorf("brackets are for IPv6 addresses only: write %q", plain+":"+portText)
		}
	}
	prefix, err := parsePrefixAs(plain, func(p netip.Prefix) string { return endpoint{p, port}.String() })
	if err != nil {
		return nil, err
	}
	return []endpoint{{prefix, port}}, nil
}

// splitEndpoint cuts HOST:PORT at its last colon.
func splitEndpoint(s string) (host, port string, err error) {
	i := strings.LastIndexByte(s, ':')
	switch {
	case s == "":
		return "", "", errors.New("the entry is empty")
	case strings.Count(s, ":") > 1 && !strings.Contains(s, "["):
		return "", "", errors.New(`an IPv6 destination stands in brackets: "[fd00::]/32:443" or "[fd00::1]:443"`)
	case i < 0 || strings.HasSuffix(s, "]") || strings.LastIndexByte(s, ']') > i || strings.LastIndexByte(s, '/') > i:
		return "", "", fmt.Errorf("the port is missing: write %q, or %q for any port", s+":443", s+":*")
	case i == 0:
		return "", "", fmt.Errorf("the host is missing: write %q for any", "*"+s)
	}
	return s[:i], s[i+1:], nil
}

func parsePort(s string) (uint16, error) {
	if s == "*" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '0' || s[0] == '+' {
		return 0, fmt.Errorf(`the port is a number from 1 to 65535, or "*"; %q is neither`, s)
	}
	return uint16(n), nil
}

// coveredBy says whether every address of p lies in one of list or in their
// union: two halves cover the whole. Every step down needs a listed prefix
// inside p, so the walk has at most 128 steps a listed prefix.
func coveredBy(p netip.Prefix, list []netip.Prefix) bool {
	inside := false
	for _, q := range list {
		if !q.Overlaps(p) {
			continue
		}
		if q.Bits() <= p.Bits() {
			return true
		}
		inside = true
	}
	if !inside {
		return false
	}
	low, high := halves(p)
	return coveredBy(low, list) && coveredBy(high, list)
}

// halves splits a prefix that is no single address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits()
	low = netip.PrefixFrom(p.Addr(), bits+1)
	b := p.Addr().AsSlice()
	b[bits/8] |= 0x80 >> (bits % 8)
	addr, _ := netip.AddrFromSlice(b)
	return low, netip.PrefixFrom(addr, bits+1)
}
