package handshake

import (
	"crypto/x509"
	"fmt"
	"sync"
)

// MaxCANames is how many bytes the acceptable CA names of a CertificateRequest
// may take, each with the two bytes of its length. Their vector holds 65,535
// (RFC 5246, section 7.4.4; RFC 8446, section 4.2.4), and so does that of all
// extensions of the message in TLS 1.3 (section 4.3.2); crypto/tls takes no
// message of more than 65,536. What else stands there has less than 512.
const MaxCANames = 1<<16 - 1 - 512

// CANames says what a CertificateRequest tells clients of the CAs whose
// certificates they may show.
type CANames struct {
	Names int // each once
	Bytes int // of the names, each with the two of its length
	Left  int // names of intermediates that are left out, so that those of the roots fit
}

// Fit says whether they are sent. A list that does not fit is left out: an
// empty one means any CA (RFC 5246, section 7.4.4; RFC 8446, section 4.2.4 has
// it as an extension that may be absent).
func (c CANames) Fit() bool { return c.Bytes <= MaxCANames }

// String has the figures.
func (c CANames) String() string {
	return fmt.Sprintf("the names of %d CAs take %d bytes, and at most %d fit a CertificateRequest", c.Names, c.Bytes, MaxCANames)
}

// caNames are names to be announced, each once: CAs whose keys were rolled over
// share theirs.
type caNames struct {
	pool *x509.CertPool
	said CANames
}

// add is for the subject of a CA, in DER.
func (c *caNames) add(seen map[string]bool, name []byte) {
	if seen[string(name)] {
		return
	}
	seen[string(name)] = true
	c.said.Names++
	c.said.Bytes += 2 + len(name)
	// All that crypto/tls takes of it is the subject.
	c.pool.AddCert(&x509.Certificate{Raw: name, RawSubject: name})
}

// fitted leaves out what does not fit.
func (c *caNames) fitted() *caNames {
	if !c.said.Fit() {
		c.pool = x509.NewCertPool()
	}
	return c
}

// namesOf are the names of roots, and behind them those of the CAs that complete
// paths: a client whose certificate one of these has issued may look for its name
// alone (RFC 8446, section 4.2.4: "a root CA or a subordinate CA"). Where only the
// roots' fit, they are sent alone.
func namesOf(authorities ...*Authority) *caNames {
	c, seen := &caNames{pool: x509.NewCertPool()}, map[string]bool{}
	for _, a := range authorities {
		for _, root := range a.Roots {
			c.add(seen, root.RawSubject)
		}
	}
	all := &caNames{pool: c.pool.Clone(), said: c.said}
	for _, a := range authorities {
		for _, ca := range a.Intermediates {
			all.add(seen, ca.RawSubject)
		}
	}
	if c.said.Fit() && !all.said.Fit() {
		c.said.Left = all.said.Names - c.said.Names
		return c
	}
	return all.fitted()
}

// CANames are those of what p announces; AcceptableCAs or Authorities.
func (p *Params) CANames() CANames { return p.announced().said }

func (p *Params) announced() *caNames {
	if p.AcceptableCAs == nil {
		return namesOf(p.Authorities...)
	}
	c, seen := &caNames{pool: x509.NewCertPool()}, map[string]bool{}
	for _, name := range p.AcceptableCAs {
		c.add(seen, name)
	}
	return c.fitted()
}

// caPools are the names of each list of CAs, which would otherwise be put
// together, and hashed, for each handshake.
type caPools struct {
	mu sync.Mutex
	m  map[caKey]*caNames
}

// caKey is a list by its identity: Params are never changed. Holding the
// pointer keeps the list, so that no other takes its place.
type caKey struct {
	authorities **Authority
	names       *[]byte
	n           int
}

// maxPools bounds the lists remembered; over it, all are forgotten.
const maxPools = 512

func (c *caPools) of(p *Params) *caNames {
	var key caKey
	switch {
	case len(p.AcceptableCAs) > 0:
		key = caKey{names: &p.AcceptableCAs[0], n: len(p.AcceptableCAs)}
	case p.AcceptableCAs != nil, len(p.Authorities) == 0:
		return &caNames{pool: x509.NewCertPool()}
	case len(p.Authorities) == 1:
		p.Authorities[0].prepare()
		return p.Authorities[0].names
	default:
		key = caKey{authorities: &p.Authorities[0], n: len(p.Authorities)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if names, ok := c.m[key]; ok {
		return names
	}
	names := p.announced()
	if c.m == nil || len(c.m) >= maxPools {
		c.m = map[caKey]*caNames{}
	}
	c.m[key] = names
	return names
}
