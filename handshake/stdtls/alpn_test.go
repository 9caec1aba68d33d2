package stdtls

import (
	"crypto/tls"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// The same on the wire: alert 120 before anything else, or a handshake without a
// protocol.
func TestServerAnswersNone(t *testing.T) {
	for _, c := range []struct {
		offer   []string
		change  func(*handshake.ServerParams)
		refused bool
	}{
		{[]string{"h2"}, func(p *handshake.ServerParams) { p.AnswersNone = true }, true},
		{[]string{"h2", "http/1.1"}, func(p *handshake.ServerParams) { p.AnswersNone = true }, false},
		{[]string{"h2"}, func(*handshake.ServerParams) {}, false},
		{[]string{"acme-tls/1"}, func(p *handshake.ServerParams) { p.ALPN, p.AnyProtocol = []string{"h2"}, true }, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := clientConfig(version)
			config.NextProtos = slices.Clone(c.offer)
			o, cs, err := withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }, c.change), config)
			if c.refused {
				if e := handshake.AsError(o.err); o.err == nil || err == nil || e.Reason != reason.NoALPN || e.Step != handshake.StepClientHello {
					t.Errorf("%s, %q: client %v, server %v", handshake.VersionName(version), c.offer, err, o.err)
				}
				continue
			}
			if err != nil || o.err != nil || cs.NegotiatedProtocol != "" {
				t.Errorf("%s, %q: %q, client %v, server %v", handshake.VersionName(version), c.offer, cs.NegotiatedProtocol, err, o.err)
			}
		}
	}
}

// A ticket carries no protocol: each handshake is answered by the list of now.
func TestResumptionHasTheAnswerOfNow(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r := newResumer(version, nil)
		r.config.NextProtos = []string{"h2", "http/1.1"}
		keys := ticket.NewKeys(0)
		for i, answer := range []string{"h2", "http/1.1", "", "h2"} {
			p := ticketParams(keys, func(p *handshake.ServerParams) {
				p.ClientAuth = handshake.ClientAuthNone
				if p.AnswersNone = answer == ""; answer != "" {
					p.ALPN = []string{answer}
				}
			})
			o, cs, err := r.connect(t, p, nil)
			if err != nil || o.err != nil {
				t.Fatalf("%s, %q: client %v, server %v", handshake.VersionName(version), answer, err, o.err)
			}
			if cs.NegotiatedProtocol != answer || o.s.ALPN != answer {
				t.Errorf("%s, answer %q (resumed %v): the client has %q, the record %q", handshake.VersionName(version), answer, cs.DidResume, cs.NegotiatedProtocol, o.s.ALPN)
			}
			if i > 0 && !cs.DidResume {
				t.Errorf("%s, answer %q: not resumed", handshake.VersionName(version), answer)
			}
		}
		r.config.NextProtos = []string{"h2"}
		if o, _, err := r.connect(t, ticketParams(keys, func(p *handshake.ServerParams) { p.ClientAuth, p.AnswersNone = handshake.ClientAuthNone, true }), nil); err == nil || handshake.AsError(o.err).Reason != reason.NoALPN {
			t.Errorf("%s: h2 alone with a ticket: client %v, server %v", handshake.VersionName(version), err, o.err)
		}
	}
}
