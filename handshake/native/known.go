package native

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"sync"

	"github.com/sslgate/sslgate/internal/certread"
)

// maxKnown bounds the certificates that are remembered, in bytes of the heap.
const maxKnown = 16 << 20

// knownCost is about what a parsed certificate takes of the heap, see handshake.Peer.Held.
func knownCost(c *x509.Certificate) int { return 4<<10 + 3*len(c.Raw) }

// knownCerts remembers certificates by their bytes, so that a peer that comes back costs
// no second parsing, and its connections share one copy. Only those of a path that
// verified are remembered, so that only certificates of CAs that are trusted fill the room.
// Nothing is decided here: whoever gets one judges it as if it had just been parsed.
type knownCerts struct {
	mu   sync.Mutex
	m    map[[sha256.Size]byte]*x509.Certificate
	size int // bytes, by knownCost
}

// parse reads a certificate, which keeps nothing of the message that it came in. The error
// is a *certread.Refused.
func (k *knownCerts) parse(der []byte) (*x509.Certificate, error) {
	key := sha256.Sum256(der) // a stranger's bytes, so not under the lock that all share
	k.mu.Lock()
	c := k.m[key]
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
			k.size += knownCost(c)
		}
	}
	for key, c := range k.m { // any: the order of a map is random
		if k.size <= maxKnown {
			break
		}
		delete(k.m, key)
		k.size -= knownCost(c)
	}
}
