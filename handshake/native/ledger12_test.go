package native

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Both engines write the same ledger of the same handshake of TLS 1.2, but for its order:
// crypto/tls asks about a client before the client is proven.
func TestLedgerAsTheOther12(t *testing.T) {
	stranger := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{Key: testpki.P521})).Issue(testpki.Leaf{Key: testpki.P521})).TLS()
	for name, c := range map[string]struct {
		plan   func(*handshake.ServerParams)
		client []tls.Certificate
		change func(*tls.Config)
	}{
		"required":           {func(*handshake.ServerParams) {}, []tls.Certificate{alice()}, nil},
		"not asked":          {func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }, nil, nil},
		"optional, none":     {func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional }, nil, nil},
		"optional, shown":    {func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional }, []tls.Certificate{alice()}, nil},
		"required, none":     {func(*handshake.ServerParams) {}, nil, nil},
		"unknown CA":         {func(p *handshake.ServerParams) { p.Authorities = nil }, []tls.Certificate{alice()}, nil},
		"a stranger's P-521": {func(*handshake.ServerParams) {}, []tls.Certificate{stranger}, nil},
		"observed, none":     {func(p *handshake.ServerParams) { p.Observe = true }, nil, nil},
		"observed, unknown":  {func(p *handshake.ServerParams) { p.Observe, p.Authorities = true, nil }, []tls.Certificate{alice()}, nil},
		"the steps alone":    {func(p *handshake.ServerParams) { p.Ledger = handshake.LedgerSteps }, []tls.Certificate{alice()}, nil},
		"no group in common": {func(*handshake.ServerParams) {}, nil, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }},
		"no suite in common": {func(p *handshake.ServerParams) { p.Profile.Suites12 = p.Profile.Suites12[:1] }, nil, func(c *tls.Config) {
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
		}},
		"no suite of the key":      {func(*handshake.ServerParams) {}, nil, func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} }},
		"no protocol in common":    {func(p *handshake.ServerParams) { p.ALPN = []string{"only"} }, nil, nil},
		"a protocol":               {func(p *handshake.ServerParams) { p.ALPN = []string{"h2"} }, []tls.Certificate{alice()}, nil},
		"a ticket":                 {func(p *handshake.ServerParams) { p.Ticket = ticketed12().Ticket }, []tls.Certificate{alice()}, nil},
		"a client that refuses us": {func(*handshake.ServerParams) {}, nil, func(c *tls.Config) { c.ServerName = "other.test" }},
		"a staple":                 {func(p *handshake.ServerParams) { p.Certificates[0].OCSPStaple = []byte("staple") }, []tls.Certificate{alice()}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[bool]outcome{}
			for _, native := range []bool{false, true} {
				p := params12(func(p *handshake.ServerParams) { p.Certificates = slices.Clone(p.Certificates) }, c.plan)
				p.Profile.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)}
				r := newRig(p)
				if !native {
					r.engine = stdtls.New()
				}
				config := config12(c.client...)
				config.NextProtos = []string{"h2"}
				if c.change != nil {
					c.change(config)
				}
				got[native], _, _ = r.withGo(t, config)
			}
			std, own := got[false], got[true]
			want, have := lines12(std), lines12(own)
			if d := cmp.Diff(want, have); d != "" {
				t.Errorf("the ledgers differ (- the other engine's):\n%s", d)
			}
			if (std.err == nil) != (own.err == nil) || std.err != nil && (std.err.Step != own.err.Step || std.err.Reason != own.err.Reason || std.err.Side != own.err.Side || std.err.Wanted != own.err.Wanted || std.err.Detail != own.err.Detail) {
				t.Errorf("refused with %+v, the other engine with %+v", own.err, std.err)
			}
			refused := own.err != nil && own.err.Step == handshake.StepClientVerified // crypto/tls has read one message more
			if std.l.Reached() != own.l.Reached() && !refused {
				t.Errorf("reached %v, the other engine %v", own.l.Reached(), std.l.Reached())
			}
			// Of a client that is refused the other engine has read one message more.
			if d := own.l.Spent() - std.l.Spent(); own.err == nil && (d < -2 || d > 2) {
				t.Errorf("spent %d, the other engine %d", own.l.Spent(), std.l.Spent())
			}
		})
	}
}

// lines12 are lines without what differs by design: their order, the lists of the
// CertificateRequest, the length of signatures, and a message that crypto/tls reads before
// it refuses a client.
func lines12(o outcome) []string {
	var out []string
	for _, line := range lines(o.l) {
		switch {
		case strings.HasPrefix(line, "2 us ServerKeyExchange"):
			line = line[strings.Index(line, `"`):]
		case strings.HasPrefix(line, "4 peer") && o.err != nil:
			continue
		}
		line = strings.ReplaceAll(line, "10 signature algorithms", "1 signature algorithm")
		out = append(out, strings.ReplaceAll(line, "2 certificate types", "1 certificate type"))
	}
	slices.Sort(out)
	return out
}

// The messages come in the order of RFC 5246, and the client is judged when it is proven:
// behind its Finished, and before anything of ours.
func TestLedgerOrder12(t *testing.T) {
	o, _, err := newRig(ticketed12()).withGo(t, cached(alice()))
	if err != nil || o.err != nil {
		t.Fatal(err, o.err)
	}
	var got []string
	for _, e := range o.l.Entries() {
		if e.Message != "" {
			got = append(got, e.Message)
		} else if e.Step == handshake.StepClientVerified {
			got = append(got, strings.SplitN(e.Facts, ":", 2)[0])
		}
	}
	want := []string{
		"ClientHello", "ServerHello", "Certificate", "ServerKeyExchange", "CertificateRequest", "ServerHelloDone",
		"Certificate", "chain verified", "ClientKeyExchange", "CertificateVerify", "ChangeCipherSpec", "Finished",
		"possession of the key proven", "NewSessionTicket", "ChangeCipherSpec", "Finished",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
