package handshake

import (
	"slices"

	"github.com/sslgate/sslgate/internal/reason"
)

// needsAnswer reports whether a client that offers this protocol can use
// it only where it was negotiated: it ends a connection without an answer
// itself. All others (http/1.1, imap, xmpp-client, and those that are not known
// here) are spoken without an answer too.
func needsAnswer(protocol string) bool {
	switch protocol {
	case "h2", // RFC 9113
		"grpc-exp",   // h2 under the name that early gRPC clients put before it
		"acme-tls/1", // RFC 8737, section 3
		"ntske/1",    // RFC 8915
		"sunrpc",     // RFC 9289
		"postgresql", // direct TLS of PostgreSQL
		"radius/1.1": // RFC 9765
		return true
	}
	return false
}

// greaseProtocol says whether a protocol is a GREASE value (RFC 8701, section
// 2): two equal bytes 0x0a, 0x1a, ... 0xfa.
func greaseProtocol(p string) bool {
	return len(p) == 2 && p[0] == p[1] && p[0]&0x0f == 0x0a
}

// OnlyNegotiated says whether the client offers protocols that all need an
// answer: without one it ends the connection itself, and nobody knows why.
func (h *ClientHello) OnlyNegotiated() bool {
	some := false
	for _, p := range h.ALPN {
		switch {
		case greaseProtocol(p):
		case needsAnswer(p):
			some = true
		default:
			return false
		}
	}
	return some
}

// RefusesProtocols says why a client's ALPN offer cannot be answered: it has
// nothing in common with ours (RFC 7301, section 3.2), or it has nothing but
// protocols that need an answer, and none is given. nil if it can. A client that
// offers nothing is never refused.
func (p *ServerParams) RefusesProtocols(h *ClientHello) *Error {
	switch {
	case len(h.ALPN) == 0, p.AnyProtocol:
	case len(p.ALPN) > 0:
		if !p.Shares(h) {
			return refusef(reason.NoALPN, "the client offers %s, and the rule answers %s", h.protocols(), shortProtocols(p.ALPN))
		}
	case p.AnswersNone && h.OnlyNegotiated():
		return NoAnswer(h, "the rule answers none")
	}
	return nil
}

// NoAnswer refuses a client whose protocols all need an answer. why says who
// gives none.
func NoAnswer(h *ClientHello, why string) *Error {
	return refusef(reason.NoALPN, "the client offers %s alone, which needs an answer, and %s", h.protocols(), why)
}

// Shares says whether the client offers one of our protocols.
func (p *ServerParams) Shares(h *ClientHello) bool {
	return slices.ContainsFunc(h.ALPN, func(a string) bool { return slices.Contains(p.ALPN, a) })
}
