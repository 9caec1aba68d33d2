package stdtls

import (
	"testing"

	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// A cached chain proves nothing: a thief is found out each time.
func TestCachedChainIsNoProof(t *testing.T) {
	f := handshaketest.Fixtures()
	engine := New()
	thief := f.Client.TLS()
	thief.PrivateKey = testpki.Must(testpki.NewKey(testpki.P256))
	for _, version := range bothVersions {
		for range 2 {
			if o, err := withEngine(t, engine, handshaketest.ServerParams(), clientConfig(version, f.Client.TLS())); o.err != nil || err != nil {
				t.Errorf("owner: %v, %v", o.err, err)
			}
			if o, err := withEngine(t, engine, handshaketest.ServerParams(), clientConfig(version, thief)); o.err == nil || o.err.Reason != reason.NoPossession || err == nil {
				t.Errorf("thief: %v, %v", o.err, err)
			}
		}
	}
	if engine.CachedChains() != 1 {
		t.Errorf("%d chains remembered", engine.CachedChains())
	}
}
