package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// A chain counts as verified under the same demands only, and not beyond its
// end. A hit is told by the very same Chain.
func TestChainCache(t *testing.T) {
	f := fixtures()
	now := time.Now()
	at := func(d time.Duration) func(*ServerParams) {
		return func(p *ServerParams) { p.Now = func() time.Time { return now.Add(d) } }
	}
	short := testpki.Must(f.ca.Issue(testpki.Leaf{NotAfter: now.Add(time.Minute)}))
	client, server := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	for name, tt := range map[string]struct {
		cert   *testpki.Cert
		change func(*ServerParams)
		usage  x509.ExtKeyUsage
		hit    bool
		want   reason.Code
	}{
		"same":          {f.client, at(0), client, true, ""},
		"a little on":   {f.client, at(4 * time.Minute), client, true, ""},
		"too old":       {f.client, at(6 * time.Minute), client, false, ""},
		"clock back":    {f.client, at(-time.Second), client, false, ""},
		"epoch":         {f.client, func(p *ServerParams) { p.Epoch = 7 }, client, false, ""},
		"usage":         {f.client, at(0), server, false, ""},
		"other CA":      {f.client, func(p *ServerParams) { p.Authorities = []*Authority{authority("staff", f.other)} }, client, false, reason.UnknownCA},
		"none":          {f.client, func(p *ServerParams) { p.Authorities = nil }, client, false, reason.UnknownCA},
		"curves":        {f.client, func(p *ServerParams) { p.Profile.Curves = []uint16{uint16(tls.CurveP384)} }, client, false, reason.WeakKey},
		"bounds":        {f.client, func(p *ServerParams) { p.MaxChainBytes = 10 }, client, false, reason.ChainTooLong},
		"before end":    {short, at(50 * time.Second), client, true, ""},
		"after the end": {short, at(70 * time.Second), client, false, reason.Expired},
	} {
		var c ChainCache
		first, _, e := c.Verify(tt.cert.Chain, client, &serverParams(at(0)).Params)
		if e != nil {
			t.Fatal(e)
		}
		got, _, e := c.Verify(tt.cert.Chain, tt.usage, &serverParams(at(0), tt.change).Params)
		if tt.want != "" {
			if e == nil || e.Reason != tt.want && tt.usage == client {
				t.Errorf("%s: %v", name, e)
			}
			continue
		}
		if e != nil {
			t.Errorf("%s: %v", name, e)
			continue
		}
		if hit := &got.Chain[0] == &first.Chain[0]; hit != tt.hit || got.Authority != "staff" {
			t.Errorf("%s: hit %v, want %v", name, hit, tt.hit)
		}
	}
}

// Two chains that are the same bytes cut elsewhere are not the same chain.
func TestChainKey(t *testing.T) {
	p := &serverParams().Params
	a, b := &x509.Certificate{Raw: []byte("ab")}, &x509.Certificate{Raw: []byte("c")}
	c, d := &x509.Certificate{Raw: []byte("a")}, &x509.Certificate{Raw: []byte("bc")}
	if ChainKey([]*x509.Certificate{a, b}, 0, p) == ChainKey([]*x509.Certificate{c, d}, 0, p) {
		t.Error("the same key")
	}
}

func TestChainCacheIsBounded(t *testing.T) {
	var c ChainCache
	now := time.Now()
	for i := range maxVerified + 100 {
		c.put([32]byte{byte(i), byte(i >> 8)}, &Peer{Authority: "a"}, now)
	}
	if len(c.m) != maxVerified {
		t.Errorf("%d entries", len(c.m))
	}
	// Those that have ended go while others come, full or not.
	const later = maxVerified / 2
	for i := range later {
		c.put([32]byte{byte(i), byte(i >> 8), 1}, &Peer{Authority: "a"}, now.Add(time.Hour))
	}
	if len(c.m) > later+later/10 {
		t.Errorf("%d entries, all but %d have ended", len(c.m), later)
	}
}

// A cached chain proves nothing: a thief is found out each time.
func TestCachedChainIsNoProof(t *testing.T) {
	f := fixtures()
	engine := NewStdEngine()
	thief := f.client.TLS()
	thief.PrivateKey = testpki.Must(testpki.NewKey(testpki.P256))
	for _, version := range bothVersions {
		for range 2 {
			if o, err := withEngine(t, engine, serverParams(), clientConfig(version, f.client.TLS())); o.err != nil || err != nil {
				t.Errorf("owner: %v, %v", o.err, err)
			}
			if o, err := withEngine(t, engine, serverParams(), clientConfig(version, thief)); o.err == nil || o.err.Reason != reason.NoPossession || err == nil {
				t.Errorf("thief: %v, %v", o.err, err)
			}
		}
	}
	if engine.CachedChains() != 1 {
		t.Errorf("%d chains remembered", engine.CachedChains())
	}
}
