package config

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/spiffe"
	"github.com/sslgate/sslgate/policy"
)

// Trusted is an authority whose certificates stand in files, or come from an agent, and the source
// of them. Somebody else renews the files; Renew then reads them again. Its name, and what it is permitted, do
// not change by that, so the policy stays the same. It is safe for many goroutines.
type Trusted struct {
	Name string
	// Files are those of its roots and intermediates.
	Files []string
	// Shadow says that the configuration of the shadow has it.
	Shadow bool

	file       *File               // what names them; its values do not change
	env        *policy.Environment // that the rules were compiled with
	from       fileset.Source
	issuers    map[string]*x509.Certificate // the CAs of our own, which make certificates on demand
	spiffe.Use                              // from which it comes

	now atomic.Pointer[handshake.Authority]

	renewing sync.Mutex // one Renew at a time
	mu       sync.Mutex // guards failed
	failed   error      // why what stands in the files is not used; nil: it is
}

// ErrNewRoot says that files have a root with a key that was not trusted before. A reload takes
// it, or reload.add_roots.
var ErrNewRoot = errors.New("a CA that was not trusted before, which `sslgate reload` takes, or `reload: {add_roots: true}`")

// newKey is the first of the roots whose key none of those before has; nil: they were renewed or
// taken out.
func newKey(before, now []*x509.Certificate) *x509.Certificate {
	for _, c := range now {
		if !hasKey(before, c) {
			return c
		}
	}
	return nil
}

// hasKey says whether one of the certificates has the key of another one.
func hasKey(certs []*x509.Certificate, of *x509.Certificate) bool {
	return slices.ContainsFunc(certs, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubjectPublicKeyInfo, of.RawSubjectPublicKeyInfo)
	})
}

// Current is the authority of the moment.
func (t *Trusted) Current() *handshake.Authority { return t.now.Load() }

// Renew reads the files again, and puts what stands there in the place of what is trusted:
// all of it, or nothing. It is held to the rules of a load. With an error the certificates of
// before stay in use.
func (t *Trusted) Renew(now time.Time) (changed bool, err error) {
	t.renewing.Lock()
	defer t.renewing.Unlock()
	changed, err = t.read(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = err
	return changed, err
}

func (t *Trusted) read(now time.Time) (changed bool, err error) {
	f := *t.file
	f.in = newLoading(context.Background(), nil, t.from)
	defer f.in.files.Close()
	stamp := t.Stamp()
	b := &builder{file: &f, now: now, failed: map[string]bool{}, renews: true, issuers: t.issuers}
	was := t.now.Load()
	if t.FromAgent() {
		next, err := t.take(b)
		if next == nil || sameCAs(next, was) {
			return false, err
		}
		changed, other := t.put(b, next)
		return changed, cmp.Or(other, err)
	}
	next := b.anchors(t.Name)
	if err := unchanged(t, stamp); err != nil {
		return false, err
	}
	if err := failure(b.findings); err != nil {
		return false, err
	}
	if next == nil {
		return false, errors.New(strings.Join(t.Files, ", ") + ": there is no certificate to trust")
	}
	if added := newKey(was.Roots, next.Roots); added != nil && !f.Config.Reload.AddRoots {
		return false, fmt.Errorf("%s: %w: %s", strings.Join(t.Files, ", "), ErrNewRoot, certname.Quoted(added))
	}
	if sameCAs(next, was) {
		return false, nil
	}
	return t.put(b, next)
}

// put trusts what was read.
func (t *Trusted) put(b *builder, next *handshake.Authority) (changed bool, err error) {
	env := *t.env
	env.Authorities = maps.Clone(env.Authorities)
	env.Authorities[t.Name] = next
	b.mintersApart(env)
	if err := failure(b.findings); err != nil {
		return false, err
	}
	t.now.Store(next)
	return true, nil
}

// Failed is why the source fails, as of the last Renew. nil: all is well.
func (t *Trusted) Failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return cmp.Or(t.failed, t.Use.Failing())
}

// Ends is when the first of the roots ends.
func (t *Trusted) Ends() time.Time {
	var ends time.Time
	for _, c := range t.Current().Roots {
		if ends.IsZero() || c.NotAfter.Before(ends) {
			ends = c.NotAfter
		}
	}
	return ends
}

// Stamp is a text that changes when one of the files does, or the agent says something.
func (t *Trusted) Stamp() string { return stampsOf(t.from, t.Files) + t.Use.Stamp() }

func stampsOf(from fileset.Source, files []string) string {
	var b strings.Builder
	for _, name := range files {
		stamp, err := from.Stamp(name)
		if err != nil {
			stamp = err.Error()
		}
		fmt.Fprintf(&b, "%s\n", stamp)
	}
	return b.String()
}

// trusted is the source of an authority that was loaded.
func (b *builder) trusted(a *handshake.Authority, env *policy.Environment) *Trusted {
	t := &Trusted{Name: a.Name, file: b.file, env: env, from: b.file.in.files.Source()}
	t.now.Store(a)
	c := b.file.Config.Authorities[a.Name]
	if c.SPIFFE != nil {
		t.Socket, _ = spiffe.Socket(c.SPIFFE.Socket)
	}
	for _, name := range []string{c.Roots, c.Intermediates} {
		if name != "" {
			t.Files = append(t.Files, b.file.abs(name))
		}
	}
	b.trusts = append(b.trusts, t)
	return t
}

// mintersApart finds a CA of our own that makes certificates on demand and is an authority of
// clients: whoever gets it to make a certificate would be such a client.
func (b *builder) mintersApart(env policy.Environment) {
	for i, r := range b.file.Config.Policy.Rules {
		for j, name := range r.Client.Authorities {
			var a *handshake.Authority
			if loaded := env.Authorities[name]; loaded != nil {
				a = loaded.Current()
			}
			for _, minter := range slices.Sorted(maps.Keys(b.issuers)) {
				ca := b.issuers[minter]
				if a != nil && (hasKey(a.Roots, ca) || hasKey(a.Intermediates, ca)) {
					b.add(indexPath(indexPath("policy.rules", i)+".client.authorities", j), fmt.Sprintf("%q trusts the CA of identity %q, which makes certificates on demand: it must vouch for no client", name, minter))
				}
			}
		}
	}
}

// anchors reads the certificates of an authority; nil means that there are none to go on
// with, and why was added.
func (b *builder) anchors(name string) *handshake.Authority {
	a, path := b.file.Config.Authorities[name], keyPath("authorities", name)+".roots"
	if a.SPIFFE != nil {
		return b.bundle(name)
	}
	if a.Roots == "" {
		return nil
	}
	file, certs := b.certificates(path, a.Roots)
	if certs == nil {
		return nil
	}
	if !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return b.now.Before(c.NotAfter) }) {
		b.ending(path, file+": expired, every certificate in it: nobody can be verified", renewed(file), false)
		return nil
	}
	roots, good := make([]*x509.Certificate, 0, len(certs)), true
	for i, c := range certs {
		what := fmt.Sprintf("%s: certificate %d (%s)", file, i+1, certname.Quoted(c))
		if slices.ContainsFunc(roots, c.Equal) {
			b.warn(path, what+" is there twice")
			continue
		}
		good = b.anchor(path, file, what, c) && good
		roots = append(roots, c)
	}
	if !good {
		return nil
	}
	anchors := &handshake.Authority{Name: name, Roots: roots}
	b.intermediates(keyPath("authorities", name)+".intermediates", a.Intermediates, anchors)
	return anchors
}
