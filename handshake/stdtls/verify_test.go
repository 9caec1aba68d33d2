package stdtls

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
)

// The clock of the Params decides.
func TestVerifyNow(t *testing.T) {
	f := handshaketest.Fixtures()
	p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
		p.Now = func() time.Time { return time.Now().Add(-30 * 24 * time.Hour) }
	})
	if _, e := handshake.Verify(f.Client.Chain, p.Authorities, x509.ExtKeyUsageClientAuth, &p.Params); e == nil || e.Reason != reason.NotYetValid {
		t.Errorf("a month ago: %v", e)
	}
	o, _, _ := withGo(t, p, clientConfig(tls.VersionTLS13, f.Client.TLS()))
	if o.err == nil || o.err.Reason != reason.NotYetValid {
		t.Errorf("in a handshake: %v", o.err)
	}
}
