package native

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// What was verified once, parsed and remembered, is judged anew by whatever has changed:
// each row makes a handshake that is let in, and then another one with the same engine.
func TestKnownCertificates(t *testing.T) {
	f := handshaketest.Fixtures()
	now := time.Now()
	at := func(d time.Duration) func(*handshake.ServerParams) {
		return func(p *handshake.ServerParams) { p.Now = func() time.Time { return now.Add(d) } }
	}
	under := func(cas ...*testpki.CA) func(*handshake.ServerParams) {
		return func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{handshaketest.Authority("staff", cas...)}
		}
	}
	sub := testpki.Must(f.CA.Intermediate(testpki.Options{CN: "Sub CA"}))
	below := testpki.Must(sub.Issue(testpki.Leaf{CN: "carol"})).TLS()
	alone := below
	alone.Certificate = below.Certificate[:1]
	short := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "dave", NotAfter: now.Add(time.Minute)})).TLS()
	for name, c := range map[string]struct {
		first, second tls.Certificate
		change        func(*handshake.ServerParams)
		revoked       bool
		want          reason.Code
	}{
		"the same":              {first: alice(), second: alice(), change: at(0)},
		"another authority":     {first: alice(), second: alice(), change: under(f.Other), want: reason.UnknownCA},
		"another profile":       {first: alice(), second: alice(), change: func(p *handshake.ServerParams) { p.Profile.Curves = []uint16{uint16(tls.CurveP384)} }, want: reason.WeakKey},
		"smaller bounds":        {first: below, second: below, change: func(p *handshake.ServerParams) { p.MaxChain = 1 }, want: reason.ChainTooLong},
		"revoked since":         {first: alice(), second: alice(), change: at(0), revoked: true, want: reason.Revoked},
		"ended since":           {first: short, second: short, change: at(2 * time.Minute), want: reason.Expired},
		"without intermediates": {first: below, second: alone, change: at(0), want: reason.UnknownCA},
		"the clock went back":   {first: alice(), second: alice(), change: at(-20 * 365 * 24 * time.Hour), want: reason.NotYetValid},
	} {
		engine := New(stdtls.New())
		r := newRig(params(at(0)))
		r.engine = engine
		if o, _, err := r.withGo(t, clientConfig(c.first)); err != nil || o.err != nil {
			t.Fatalf("%s: %v, %v", name, err, o.err)
		}
		r.plan = params(at(0), c.change)
		r.check = func(*handshake.Peer, *handshake.State) error {
			if c.revoked {
				return handshake.Refuse(handshake.StepClientVerified, reason.Revoked, "")
			}
			return nil
		}
		o, _, _ := r.withGo(t, clientConfig(c.second))
		switch {
		case c.want == "" && o.err != nil:
			t.Errorf("%s: %v", name, o.err)
		case c.want != "" && (o.err == nil || o.err.Reason != c.want):
			t.Errorf("%s: %v, want %s", name, o.err, c.want)
		}
	}
}

// A certificate for another usage is no client's, even where a destination has shown it.
func TestKnownUsage(t *testing.T) {
	f := handshaketest.Fixtures()
	server := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "gateway", DNS: []string{"gateway.test"}, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}))
	engine := New(stdtls.New())
	engine.known.remember([]*x509.Certificate{server.Chain[0], f.CA.Root})
	r := newRig(params())
	r.engine = engine
	if o, _, _ := r.withGo(t, clientConfig(server.TLS())); o.err == nil || o.err.Reason != reason.WrongUsage {
		t.Errorf("%v", o.err)
	}
}

// What is remembered is bounded, in bytes, and a refused chain is not remembered.
func TestKnownIsBounded(t *testing.T) {
	var k knownCerts
	root := &x509.Certificate{Raw: []byte("root")}
	for i := range 3000 {
		raw := make([]byte, 2048)
		raw[0], raw[1] = byte(i), byte(i>>8)
		k.remember([]*x509.Certificate{{Raw: raw}, root})
	}
	size := 0
	for _, c := range k.m {
		size += knownCost(c)
	}
	if size != k.size || size > maxKnown || size < maxKnown-knownCost(root)-3*2048 {
		t.Errorf("%d bytes, counted as %d", size, k.size)
	}
	r := newRig(params())
	engine := New(stdtls.New())
	r.engine = engine
	if o, _, _ := r.withGo(t, clientConfig(testpki.Must(handshaketest.Fixtures().Other.Issue(testpki.Leaf{CN: "mallory"})).TLS())); o.err == nil || len(engine.known.m) != 0 {
		t.Errorf("%v, %d are remembered", o.err, len(engine.known.m))
	}
}
