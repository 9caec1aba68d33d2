package stdtls

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// A staple is shown while it is good, in both versions; another one as soon as
// it is set.
func TestStaple(t *testing.T) {
	var s handshake.Staple
	now := time.Now()
	p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
		p.Identity = identity.NewFile(p.Certificates, []*handshake.Staple{&s})
		p.Now = func() time.Time { return now }
	})
	shown := func(version uint16) []byte {
		t.Helper()
		o, cs, err := withGo(t, p, clientConfig(version, handshaketest.Fixtures().Client.TLS()))
		if err != nil {
			t.Fatalf("%v, %v", err, o.err)
		}
		return cs.OCSPResponse
	}
	for _, version := range bothVersions {
		s.Set([]byte("first"), now.Add(time.Minute))
		if got := shown(version); string(got) != "first" {
			t.Errorf("%s: %q is shown", handshake.VersionName(version), got)
		}
		s.Set([]byte("second"), now.Add(time.Minute))
		if got := shown(version); string(got) != "second" {
			t.Errorf("%s: %q is shown after another was set", handshake.VersionName(version), got)
		}
		s.Set([]byte("third"), now)
		if got := shown(version); got != nil {
			t.Errorf("%s: %q is shown at its end", handshake.VersionName(version), got)
		}
	}
	if p.Certificates[0].OCSPStaple != nil {
		t.Error("the certificate that is shared was changed")
	}
	// Without one of its own the certificate keeps what it has.
	cert := handshaketest.Fixtures().Gateway.TLS()
	cert.OCSPStaple = []byte("fixed")
	p = handshaketest.ServerParams(func(p *handshake.ServerParams) {
		p.Certificates = []tls.Certificate{cert}
		p.Identity = identity.NewFile(p.Certificates, []*handshake.Staple{nil})
	})
	if got := shown(tls.VersionTLS13); !bytes.Equal(got, cert.OCSPStaple) {
		t.Errorf("%q is shown", got)
	}
}
