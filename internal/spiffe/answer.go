// Package spiffe asks agents of the SPIFFE Workload API (SPIFFE_Workload_API.md) for the X.509
// SVIDs of this process and for the bundles of trust domains, and keeps the last good answer of
// each while its agent is away. It keeps them in memory alone.
package spiffe

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/sslgate/sslgate/internal/escape"
)

// Bounds of one answer. More of anything and the whole answer is refused.
const (
	// MaxAnswer is its size in bytes.
	MaxAnswer = 4 << 20
	// MaxSVIDs is how many SVIDs it may have.
	MaxSVIDs = 100
	// MaxChain is how many certificates an SVID may have.
	MaxChain = 10
	// MaxBundles is how many trust domains it may have.
	MaxBundles = 1000
	// MaxRoots is how many CAs a trust domain may have.
	MaxRoots = 100
)

// Answer is what an agent has said at one moment. It is complete: what is not in it, the agent
// has taken back (section 4.4). It does not change.
type Answer struct {
	// SVIDs are the certificates with their keys, by SPIFFE ID.
	SVIDs map[string]*tls.Certificate
	// Bundles are the CAs of trust domains, by name: that of the agent and those that it
	// federates with.
	Bundles map[string][]*x509.Certificate
}

// SVID is that of a SPIFFE ID. The error says which ones there are.
func (a *Answer) SVID(id string) (*tls.Certificate, error) {
	if c := a.SVIDs[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("the agent has no SVID %s for this process, only %s", id, some(a.SVIDs))
}

// Bundle is that of a trust domain. The error says which ones there are.
func (a *Answer) Bundle(domain string) ([]*x509.Certificate, error) {
	if b, ok := a.Bundles[domain]; ok && len(b) > 0 {
		return b, nil
	} else if ok {
		return nil, fmt.Errorf("the agent's bundle of %s is empty", domain)
	}
	return nil, fmt.Errorf("the agent has no bundle of %s for this process, only of %s", domain, some(a.Bundles))
}

// some are the first names of what an agent has, for a person.
func some[T any](all map[string]T) string {
	const most = 5
	names := slices.Sorted(maps.Keys(all))
	more := ""
	if n := len(names) - most; n > 0 {
		names, more = names[:most], fmt.Sprintf(" and %d more", n)
	}
	if len(names) == 0 {
		return "none"
	}
	return escape.Shown(strings.Join(names, ", "), 500) + more
}

// read takes what the library has parsed within the bounds. The library has seen to it that an
// SVID has one SPIFFE ID with a path, is no CA, and belongs to its key.
func read(c *workloadapi.X509Context) (*Answer, error) {
	bundles := c.Bundles.Bundles()
	switch {
	case len(c.SVIDs) > MaxSVIDs:
		return nil, fmt.Errorf("the agent has sent %d SVIDs: at most %d are taken", len(c.SVIDs), MaxSVIDs)
	case len(bundles) > MaxBundles:
		return nil, fmt.Errorf("the agent has sent %d bundles: at most %d are taken", len(bundles), MaxBundles)
	}
	a := &Answer{SVIDs: map[string]*tls.Certificate{}, Bundles: map[string][]*x509.Certificate{}}
	for _, s := range c.SVIDs {
		if err := a.add(s); err != nil {
			return nil, err
		}
	}
	for _, b := range bundles {
		if err := a.trust(b); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// add takes an SVID; of several of one ID the first, which is the agent's choice.
func (a *Answer) add(s *x509svid.SVID) error {
	id := s.ID.String()
	if len(s.Certificates) > MaxChain {
		return fmt.Errorf("the agent's SVID %s has %d certificates: at most %d are taken", escape.Shown(id, 500), len(s.Certificates), MaxChain)
	}
	if a.SVIDs[id] != nil {
		return nil
	}
	cert := &tls.Certificate{PrivateKey: s.PrivateKey, Leaf: s.Certificates[0]}
	for _, c := range s.Certificates {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	a.SVIDs[id] = cert
	return nil
}

func (a *Answer) trust(b *x509bundle.Bundle) error {
	domain, roots := b.TrustDomain().Name(), b.X509Authorities()
	if len(roots) > MaxRoots {
		return fmt.Errorf("the agent's bundle of %s has %d CAs: at most %d are taken", escape.Shown(domain, 300), len(roots), MaxRoots)
	}
	a.Bundles[domain] = roots
	return nil
}

// ErrNotYet says that an agent has not been asked yet.
var ErrNotYet = errors.New("it has not answered yet")
