package policy

import (
	"net/netip"
	"slices"

	"github.com/sslgate/sslgate/handshake"
)

// rule is one compiled rule. Nothing changes it after Compile.
type rule struct {
	name   string
	action Action

	// Selectors; an empty list fits everything, but to, which fits nothing.
	from []netip.Prefix
	to   []endpoint
	sni  []hostPattern
	alpn []string

	// Demands of action terminate.
	auth        handshake.ClientAuth
	authorities []authority // of the client's certificate
	allow       []alternative
	destName    string // destination.name, "" where it follows the flow
	destination []authority

	plan Plan
}

// authority is an authority as a rule uses it; permits is nil for any name.
type authority struct {
	*handshake.Authority
	permits *permits
}

// selector names the part of a rule that a flow did not fit.
type selector uint8

const (
	selNone        selector = iota // every selector fits
	selHello                       // the addresses fit; the rest needs a client hello
	selSource                      // from
	selDestination                 // to
	selSNI                         // sni
	selALPN                        // alpn
)

// match holds a rule against a flow and returns the first selector that does
// not fit. It is the one place where a selector is judged, whoever asks.
// hello is nil while there is none. The addresses are unmapped.
func (r *rule) match(src, dst netip.AddrPort, hello *handshake.ClientHello) selector {
	switch {
	case !r.fitsSource(src.Addr()):
		return selSource
	case !r.fitsDestination(dst):
		return selDestination
	case !r.needsHello():
		return selNone
	case hello == nil:
		return selHello
	case !r.fitsSNI(hello):
		return selSNI
	case !r.fitsALPN(hello):
		return selALPN
	}
	return selNone
}

func (r *rule) needsHello() bool { return len(r.sni) > 0 || len(r.alpn) > 0 }

func (r *rule) fitsSource(a netip.Addr) bool {
	if len(r.from) == 0 {
		return true
	}
	for _, p := range r.from {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func (r *rule) fitsDestination(dst netip.AddrPort) bool {
	for _, e := range r.to {
		if e.contains(dst.Addr(), dst.Port()) {
			return true
		}
	}
	return false
}

// fitsSNI: a name that is no host name fits no pattern.
func (r *rule) fitsSNI(h *handshake.ClientHello) bool {
	if len(r.sni) == 0 {
		return true
	}
	name := sniOf(h)
	if name == "" {
		return false
	}
	for _, p := range r.sni {
		if p.matches(name) {
			return true
		}
	}
	return false
}

// fitsALPN: one protocol offered is enough.
func (r *rule) fitsALPN(h *handshake.ClientHello) bool {
	if len(r.alpn) == 0 {
		return true
	}
	for _, offered := range h.ALPN {
		if slices.Contains(r.alpn, offered) {
			return true
		}
	}
	return false
}

// sniOf is the one reading of a hello's server name: "" where it is absent or
// no host name. Under ECH it is the outer name.
func sniOf(h *handshake.ClientHello) string {
	if h == nil || !h.SNIPresent || h.SNIInvalid {
		return ""
	}
	return h.ServerName
}

// unmap turns IPv4-mapped IPv6 addresses into IPv4 ones. It fails for an
// invalid address and for one with a zone: no prefix can mean it.
func unmap(a netip.AddrPort) (netip.AddrPort, bool) {
	addr := a.Addr().Unmap()
	return netip.AddrPortFrom(addr, a.Port()), addr.IsValid() && addr.Zone() == ""
}
