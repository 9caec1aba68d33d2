package handshake

import (
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
