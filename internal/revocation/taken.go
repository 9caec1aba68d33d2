package revocation

import (
	"crypto/x509"
	"sync"
)

// maxTaken bounds the revocations of one authority that are remembered besides the lists:
// 32 bytes each and the map's overhead, about 4 MiB. Each was signed by the authority, so
// only an authority with that many revoked certificates can fill it.
const maxTaken = 65536

// taken remembers the certificates of one authority that a signed OCSP answer, of the
// responder or a staple, has called revoked. A revocation is final (RFC 6960, section
// 2.2). So it overrides any good answer that comes later, and it survives the responder's
// cache and a reload.
type taken struct {
	mu sync.Mutex
	m  map[[32]byte]struct{}
}

// add remembers a certificate; it says whether that was new.
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

func (t *taken) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m) == 0
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
