package handshake

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"

	"github.com/sslgate/sslgate/internal/keykind"
)

// Authority is a named set of trust anchors. Which names it may speak for is
// policy's business, not the handshake's. It must not change once it is used.
type Authority struct {
	Name  string
	Roots []*x509.Certificate
	// Intermediates are CAs below Roots that complete a path where the peer has
	// not shown them. They are no trust anchors: a path with one goes on to a
	// root, and is judged whole. One that leads to no root is never used: see
	// Unled.
	Intermediates []*x509.Certificate

	once   sync.Once
	names  *AnnouncedCAs                  // of Roots and Intermediates
	byName map[string][]*x509.Certificate // Roots by RawSubject
	digest [32]byte                       // of Name, Roots and Intermediates
	known  known
}

// AuthoritySource has the certificates of an authority. They may change while a policy
// that names it stays in force: each handshake asks for those of the moment, and the
// same pointer means the same certificates. The name never changes. It is safe for many
// goroutines.
type AuthoritySource interface {
	// Current is the Authority of the moment. One without certificates trusts nobody.
	Current() *Authority
}

// Current is a itself: an Authority is a source that never changes.
func (a *Authority) Current() *Authority { return a }

// known is what was found out about Intermediates once, so that no handshake pays
// for a signature between two certificates of the configuration.
type known struct {
	byName map[string][]*x509.Certificate            // those that lead to a root, by RawSubject
	far    map[*x509.Certificate]int                 // how many of them lie between one and a root
	up     map[*x509.Certificate][]*x509.Certificate // who has signed one: roots, and others of them
	unled  []int                                     // of Intermediates: lead to no root
}

// Bounds of Intermediates: they keep what is done once short, and paths shorter
// than byX509 can judge.
const (
	// MaxIntermediates is how many may be configured of one authority.
	MaxIntermediates = 1000
	// maxKnownChecks bounds the signatures checked between them and the roots: a
	// tenth of a second or two. Real hierarchies need about one for each.
	maxKnownChecks = 4096
	// maxKnownFar is how many may lie between one and a root.
	maxKnownFar = 32
)

// prepare makes what every handshake needs of an authority, once.
func (a *Authority) prepare() {
	a.once.Do(func() {
		a.names = namesOf(a)
		a.byName = map[string][]*x509.Certificate{}
		h := sha256.New()
		_, _ = fmt.Fprintf(h, "%q %d %d\n", a.Name, len(a.Roots), len(a.Intermediates)) // a hash takes everything
		for _, c := range a.Roots {
			if !a.trusts(c) { // each once
				a.byName[string(c.RawSubject)] = append(a.byName[string(c.RawSubject)], c)
			}
		}
		for _, c := range slices.Concat(a.Roots, a.Intermediates) {
			sum := sha256.Sum256(c.Raw)
			h.Write(sum[:])
		}
		h.Sum(a.digest[:0])
		a.learn()
	})
}

// trusts says whether a certificate is itself one of Roots. prepare was called.
func (a *Authority) trusts(c *x509.Certificate) bool {
	return contains(a.byName[string(c.RawSubject)], c)
}

// completes says whether a certificate is one of Intermediates that lead to a root.
func (a *Authority) completes(c *x509.Certificate) bool {
	return contains(a.known.byName[string(c.RawSubject)], c)
}

// signedOnce says whether the signature of parent on c was found good before any
// handshake.
func (a *Authority) signedOnce(c, parent *x509.Certificate) bool {
	return slices.Contains(a.known.up[c], parent)
}

// Unled are the places in Intermediates of certificates that no signatures lead to
// from a root: they are not used.
func (a *Authority) Unled() []int {
	a.prepare()
	return a.known.unled
}

// learn goes from the roots downwards through Intermediates.
func (a *Authority) learn() {
	k := &a.known
	k.byName = map[string][]*x509.Certificate{}
	k.far = map[*x509.Certificate]int{}
	k.up = map[*x509.Certificate][]*x509.Certificate{}
	all := a.Intermediates[:min(len(a.Intermediates), MaxIntermediates)]
	issued := map[string][]*x509.Certificate{} // by RawIssuer, each once
	for _, c := range all {
		if !a.trusts(c) && !contains(issued[string(c.RawIssuer)], c) {
			issued[string(c.RawIssuer)] = append(issued[string(c.RawIssuer)], c)
		}
	}
	checks := 0
	parents := []*x509.Certificate{}
	for _, c := range a.Roots {
		if contains(parents, c) {
			continue
		}
		parents = append(parents, c)
	}
	for far := 0; len(parents) > 0 && far < maxKnownFar; far++ {
		var next []*x509.Certificate
		for agree := range 3 { // those whose key identifiers agree first: others may take all checks
			for _, p := range parents {
				if hugeKey(p) {
					continue
				}
				for _, c := range issued[string(p.RawSubject)] {
					if c == p || keyIDs(c, p) != agree {
						continue
					}
					if checks++; checks > maxKnownChecks || c.CheckSignatureFrom(p) != nil {
						continue
					}
					k.up[c] = append(k.up[c], p)
					if _, led := k.far[c]; !led {
						k.far[c] = far
						k.byName[string(c.RawSubject)] = append(k.byName[string(c.RawSubject)], c)
						next = append(next, c)
					}
				}
			}
		}
		parents = next
	}
	for i, c := range a.Intermediates {
		if !a.trusts(c) && !a.completes(c) {
			k.unled = append(k.unled, i)
		}
	}
}

// hugeKey says whether a check with a key takes too long.
func hugeKey(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && key.N.BitLen() > keykind.MaxRSABits
}
