package native

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// answered is what an engine answers to a hello.
func answered(t *testing.T, engine handshake.Engine, p *handshake.ServerParams, hello func(c *rawClient12) *handshaketest.Hello) string {
	t.Helper()
	out := ""
	o := (&rig{engine: engine, plan: p}).with(t, func(conn *net.TCPConn) {
		c := newRaw12(t, conn)
		h := hello(c)
		parsed, err := handshake.ParseClientHello(h.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if e := engine.Refuses(p, parsed); e != nil {
			out = fmt.Sprintf("refused: %s, alert %s", e.Reason, e.Wanted)
			return
		}
		c.sendHello(h)
		msg, err := c.inbox.next(1 << 17)
		if err != nil { // crypto/tls refuses some hellos by itself
			out = fmt.Sprintf("an end: %v", err)
			return
		}
		c.inbox.part = slices.Concat(msg, c.inbox.part)
		c.readFlight()
		s := c.server
		out = fmt.Sprintf("%s %s %s, ALPN %q, EMS %v, renegotiation_info %v, points %v, SNI %v, session ID %d, downgraded %v",
			handshake.SuiteName(s.Suite), handshake.GroupName(c.exchange.Group), handshake.SchemeName(c.exchange.Scheme), s.ALPN, s.ExtendedMasterSecret,
			s.SecureRenegotiation, s.PointFormats, s.ServerName, len(s.SessionID), strings.HasSuffix(string(s.Random[:]), downgraded))
		if c.request != nil {
			out += fmt.Sprintf(", names %x", c.request.Authorities)
		}
	})
	if strings.HasPrefix(out, "an end") {
		return fmt.Sprintf("refused: %s, alert %s", o.err.Reason, o.err.Wanted)
	}
	return out
}

// Both engines make the same choice of the same hello and plan, or refuse it alike.
func TestDifferential12(t *testing.T) {
	const x25519, p256, p384, p521 = uint16(tls.X25519), uint16(tls.CurveP256), uint16(tls.CurveP384), uint16(tls.CurveP521)
	all := keys.Suites12()
	back := slices.Clone(all)
	slices.Reverse(back)
	std, own := handshake.Engine(stdtls.New()), handshake.Engine(New(stdtls.New()))
	ecdsa, rsa, ed := issued(t, testpki.P256, "gateway"), issued(t, testpki.RSA2048, "gateway"), issued(t, testpki.Ed25519, "gateway")
	p384Key := issued(t, testpki.P384, "gateway")
	certs := map[string][]tls.Certificate{"P-256": {ecdsa}, "RSA": {rsa}, "Ed25519": {ed}, "P-384": {p384Key}, "RSA, P-256": {rsa, ecdsa}, "P-384, RSA": {p384Key, rsa}}
	suites := map[string][]uint16{
		"all": all, "back": back, "RSA": {all[1], all[3], all[5]}, "ChaCha20": {all[4], all[5]}, "one": {all[2]},
		"with RSA key transport": {tls.TLS_RSA_WITH_AES_128_GCM_SHA256, all[0], all[1]},
	}
	differ := 0
	for _, order := range []handshake.Order{handshake.OrderFast, handshake.OrderServer, handshake.OrderClient} {
		for ofCerts, shown := range certs {
			for ofPlan, ours := range suites {
				if ofPlan == "with RSA key transport" { // the other engine would do it
					continue
				}
				for ofHello, theirs := range suites {
					p := params12(func(p *handshake.ServerParams) {
						p.Profile.Order, p.Certificates, p.Profile.Suites12 = order, shown, ours
						p.Profile.Groups, p.ALPN = []uint16{p384, x25519, p256}, []string{"h2", "http/1.1"}
					})
					hello := func(c *rawClient12) *handshaketest.Hello {
						h := c.hi().With(handshake.ExtSupportedGroups, handshaketest.List16(p521, x25519, p256, p384)).
							With(handshake.ExtSignatureAlgorithms, handshaketest.List16(0x0804, 0x0401, 0x0503, 0x0403, 0x0807)).
							With(handshake.ExtPointFormats, []byte{1, 0})
						h.Suites = theirs
						return h
					}
					a, b := answered(t, std, p, hello), answered(t, own, p, hello)
					if a != b {
						if differ++; differ < 10 {
							t.Errorf("%s, %s, plan %s, hello %s:\n%s\n%s", order, ofCerts, ofPlan, ofHello, a, b)
						}
					}
				}
			}
		}
	}
	// Other hellos and plans, one thing at a time.
	for name, c := range map[string]struct {
		plan  func(*handshake.ServerParams)
		hello func(*handshaketest.Hello)
	}{
		"no extended_master_secret": {nil, func(h *handshaketest.Hello) { h.Without(handshake.ExtExtendedMasterSecret) }},
		"it is required":            {func(p *handshake.ServerParams) { p.Profile.RequireEMS = true }, func(h *handshaketest.Hello) { h.Without(handshake.ExtExtendedMasterSecret) }},
		"renegotiation_info":        {nil, func(h *handshaketest.Hello) { h.With(handshake.ExtRenegotiationInfo, []byte{0}) }},
		"the SCSV for it":           {nil, func(h *handshaketest.Hello) { h.Suites = append(h.Suites, 0x00ff) }},
		"a fallback":                {func(p *handshake.ServerParams) { p.Profile.MaxVersion = tls.VersionTLS13 }, func(h *handshaketest.Hello) { h.Suites = append(h.Suites, tls.TLS_FALLBACK_SCSV) }},
		"none":                      {nil, func(h *handshaketest.Hello) { h.Suites = append(h.Suites, tls.TLS_FALLBACK_SCSV) }},
		"TLS 1.3 is there":          {func(p *handshake.ServerParams) { p.Profile.MaxVersion = tls.VersionTLS13 }, nil},
		"a client of 1.3": {nil, func(h *handshaketest.Hello) {
			h.With(handshake.ExtSupportedVersions, []byte{4, 3, 4, 3, 3}).With(handshake.ExtKeyShare, handshaketest.KeyShares(x25519))
			h.SID = make([]byte, 32)
		}},
		"no group in common": {nil, func(h *handshaketest.Hello) { h.With(handshake.ExtSupportedGroups, handshaketest.List16(p521)) }},
		"no groups":          {nil, func(h *handshaketest.Hello) { h.Without(handshake.ExtSupportedGroups) }},
		"hybrids alone": {nil, func(h *handshaketest.Hello) {
			h.With(handshake.ExtSupportedGroups, handshaketest.List16(uint16(tls.X25519MLKEM768)))
		}},
		"not our key's curve": {nil, func(h *handshaketest.Hello) { h.With(handshake.ExtSupportedGroups, handshaketest.List16(x25519)) }},
		"no scheme in common": {nil, func(h *handshaketest.Hello) { h.With(handshake.ExtSignatureAlgorithms, handshaketest.List16(0x0807)) }},
		"no scheme of ours":   {func(p *handshake.ServerParams) { p.Profile.Signatures = []uint16{0x0804} }, nil},
		"one of ours": {func(p *handshake.ServerParams) {
			p.Profile.Signatures = []uint16{0x0503, 0x0403}
		}, func(h *handshaketest.Hello) {
			h.With(handshake.ExtSignatureAlgorithms, handshaketest.List16(0x0403, 0x0503))
		}},
		"a protocol":      {func(p *handshake.ServerParams) { p.ALPN = []string{"h2"} }, func(h *handshaketest.Hello) { h.With(handshake.ExtALPN, handshaketest.Prefixed(2, 'h', '2')) }},
		"another one":     {func(p *handshake.ServerParams) { p.ALPN = []string{"h2"} }, func(h *handshaketest.Hello) { h.With(handshake.ExtALPN, handshaketest.Prefixed(1, 'x')) }},
		"any protocol":    {func(p *handshake.ServerParams) { p.ALPN, p.AnyProtocol = []string{"h2"}, true }, func(h *handshaketest.Hello) { h.With(handshake.ExtALPN, handshaketest.Prefixed(1, 'x')) }},
		"no name":         {nil, func(h *handshaketest.Hello) { h.Without(handshake.ExtServerName) }},
		"no CAs":          {func(p *handshake.ServerParams) { p.AcceptableCAs = [][]byte{} }, nil},
		"nobody is asked": {func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }, nil},
		"GREASE": {nil, func(h *handshaketest.Hello) {
			h.Suites = append([]uint16{0x0a0a}, h.Suites...)
			h.With(0x1a1a, []byte{0})
		}},
		"TLS 1.1": {nil, func(h *handshaketest.Hello) { h.Legacy = tls.VersionTLS11 }},
	} {
		p := params12()
		if c.plan != nil {
			c.plan(p)
		}
		hello := func(raw *rawClient12) *handshaketest.Hello {
			h := raw.hi()
			if c.hello != nil {
				c.hello(h)
			}
			return h
		}
		t.Run(name, func(t *testing.T) {
			if a, b := answered(t, std, p, hello), answered(t, own, p, hello); a != b {
				t.Errorf("\n%s\n%s", a, b)
			}
		})
	}
}
