package handshake

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"

	"github.com/sslgate/sslgate/internal/work"
)

// Bounds of the cache of verified chains.
const (
	// maxVerified is how many chains are remembered: at about 8 KiB each with
	// their parsed certificates, 16 MiB.
	maxVerified = 2048
	// maxVerifiedAge bounds how long a chain counts as verified. A signature
	// that was good stays good; the bound only keeps forgotten entries short.
	maxVerifiedAge = 5 * time.Minute
	// lookAtEach is how many entries are looked at for each new one.
	lookAtEach = 8
)

// ChainCache remembers chains that verified, so that a client that comes back
// costs no second check of the signatures in its chain: half of the public-key
// operations that its certificate costs. The key is everything that the answer
// depends on: the whole chain as shown, usage, authorities, profile, bounds and
// epoch. An entry ends with the first certificate of its chain to end. That the
// peer holds the key is proven in every handshake; revocation, names and policy
// are asked every time. Refusals are not remembered.
type ChainCache struct {
	mu sync.Mutex
	m  map[[32]byte]verifiedChain
}

type verifiedChain struct {
	chain       []*x509.Certificate
	authority   string
	from, until time.Time
}

// Verify is Verify with the cache in front. It says what it has cost.
func (c *ChainCache) Verify(shown []*x509.Certificate, usage x509.ExtKeyUsage, p *Params) (*Peer, work.Units, *Error) {
	key, now := chainKey(shown, usage, p), p.Time()
	c.mu.Lock()
	v, ok := c.m[key]
	c.mu.Unlock()
	if ok && !now.Before(v.from) && now.Before(v.until) {
		return &Peer{Shown: shown, Chain: v.chain, Authority: v.authority}, 0, nil
	}
	peer, spent, e := VerifyCost(shown, p.Authorities, usage, p)
	if e == nil {
		c.put(key, peer, now)
	}
	return peer, spent, e
}

// Len is how many chains are remembered.
func (c *ChainCache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.m)
}

func chainKey(shown []*x509.Certificate, usage x509.ExtKeyUsage, p *Params) [32]byte {
	h := sha256.New()
	demands := p.Demands(usage)
	h.Write(demands[:])
	for _, c := range shown {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(c.Raw)))
		h.Write(n[:])
		h.Write(c.Raw)
	}
	return [32]byte(h.Sum(nil))
}

func (c *ChainCache) put(key [32]byte, peer *Peer, now time.Time) {
	v := verifiedChain{chain: peer.Chain, authority: peer.Authority, from: now, until: now.Add(maxVerifiedAge)}
	for _, cert := range peer.Chain {
		if cert.NotAfter.Before(v.until) {
			v.until = cert.NotAfter
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[[32]byte]verifiedChain{}
	}
	// A few at each new one, so that the entries of before a reload, whose keys
	// nobody has any more, go when their time is over.
	looked := 0
	for k, old := range c.m { // the order of a map is random
		if looked++; looked > lookAtEach {
			break
		}
		if !now.Before(old.until) {
			delete(c.m, k)
		}
	}
	if len(c.m) >= maxVerified {
		for k, old := range c.m {
			if !now.Before(old.until) {
				delete(c.m, k)
			}
		}
		for k := range c.m { // any one: the order of a map is random
			if len(c.m) < maxVerified {
				break
			}
			delete(c.m, k)
		}
	}
	c.m[key] = v
}
