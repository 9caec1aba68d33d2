// Package acmeclient orders certificates of a CA that speaks ACME (RFC 8555). The CA's proof of
// who holds a name is a handshake that the gateway answers itself (tls-alpn-01, RFC 8737), or a
// record in the DNS that somebody else writes (dns-01, RFC 8555, section 8.4).
package acmeclient

import (
	"crypto/tls"
	"strings"
	"sync"
	"sync/atomic"
)

// Challenges have the certificates that answer validators while an order waits for them. The
// zero value has none. It is safe for many goroutines.
type Challenges struct {
	pending atomic.Int32
	mu      sync.Mutex
	certs   map[string]*tls.Certificate // by name, in lower case
}

// Pending says whether a validator is awaited. It is asked for each SYN.
func (c *Challenges) Pending() bool { return c.pending.Load() > 0 }

// For is the certificate that answers for a name; nil where no validator is awaited for it.
func (c *Challenges) For(name string) *tls.Certificate {
	if !c.Pending() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.certs[strings.ToLower(name)]
}

// Await has validators of a name answered with a certificate until the returned function is
// called.
func (c *Challenges) Await(name string, cert *tls.Certificate) (over func()) {
	name = strings.ToLower(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.certs == nil {
		c.certs = map[string]*tls.Certificate{}
	}
	c.certs[name] = cert
	c.pending.Add(1)
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.certs[name] == cert { // else a later order waits for the same name
			delete(c.certs, name)
		}
		c.pending.Add(-1)
	})
}
