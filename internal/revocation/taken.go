package revocation

import (
	"crypto/x509"
	"sync"
)

// maxTaken bounds the revocations that are remembered besides the lists, of one
// authority: 32 bytes each and the map's room, about 4 MiB. Each was signed by
// the authority, so nobody fills it but who has that many certificates revoked.
const maxTaken = 65536

// taken remembers the certificates of one authority of which a signed OCSP
// answer has said that they are revoked: of the responder or of a staple. A
// revocation is final (RFC 6960, section 2.2), so it beats whatever good answer
// somebody brings later, and it outlives the responder's cache and a reload.
type taken struct {
	mu sync.Mutex
	m  map[[32]byte]struct{}
}

// add remembers one; it says whether that is news.
func (t *taken) add(number serial, issuer *x509.Certificate) bool {
	key := cacheKey(number, issuer)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.m[key]; ok {
		return false
	}
	if t.m == nil {
		t.m = map[[32]byte]struct{}{}
	}
	if len(t.m) >= maxTaken {
		for k := range t.m { // any one: the order of a map is random
			delete(t.m, k)
			break
		}
	}
	t.m[key] = struct{}{}
	return true
}

func (t *taken) has(number serial, issuer *x509.Certificate) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.m) == 0 {
		return false
	}
	_, ok := t.m[cacheKey(number, issuer)]
	return ok
}
