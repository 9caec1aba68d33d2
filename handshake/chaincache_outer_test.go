package handshake_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// A chain counts as verified under the same demands only, and not beyond its
// end. A hit is told by the very same Chain.
func TestChainCache(t *testing.T) {
	f := handshaketest.Fixtures()
	now := time.Now()
	at := func(d time.Duration) func(*handshake.ServerParams) {
		return func(p *handshake.ServerParams) { p.Now = func() time.Time { return now.Add(d) } }
	}
	short := testpki.Must(f.CA.Issue(testpki.Leaf{NotAfter: now.Add(time.Minute)}))
	client, server := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	for name, tt := range map[string]struct {
		cert   *testpki.Cert
		change func(*handshake.ServerParams)
		usage  x509.ExtKeyUsage
		hit    bool
		want   reason.Code
	}{
		"same":        {f.Client, at(0), client, true, ""},
		"a little on": {f.Client, at(4 * time.Minute), client, true, ""},
		"too old":     {f.Client, at(6 * time.Minute), client, false, ""},
		"clock back":  {f.Client, at(-time.Second), client, false, ""},
		"epoch":       {f.Client, func(p *handshake.ServerParams) { p.Epoch = 7 }, client, false, ""},
		"usage":       {f.Client, at(0), server, false, ""},
		"other CA": {f.Client, func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{handshaketest.Authority("staff", f.Other)}
		}, client, false, reason.UnknownCA},
		"none":          {f.Client, func(p *handshake.ServerParams) { p.Authorities = nil }, client, false, reason.UnknownCA},
		"curves":        {f.Client, func(p *handshake.ServerParams) { p.Profile.Curves = []uint16{uint16(tls.CurveP384)} }, client, false, reason.WeakKey},
		"bounds":        {f.Client, func(p *handshake.ServerParams) { p.MaxChainBytes = 10 }, client, false, reason.ChainTooLong},
		"before end":    {short, at(50 * time.Second), client, true, ""},
		"after the end": {short, at(70 * time.Second), client, false, reason.Expired},
	} {
		var c handshake.ChainCache
		first, _, e := c.Verify(tt.cert.Chain, client, &handshaketest.ServerParams(at(0)).Params)
		if e != nil {
			t.Fatal(e)
		}
		got, _, e := c.Verify(tt.cert.Chain, tt.usage, &handshaketest.ServerParams(at(0), tt.change).Params)
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
	p := &handshaketest.ServerParams().Params
	a, b := &x509.Certificate{Raw: []byte("ab")}, &x509.Certificate{Raw: []byte("c")}
	c, d := &x509.Certificate{Raw: []byte("a")}, &x509.Certificate{Raw: []byte("bc")}
	if handshake.ChainKey([]*x509.Certificate{a, b}, 0, p) == handshake.ChainKey([]*x509.Certificate{c, d}, 0, p) {
		t.Error("the same key")
	}
}
