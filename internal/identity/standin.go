package identity

import (
	"crypto/tls"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/reason"
)

// NewStandIn makes a source of certificates that are not there yet, where specimens are of the kind
// that they will be. Until Replace brings them the one of before stands in: it is shown to clients
// that ask for a name that it has, or for none. Others get an error with reason.IdentityEnded. nil:
// that one has another kind of key or other uses, so it cannot stand in.
func NewStandIn(specimen, before tls.Certificate) *File {
	leaf := handshake.LeafOf(&before)
	if leaf == nil {
		return nil
	}
	f := NewFile([]tls.Certificate{specimen}, nil).ForServers()
	k := kindOf(leaf)
	if is := f.kinds[0]; k.Key != is.Key || k.Server != is.Server {
		return nil
	}
	p := newPairs([]tls.Certificate{before}, nil)
	p.standIn = true
	f.now.Store(p)
	return f
}

// StandsIn says that the certificate of the moment has other names than those that are awaited.
func (f *File) StandsIn() bool { return f.now.Load().standIn }

// lacks is what a client is told whose name the certificate that stands in does not have; nil where
// it has it.
func (p *pairs) lacks(h *handshake.ClientHello) error {
	if !p.standIn || h == nil || !h.SNIPresent || h.SNIInvalid {
		return nil
	}
	if slices.ContainsFunc(p.certs, func(c tls.Certificate) bool {
		leaf := handshake.LeafOf(&c)
		return leaf != nil && leaf.VerifyHostname(h.ServerName) == nil
	}) {
		return nil
	}
	e := handshake.OurFault("there is no certificate for " + escape.Shown(h.ServerName, certname.MaxShown) + " yet")
	e.Reason = reason.IdentityEnded
	return e
}
