package policy

import (
	"errors"
	"net/netip"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/policy/pattern"
)

// NamesDestination says whether the rule names the flow's destination address
// exactly, as a host and not as part of a network, which lifts the ban on the
// gateway's own and other special addresses.
func (p *Plan) NamesDestination(f Facts) bool {
	dst, ok := unmap(f.Dst)
	if p == nil || p.rule == nil || !ok {
		return false
	}
	for e := range p.rule.to.all() {
		if e.prefix.IsSingleIP() && e.contains(dst.Addr(), dst.Port()) {
			return true
		}
	}
	return false
}

// Dials is the address that is dialled for the flow.
func (p *Plan) Dials(dst netip.AddrPort) netip.AddrPort {
	if p.Port == 0 {
		return netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	}
	return netip.AddrPortFrom(dst.Addr().Unmap(), p.Port)
}

// Destination is the plan of the handshake with the destination: a copy of
// the caller's own, with ServerName and VerifyName filled in. It is nil,
// without an error, where the rule wants no TLS there; an error means that
// the flow must end.
//
// ServerName is the client's SNI; where it sent none, destination.name if
// that is a DNS name. VerifyName is destination.name, else the client's SNI,
// else the address. ALPN is what the rule answers: the caller narrows it to what
// the client's leg agreed on.
func (p *Plan) Destination(f Facts) (*handshake.ClientParams, error) {
	if p == nil || p.rule == nil || !p.rule.action.Lets() {
		return nil, errors.New("no rule lets this flow through")
	}
	if p.Mode == TLSPlain {
		return nil, nil
	}
	name, err := p.verifyName(f)
	if err != nil {
		return nil, err
	}
	params := *p.dest
	params.Authorities = p.rule.destTrusted.current().authorities()
	if p.destOwn.Source != nil {
		params.Certificates = p.destOwn.Certificates() // those of now
	}
	params.VerifyName = name
	params.ServerName = sniOf(f.Hello)
	if params.ServerName == "" && !pattern.IsAddr(name) {
		params.ServerName = name
	}
	return &params, nil
}

// verifyName is the name that the destination's certificate must be for.
func (p *Plan) verifyName(f Facts) (string, error) {
	if p.Mode == TLSPlain || p.dest == nil {
		return "", errors.New("the rule has no TLS with the destination")
	}
	if p.rule.destName != "" {
		return p.rule.destName, nil
	}
	if name := sniOf(f.Hello); name != "" {
		return name, nil
	}
	dst, ok := unmap(f.Dst)
	if !ok {
		return "", errors.New("the flow has no destination address")
	}
	return dst.Addr().String(), nil
}
