package handshake

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/reason"
)

// What a client offers, what we answer, and whether that is a refusal: none in
// common is (RFC 7301, section 3.2), and so is no answer to one that needs it.
func TestRefusesProtocols(t *testing.T) {
	for _, c := range []struct {
		offer, answer []string
		asked         bool // somebody else still answers
		refused       bool
	}{
		{[]string{"h2"}, nil, false, true},
		{[]string{"acme-tls/1"}, nil, false, true},
		{[]string{"grpc-exp", "h2"}, nil, false, true},
		{[]string{"\x1a\x1a", "h2", "\xfa\xfa"}, nil, false, true}, // GREASE, RFC 8701
		{[]string{"h2"}, nil, true, false},
		{[]string{"h2"}, []string{"h2"}, false, false},
		{[]string{"h2"}, []string{"http/1.1"}, false, true},
		{[]string{"http/1.1"}, []string{"h2"}, false, true},
		{[]string{"mqtt", "http/1.1"}, []string{"h2", "http/1.1"}, false, false},
		{[]string{"h2", "http/1.1"}, nil, false, false},
		{[]string{"http/1.1"}, nil, false, false},
		{[]string{"mqtt"}, nil, false, false},
		{[]string{"h2", "corp/1"}, nil, false, false},
		{[]string{"\x0a\x0a"}, nil, false, false},
		{[]string{"h2\x00"}, nil, false, false},
		{nil, nil, false, false},
		{nil, []string{"h2"}, false, false},
	} {
		p := &ServerParams{Params: Params{ALPN: c.answer}, AnswersNone: !c.asked && c.answer == nil}
		h := &ClientHello{ALPN: c.offer}
		e := p.RefusesProtocols(h)
		if got := e != nil && e.Reason == reason.NoALPN && e.Wanted == AlertNoApplicationProtocol; got != c.refused || (e != nil) != c.refused {
			t.Errorf("offers %q, answer %q, asked %v: %v", c.offer, c.answer, c.asked, e)
		}
		answers := "the rule answers " + strings.Join(append([]string{}, c.answer...), " ")
		if c.answer == nil {
			answers += "none"
		}
		if e != nil && (!strings.Contains(e.Detail, "the client offers "+h.protocols()) || !strings.HasSuffix(e.Detail, answers)) {
			t.Errorf("offers %q, answer %q: the detail is %q", c.offer, c.answer, e.Detail)
		}
		if p.AnyProtocol = true; p.RefusesProtocols(h) != nil {
			t.Errorf("offers %q, answer %q: refused where any will do", c.offer, c.answer)
		}
	}
}

// The same on the wire: alert 120 before anything else, or a handshake without a
// protocol.
func TestServerAnswersNone(t *testing.T) {
	for _, c := range []struct {
		offer   []string
		change  func(*ServerParams)
		refused bool
	}{
		{[]string{"h2"}, func(p *ServerParams) { p.AnswersNone = true }, true},
		{[]string{"h2", "http/1.1"}, func(p *ServerParams) { p.AnswersNone = true }, false},
		{[]string{"h2"}, func(*ServerParams) {}, false},
		{[]string{"acme-tls/1"}, func(p *ServerParams) { p.ALPN, p.AnyProtocol = []string{"h2"}, true }, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := clientConfig(version)
			config.NextProtos = slices.Clone(c.offer)
			o, cs, err := withGo(t, serverParams(func(p *ServerParams) { p.ClientAuth = ClientAuthNone }, c.change), config)
			if c.refused {
				if e := AsError(o.err); o.err == nil || err == nil || e.Reason != reason.NoALPN || e.Step != StepClientHello {
					t.Errorf("%s, %q: client %v, server %v", VersionName(version), c.offer, err, o.err)
				}
				continue
			}
			if err != nil || o.err != nil || cs.NegotiatedProtocol != "" {
				t.Errorf("%s, %q: %q, client %v, server %v", VersionName(version), c.offer, cs.NegotiatedProtocol, err, o.err)
			}
		}
	}
}

// A ticket carries no protocol: each handshake is answered by the list of now.
func TestResumptionHasTheAnswerOfNow(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r := newResumer(version, nil)
		r.config.NextProtos = []string{"h2", "http/1.1"}
		keys := NewTicketKeys(0)
		for i, answer := range []string{"h2", "http/1.1", "", "h2"} {
			p := ticketParams(keys, func(p *ServerParams) {
				p.ClientAuth = ClientAuthNone
				if p.AnswersNone = answer == ""; answer != "" {
					p.ALPN = []string{answer}
				}
			})
			o, cs, err := r.connect(t, p, nil)
			if err != nil || o.err != nil {
				t.Fatalf("%s, %q: client %v, server %v", VersionName(version), answer, err, o.err)
			}
			if cs.NegotiatedProtocol != answer || o.s.ALPN != answer {
				t.Errorf("%s, answer %q (resumed %v): the client has %q, the record %q", VersionName(version), answer, cs.DidResume, cs.NegotiatedProtocol, o.s.ALPN)
			}
			if i > 0 && !cs.DidResume {
				t.Errorf("%s, answer %q: not resumed", VersionName(version), answer)
			}
		}
		r.config.NextProtos = []string{"h2"}
		if o, _, err := r.connect(t, ticketParams(keys, func(p *ServerParams) { p.ClientAuth, p.AnswersNone = ClientAuthNone, true }), nil); err == nil || AsError(o.err).Reason != reason.NoALPN {
			t.Errorf("%s: h2 alone with a ticket: client %v, server %v", VersionName(version), err, o.err)
		}
	}
}
