package handshake

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"
)

// A staple is shown while it is good, in both versions; another one as soon as
// it is set.
func TestStaple(t *testing.T) {
	var s Staple
	now := time.Now()
	p := serverParams(func(p *ServerParams) {
		p.Staples = []*Staple{&s}
		p.Now = func() time.Time { return now }
	})
	shown := func(version uint16) []byte {
		t.Helper()
		o, cs, err := withGo(t, p, clientConfig(version, fixtures().client.TLS()))
		if err != nil {
			t.Fatalf("%v, %v", err, o.err)
		}
		return cs.OCSPResponse
	}
	for _, version := range bothVersions {
		s.Set([]byte("first"), now.Add(time.Minute))
		if got := shown(version); string(got) != "first" {
			t.Errorf("%s: %q is shown", VersionName(version), got)
		}
		s.Set([]byte("second"), now.Add(time.Minute))
		if got := shown(version); string(got) != "second" {
			t.Errorf("%s: %q is shown after another was set", VersionName(version), got)
		}
		s.Set([]byte("third"), now)
		if got := shown(version); got != nil {
			t.Errorf("%s: %q is shown at its end", VersionName(version), got)
		}
	}
	if p.Certificates[0].OCSPStaple != nil {
		t.Error("the certificate that is shared was changed")
	}
	// Without one of its own the certificate keeps what it has.
	cert := fixtures().gateway.TLS()
	cert.OCSPStaple = []byte("fixed")
	p = serverParams(func(p *ServerParams) { p.Certificates, p.Staples = []tls.Certificate{cert}, []*Staple{nil} })
	if got := shown(tls.VersionTLS13); !bytes.Equal(got, cert.OCSPStaple) {
		t.Errorf("%q is shown", got)
	}
}
