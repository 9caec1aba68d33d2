package native

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// lines are the entries of a ledger without their times. What differs by design is left
// out: the size of messages of ours whose extensions are others, and the length of
// signatures.
func lines(l *handshake.Ledger) []string {
	var out []string
	for _, e := range l.Entries() {
		size := e.Size
		if slices.Contains([]string{"EncryptedExtensions", handshake.MsgCertificateRequest, handshake.MsgCertificateVerify}, e.Message) {
			size = 0
		}
		out = append(out, fmt.Sprintf("%d %s %s %d %s %q %v", e.Step, e.From, e.Message, size, e.Alert, e.Facts, e.CANames))
	}
	return out
}

// Both engines write the same ledger of the same handshake.
func TestLedgerAsTheOther(t *testing.T) {
	stranger := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{Key: testpki.P521})).Issue(testpki.Leaf{Key: testpki.P521})).TLS()
	for name, c := range map[string]struct {
		plan   func(*handshake.ServerParams)
		client []tls.Certificate
		groups []tls.CurveID
	}{
		"required":            {func(*handshake.ServerParams) {}, []tls.Certificate{alice()}, nil},
		"HelloRetryRequest":   {func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.CurveP384)} }, []tls.Certificate{alice()}, nil},
		"not asked":           {func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }, nil, nil},
		"optional, none":      {func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional }, nil, nil},
		"optional, shown":     {func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional }, []tls.Certificate{alice()}, nil},
		"required, none":      {func(*handshake.ServerParams) {}, nil, nil},
		"unknown CA":          {func(p *handshake.ServerParams) { p.Authorities = nil }, []tls.Certificate{alice()}, nil},
		"a stranger's P-521":  {func(*handshake.ServerParams) {}, []tls.Certificate{stranger}, nil},
		"observed, none":      {func(p *handshake.ServerParams) { p.Observe = true }, nil, nil},
		"observed, unknown":   {func(p *handshake.ServerParams) { p.Observe, p.Authorities = true, nil }, []tls.Certificate{alice()}, nil},
		"the steps alone":     {func(p *handshake.ServerParams) { p.Ledger = handshake.LedgerSteps }, []tls.Certificate{alice()}, nil},
		"no group in common":  {func(*handshake.ServerParams) {}, nil, []tls.CurveID{tls.CurveP521}},
		"no suite, scheme...": {func(p *handshake.ServerParams) { p.ALPN = []string{"only"} }, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[bool]outcome{}
			for _, native := range []bool{false, true} {
				// Not the list: they differ in the number of their signature algorithms.
				p := params(c.plan, func(p *handshake.ServerParams) { p.Profile.Suites13 = nil })
				p.Profile.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)}
				r := newRig(p)
				if !native {
					r.engine = stdtls.New()
				}
				config := clientConfig(c.client...)
				config.NextProtos, config.CurvePreferences = []string{"h2"}, c.groups
				got[native], _, _ = r.withGo(t, config)
			}
			std, own := got[false], got[true]
			want, have := lines(std.l), lines(own.l)
			for _, list := range [][]string{want, have} {
				for i := range list {
					list[i] = strings.ReplaceAll(list[i], "10 signature algorithms", "1 signature algorithm")
				}
			}
			if d := cmp.Diff(want, have); d != "" {
				t.Errorf("the ledgers differ (- the other engine's):\n%s", d)
			}
			if (std.err == nil) != (own.err == nil) || std.err != nil && (std.err.Step != own.err.Step || std.err.Reason != own.err.Reason || std.err.Side != own.err.Side || std.err.Wanted != own.err.Wanted || std.err.Detail != own.err.Detail) {
				t.Errorf("refused with %+v, the other engine with %+v", own.err, std.err)
			}
			if std.l.Reached() != own.l.Reached() {
				t.Errorf("reached %v, the other engine %v", own.l.Reached(), std.l.Reached())
			}
			if d := own.l.Spent() - std.l.Spent(); d < -2 || d > 2 {
				t.Errorf("spent %d, the other engine %d", own.l.Spent(), std.l.Spent())
			}
		})
	}
}
