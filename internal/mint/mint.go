// Package mint makes leaf certificates on demand, to intercept under names for which no
// certificate was issued. The names that the configuration allows and the issuer's own
// constraints bound what is made. A leaf is good only for server authentication, and
// lives for a day.
package mint

import (
	"container/list"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/keyusage"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/times"
)

const (
	// DefaultLifetime of a leaf: short, because a leaf cannot be revoked.
	DefaultLifetime = 24 * time.Hour
	// MaxLifetime of a leaf.
	MaxLifetime = 7 * 24 * time.Hour
	// backdate is how far a validity begins in the past, for clients whose clock is
	// behind.
	backdate = time.Hour
	// maxCached bounds the leaves that are kept: about 3 KiB each, 12 MiB.
	maxCached = 4096
	// maxNames bounds the names that a leaf copies from a server's certificate.
	maxNames = 100
)

// Config of an Issuer.
type Config struct {
	// Chain is the issuing CA's certificate, followed by the CAs above it that a client
	// needs, without the root. The issuer may be a root itself.
	Chain []*x509.Certificate
	// Key of the issuing CA. Only its Sign is used.
	Key crypto.Signer
	// Names that leaves may have: DNS names, in which "*" as the first label stands for
	// exactly one label. At least one.
	Names []string
	// Lifetime of a leaf; zero means DefaultLifetime.
	Lifetime time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Issuer makes and caches leaves. It is safe for many goroutines.
type Issuer struct {
	c     Config
	names []pattern
	blank tls.Certificate
	group singleflight.Group

	mu     sync.Mutex
	leaves map[string]*list.Element // of *leaf, by their names
	recent *list.List               // most recently used first
}

type leaf struct {
	key   string
	cert  *tls.Certificate
	renew time.Time // from then on a new leaf is made
}

// New checks the configuration. Its errors name no files, because the caller knows them.
func New(c Config) (*Issuer, error) {
	if len(c.Chain) == 0 || c.Key == nil {
		return nil, errors.New("an issuer needs a certificate and a key")
	}
	ca := c.Chain[0]
	switch {
	case !ca.BasicConstraintsValid || !ca.IsCA:
		return nil, errors.New("the certificate is not a CA's (basic constraints, RFC 5280, section 4.2.1.9)")
	case !keyusage.Allows(ca, x509.KeyUsageCertSign):
		return nil, errors.New("the CA's key usage lacks keyCertSign (RFC 5280, section 4.2.1.3)")
	}
	if pub, ok := c.Key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(ca.PublicKey) {
		return nil, errors.New("the key does not belong to the certificate")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Lifetime == 0 {
		c.Lifetime = DefaultLifetime
	}
	if c.Lifetime < time.Hour || c.Lifetime > MaxLifetime {
		return nil, fmt.Errorf("a lifetime of %s: at least 1h, at most %s", c.Lifetime, MaxLifetime)
	}
	m := &Issuer{c: c, leaves: map[string]*list.Element{}, recent: list.New()}
	for _, name := range c.Names {
		p, err := parsePattern(name)
		if err != nil {
			return nil, err
		}
		m.names = append(m.names, p)
	}
	if len(m.names) == 0 {
		return nil, errors.New("no names to make certificates for")
	}
	blank, err := m.make([]string{m.names[0].example()})
	if err != nil {
		return nil, err
	}
	m.blank = *blank
	// The issuer in its place, so that what is made of it is always the same.
	m.blank.Certificate = nil
	for _, ca := range c.Chain {
		m.blank.Certificate = append(m.blank.Certificate, ca.Raw)
	}
	return m, nil
}

// Blank is a certificate of the kind that is made. A client's hello can be judged by it
// before the real one exists. It is never sent.
func (m *Issuer) Blank() tls.Certificate { return m.blank }

// Chain is the issuing CA and those above it; no leaf outlives any of them. The caller
// must not change it.
func (m *Issuer) Chain() []*x509.Certificate { return m.c.Chain }

// For returns a certificate for the name that a client asks for. The error is a
// *handshake.Error: no name, a name outside of those allowed, or one outside of
// the issuer's name constraints.
func (m *Issuer) For(ctx context.Context, name string) (*tls.Certificate, error) {
	if name == "" {
		return nil, handshake.Refuse(handshake.StepClientHello, reason.SNIMissing, "a certificate is made for the name asked for, and none was")
	}
	if !m.allowed(name) {
		return nil, handshake.Refuse(handshake.StepClientHello, reason.SNIUnknown, "no certificate is made for this name")
	}
	return m.get(ctx, []string{name})
}

// Like returns a certificate for those names of a server's certificate that are allowed.
// The caller must have verified the server's certificate.
func (m *Issuer) Like(ctx context.Context, server *x509.Certificate) (*tls.Certificate, error) {
	var names []string
	known, err := certname.ReadAltNames(server.Extensions)
	if err != nil {
		return nil, handshake.Refuse(handshake.StepClientHello, reason.SNIUnknown, "the destination's certificate: "+err.Error())
	}
	for _, name := range known.DNS {
		name = strings.ToLower(name)
		if m.allowed(name) && !slices.Contains(names, name) && len(names) < maxNames {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, handshake.Refuse(handshake.StepClientHello, reason.SNIUnknown, "no certificate is made for any name of the destination's")
	}
	slices.Sort(names)
	return m.get(ctx, names)
}

func (m *Issuer) allowed(name string) bool {
	return slices.ContainsFunc(m.names, func(p pattern) bool { return p.matches(name) })
}

// get returns a leaf from the cache, or makes it, once for all callers that ask at the
// same time.
func (m *Issuer) get(ctx context.Context, names []string) (*tls.Certificate, error) {
	key := strings.Join(names, "\n")
	if cert := m.cached(key); cert != nil {
		return cert, nil
	}
	// Signing takes microseconds, with a key in hardware longer. No caller waits beyond
	// its own deadline, and the result is cached for the next one all the same.
	done := m.group.DoChan(key, func() (any, error) {
		if cert := m.cached(key); cert != nil {
			return cert, nil
		}
		cert, err := m.make(names)
		if err != nil {
			return nil, err
		}
		m.keep(key, cert)
		return cert, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*tls.Certificate), nil //nolint:forcetypeassert // the function above returns nothing else
	}
}

// Cached is how many leaves are kept.
func (m *Issuer) Cached() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.leaves)
}

func (m *Issuer) cached(key string) *tls.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.leaves[key]
	if !ok {
		return nil
	}
	l := e.Value.(*leaf) //nolint:forcetypeassert // the list has nothing else
	if now := m.c.Now(); !now.Before(l.renew) || now.Before(l.cert.Leaf.NotBefore) {
		m.recent.Remove(e)
		delete(m.leaves, key)
		return nil
	}
	m.recent.MoveToFront(e)
	return l.cert
}

