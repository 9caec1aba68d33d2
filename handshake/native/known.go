package native

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"sync"

	"github.com/sslgate/sslgate/internal/certread"
)

// maxKnown bounds the certificates that are remembered, in bytes of their DER: parsed,
// each takes about four times as much.
const maxKnown = 4 << 20

// knownCerts remembers certificates by their bytes, so that a peer that comes back costs
// no second parsing, and its connections share one copy. Only those of a path that
// verified are remembered: a stranger fills no room. Nothing is decided here: whoever gets
// one judges it as if it had just been parsed.
type knownCerts struct {
	mu   sync.Mutex
	m    map[[sha256.Size]byte]*x509.Certificate
	size int // bytes of DER
}

// parse reads a certificate, which keeps nothing of the message that it came in. The error
// is a *certread.Refused.
func (k *knownCerts) parse(der []byte) (*x509.Certificate, error) {
	k.mu.Lock()
	c := k.m[sha256.Sum256(der)]
	k.mu.Unlock()
	if c != nil {
		return c, nil
	}
	return certread.Certificate(bytes.Clone(der))
}

// remember is for a path that verified, but for its end, the authority's own.
func (k *knownCerts) remember(path []*x509.Certificate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil {
		k.m = map[[sha256.Size]byte]*x509.Certificate{}
	}
	for _, c := range path[:len(path)-1] {
		key := sha256.Sum256(c.Raw)
		if k.m[key] == nil {
			k.m[key] = c
			k.size += len(c.Raw)
		}
	}
	for key, c := range k.m { // any: the order of a map is random
		if k.size <= maxKnown {
			break
		}
		delete(k.m, key)
		k.size -= len(c.Raw)
	}
}
