package stdtls

import (
	"crypto/x509"
	"sync"

	"github.com/sslgate/sslgate/handshake"
)

// caPools are the names of each list of CAs, which would otherwise be put
// together, and hashed, for each handshake.
type caPools struct {
	mu sync.Mutex
	m  map[caKey]*handshake.AnnouncedCAs
}

// caKey is a list by its identity: Params are never changed. Holding the
// pointer keeps the list, so that no other takes its place.
type caKey struct {
	authorities **handshake.Authority
	names       *[]byte
	n           int
}

// maxPools bounds the lists remembered; over it, all are forgotten.
const maxPools = 512

func (c *caPools) of(p *handshake.ServerParams) *handshake.AnnouncedCAs {
	var key caKey
	switch {
	case len(p.AcceptableCAs) > 0:
		key = caKey{names: &p.AcceptableCAs[0], n: len(p.AcceptableCAs)}
	case p.AcceptableCAs != nil, len(p.Authorities) == 0:
		return &handshake.AnnouncedCAs{Pool: x509.NewCertPool()}
	case len(p.Authorities) == 1:
		return p.Authorities[0].Announced()
	default:
		key = caKey{authorities: &p.Authorities[0], n: len(p.Authorities)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if names, ok := c.m[key]; ok {
		return names
	}
	names := p.Announced()
	if c.m == nil || len(c.m) >= maxPools {
		c.m = map[caKey]*handshake.AnnouncedCAs{}
	}
	c.m[key] = names
	return names
}