func (m *Issuer) keep(key string, cert *tls.Certificate) {
	renew := times.Part(m.c.Now(), cert.Leaf.NotAfter, 2, 3)
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.leaves[key]; ok {
		m.recent.Remove(old)
	}
	m.leaves[key] = m.recent.PushFront(&leaf{key: key, cert: cert, renew: renew})
	for len(m.leaves) > maxCached {
		last := m.recent.Back()
		m.recent.Remove(last)
		delete(m.leaves, last.Value.(*leaf).key) //nolint:forcetypeassert // the list has nothing else
	}
}

// make signs a leaf and verifies it as a client would: that finds, by the same rules,
// names for which the issuer may not speak.
func (m *Issuer) make(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // RFC 5280, section 4.1.2.2
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	now, ca := m.c.Now(), m.c.Chain[0]
	t := &x509.Certificate{
		SerialNumber: serial, DNSNames: names,
		NotBefore: latest(now.Add(-backdate), ca.NotBefore), NotAfter: now.Add(m.c.Lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if len(names[0]) <= 64 { // the upper bound of a common name (RFC 5280, appendix A.1)
		t.Subject = pkix.Name{CommonName: names[0]}
	}
	for _, c := range m.c.Chain {
		if c.NotAfter.Before(t.NotAfter) {
			t.NotAfter = c.NotAfter
		}
	}
	if !t.NotAfter.After(now) {
		return nil, errors.New("the issuer has expired")
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, key.Public(), m.c.Key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read what was signed: %w", err)
	}
	if err := m.verify(cert, now); err != nil {
		e := handshake.Refuse(handshake.StepClientHello, reason.SNIUnknown, "the issuer may not make a certificate for this name")
		e.Err = err
		return nil, e
	}
	out := &tls.Certificate{PrivateKey: key, Leaf: cert, Certificate: [][]byte{der}}
	for _, c := range m.c.Chain {
		if string(c.RawSubject) != string(c.RawIssuer) { // a root is not sent
			out.Certificate = append(out.Certificate, c.Raw)
		}
	}
	return out, nil
}

func (m *Issuer) verify(cert *x509.Certificate, now time.Time) error {
	roots, rest := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(m.c.Chain[len(m.c.Chain)-1])
	for _, c := range m.c.Chain[:len(m.c.Chain)-1] {
		rest.AddCert(c)
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: rest, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
