package config

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/acmeclient"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/mint"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/signer"
	"github.com/sslgate/sslgate/policy"
)

// pairs are all certificates of an identity, the first one first. Where it is ordered they stand
// where placeACME says.
func (id Identity) pairs() []KeyPair {
	return append([]KeyPair{{Certificate: id.Certificate, Key: id.Key, Passphrase: id.Passphrase, OCSP: id.OCSP}}, id.Also...)
}

func (f *File) checkIdentity(path string, id *Identity) {
	if id.ACME != nil {
		f.checkACME(path, id)
		return
	}
	f.check(id.Key != "", path+".key", "is missing: the PEM file of the private key")
	if id.Issuer == "" {
		f.check(id.Certificate != "", path+".certificate", "is missing: the PEM file of the certificate")
		f.check(id.Names == nil, path+".names", "has no effect without issuer: certificates are made by a CA")
		f.check(id.Lifetime == 0, path+".lifetime", "has no effect without issuer")
	} else {
		f.check(id.Certificate == "", path+".certificate", "with issuer the certificates are made on demand: leave one of them out")
		f.check(id.Also == nil, path+".also", "with issuer the certificates are made on demand: leave one of them out")
		f.check(id.OCSP == "", path+".ocsp", "with issuer the certificates are made on demand: there is nothing to staple")
		f.check(len(id.Names) > 0, path+".names", `is missing: the names that certificates may be made for, such as ["*.example.org"]`)
	}
	for i, p := range id.Also {
		f.check(p.Certificate != "", indexPath(path+".also", i)+".certificate", "is missing: the PEM file of the certificate")
		f.check(p.Key != "", indexPath(path+".also", i)+".key", "is missing: the PEM file of the private key")
	}
}

// minted loads an identity whose certificates are made on demand.
func (b *builder) minted(name, path string, id Identity) (policy.Identity, bool) {
	file := b.file.abs(id.Issuer)
	_, chain := b.certificatesBy(path+".issuer", id.Issuer, func(f fileset.File) ([]*x509.Certificate, error) { return pki.ParseChain(f.Text, f.Mode) })
	if chain == nil {
		return policy.Identity{}, false
	}
	for i, c := range chain {
		what := file + ": the issuing CA"
		if i > 0 {
			what = fmt.Sprintf("%s: certificate %d (%s)", file, i+1, certname.Quoted(c))
		}
		b.expiring(path+".issuer", file, what, c)
	}
	b.chainFits(path+".issuer", file, chain)
	key := b.privateKey(path, id.Key, id.Passphrase)
	if key == nil {
		return policy.Identity{}, false
	}
	m, err := mint.New(mint.Config{Chain: chain, Key: key, Names: id.Names, Lifetime: id.Lifetime.Std()})
	if err != nil {
		b.add(path+".issuer", file+": "+err.Error())
		return policy.Identity{}, false
	}
	if b.issuers == nil {
		b.issuers = map[string]*x509.Certificate{}
	}
	b.issuers[name] = chain[0]
	return policy.Identity{Name: name, Source: identity.NewMinted(m, m.Blank(), id.Names)}, true
}

// keysApart finds what keys must not be used for two things: that of a CA that
// makes certificates is no authority of clients, and an RSA key of key
// transport is in no other profile, for Bleichenbacher's attack on the one
// works against the other.
func (b *builder) keysApart(env policy.Environment) {
	transport := map[string]string{} // SPKI of an RSA key: rule that uses it for key transport
	rules := b.file.Config.Policy.Rules
	each := func(f func(i int, r policy.RuleSpec, id policy.Identity, p handshake.Profile)) {
		for i, r := range rules {
			if p, ok := env.Profiles[cmp.Or(r.Profile, policy.DefaultProfile)]; ok {
				f(i, r, env.Identities[r.Identity], p)
			}
		}
	}
	rsaKeys := func(id policy.Identity) []string {
		var keys []string
		for _, c := range id.Certificates() {
			if _, ok := c.Leaf.PublicKey.(*rsa.PublicKey); ok {
				keys = append(keys, string(c.Leaf.RawSubjectPublicKeyInfo))
			}
		}
		return keys
	}
	each(func(i int, r policy.RuleSpec, id policy.Identity, p handshake.Profile) {
		if !p.KeyTransport() {
			return
		}
		keys := rsaKeys(id)
		b.warn(indexPath("policy.rules", i)+".profile", fmt.Sprintf("profile %q allows RSA key transport: no forward secrecy, whoever gets the key reads what was recorded before", p.Name))
		for _, k := range keys {
			transport[k] = r.Name
		}
	})
	each(func(i int, r policy.RuleSpec, id policy.Identity, p handshake.Profile) {
		for _, k := range rsaKeys(id) {
			if other, ok := transport[k]; ok && !p.KeyTransport() {
				b.add(indexPath("policy.rules", i)+".identity", fmt.Sprintf("the RSA key of %q is used for key transport by rule %q: it must have no other use (Bleichenbacher's attack)", r.Identity, other))
			}
		}
	})
	b.mintersApart(env)
}

// servesClients says whether the identity at a path is shown to clients: by a
// rule, or by none that uses it towards a destination either.
func (b *builder) servesClients(path string) bool {
	destination := false
	for _, r := range b.file.Config.Policy.Rules {
		if r.Identity != "" && strings.HasPrefix(path+".", keyPath("identities", r.Identity)+".") {
			return true
		}
		destination = destination || r.Destination.Identity != "" && strings.HasPrefix(path+".", keyPath("identities", r.Destination.Identity)+".")
	}
	return !destination
}

// Own is an identity whose certificates and keys stand in files. Somebody else renews the
// files; Renew then reads them again. It is safe for many goroutines.
type Own struct {
	Name string
	// Files are those of its certificates, keys and passphrases.
	Files []string

	file   *File               // what names them; its values do not change
	env    *policy.Environment // that the rules were compiled with
	from   fileset.Source
	source *identity.File

	order    *acmeclient.Order // by which it is renewed; nil: somebody else does that
	renewing sync.Mutex        // one Renew at a time

	mu      sync.Mutex // guards what follows
	staples []*Staple
	failed  error // why what stands in the files is not used; nil: it is
	silent  error // why a signer of it does not sign, or the last order failed; nil: all is well
	asks    int   // how often in a row a signer did not
	signers map[string]*asked
}

// Renew reads the files again, and puts what stands there in the place of what is shown:
// all certificates of the identity, with their keys, or none. They are held to the rules
// of a load. With an error those of before stay in use: what is found while somebody
// writes the files, such as a key that does not belong to the certificate, is never shown.
// identity.ErrOtherKind says that only a reload can take what is there. An OCSP response
// that does not fit yet hinders nothing: it is read again when its file changes.
func (o *Own) Renew(now time.Time) (changed bool, err error) {
	o.renewing.Lock()
	defer o.renewing.Unlock()
	changed, staples, err := o.read(now)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed = err; changed {
		o.staples = staples
	}
	return changed, err
}

func (o *Own) read(now time.Time) (changed bool, _ []*Staple, err error) {
	if o.notThere() {
		return false, nil, nil
	}
	f := *o.file
	f.in = newLoading(context.Background(), nil, o.from)
	defer f.in.files.Close()
	b := &builder{file: &f, now: now, failed: map[string]bool{}, renews: true, inUse: o.source.Certificates(), signers: unasked(o.signers)}
	certs, shown := b.pairs(keyPath("identities", o.Name), o.Name, f.Config.Identities[o.Name])
	if err := failure(b.findings); err != nil {
		return false, nil, err
	}
	if slices.EqualFunc(certs, o.source.Certificates(), sameChain) {
		return false, nil, nil
	}
	env := *o.env
	env.Identities = maps.Clone(env.Identities)
	env.Identities[o.Name] = policy.Identity{Name: o.Name, Source: identity.NewFile(certs, nil)}
	b.keysApart(env)
	if err := failure(b.findings); err != nil {
		return false, nil, err
	}
	if err := o.source.Replace(certs, shown); err != nil {
		return false, nil, fmt.Errorf("%s: %w", strings.Join(o.Files, ", "), err)
	}
	return true, b.staples, nil
}

func sameChain(a, b tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, slices.Equal)
}

// failure is the first mistake among findings: the others follow from it, or are said once
// it is mended.
func failure(all []Finding) error {
	for _, f := range all {
		if !f.Warning {
			return errors.New(f.Msg)
		}
	}
	return nil
}

// Ask asks the signers of the identity whether they have its keys, where it has any, and what
// those sign with.
func (o *Own) Ask(ctx context.Context) {
	if len(o.signers) == 0 {
		return
	}
	said := map[string][]signer.KeyInfo{}
	var silent error
	for socket, a := range o.signers {
		keys, err := a.Keys(ctx)
		if said[socket] = keys; err != nil {
			silent = err
		}
	}
	was := o.source.Certificates()
	now, differ := slices.Clone(was), false
	for i, c := range was {
		key, ok := c.PrivateKey.(*signer.Remote)
		if !ok || silent != nil {
			continue
		}
		schemes, err := key.Among(slices.Concat(slices.Collect(maps.Values(said))...))
		if err != nil {
			silent = err
		} else if !slices.Equal(schemes, c.SupportedSignatureAlgorithms) {
			now[i].SupportedSignatureAlgorithms, differ = schemes, true
		}
	}
	if differ && silent == nil { // it did not answer when the certificate was loaded, or is another one now
		o.source.Refit(was, now)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.silent = silent; silent == nil {
		o.asks = 0
	} else {
		o.asks++
	}
}

// Silent is why handshakes that need a signature of its signers fail, where Ask has found it
// twice in a row: one answer may be late. nil: they sign, or there are none.
func (o *Own) Silent() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asks < 2 {
		return nil
	}
	return o.silent
}

// Close ends the connections with signers that are kept for the next signatures: another
// configuration is in force.
func (o *Own) Close() {
	for _, a := range o.signers {
		a.Close()
	}
}

// Failed is why the source fails, as of the last Renew and Ask: what stands in the files is
// not used, or a signer does not sign. nil: all is well.
func (o *Own) Failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return cmp.Or(o.failed, o.silent, o.awaited())
}

// Staples are the OCSP responses shown with the certificates of the moment.
func (o *Own) Staples() []*Staple {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.staples
}

// Ends is when the first of the certificates in use ends; the zero time where there is none yet.
func (o *Own) Ends() time.Time {
	var ends time.Time
	if o.source.Awaited() {
		return ends
	}
	for _, c := range o.source.Certificates() {
		if leaf := handshake.LeafOf(&c); leaf != nil && (ends.IsZero() || leaf.NotAfter.Before(ends)) {
			ends = leaf.NotAfter
		}
	}
	return ends
}

// Stamp is a text that changes when one of the files does.
func (o *Own) Stamp() string { return stampsOf(o.from, o.Files) }

// own is an identity of files, with its source; nil where there is nothing to go on with.
func (b *builder) own(name string, id Identity) *Own {
	before := len(b.findings)
	staples := len(b.staples)
	o := &Own{Name: name, file: b.file, from: b.file.in.files.Source(), signers: map[string]*asked{}}
	certs, shown := b.pairs(keyPath("identities", name), name, id)
	switch {
	case id.ACME != nil:
		if !b.ordered(o, id, certs, before) {
			return nil
		}
	case Failed(b.findings[before:]) || len(certs) == 0:
		return nil
	default:
		o.source, o.staples = identity.NewFile(certs, shown), slices.Clone(b.staples[staples:])
	}
	for _, p := range id.pairs() {
		for _, name := range []string{p.Certificate, p.Key, p.Passphrase} {
			if socket, ok := signerSocket(name); ok {
				at := fileset.Place(filepath.Dir(b.file.Name), socket)
				o.signers[at] = b.signers[at]
			} else if name != "" {
				o.Files = append(o.Files, b.file.abs(name))
			}
		}
	}
	return o
}

// pairs loads the certificates of an identity with their keys and OCSP responses.
func (b *builder) pairs(path, name string, id Identity) (certs []tls.Certificate, shown []*handshake.Staple) {
	for i, pair := range id.pairs() {
		at := path
		if i > 0 {
			at = indexPath(path+".also", i-1)
		}
		if cert, staple := b.pair(at, name, pair); cert != nil {
			certs, shown = append(certs, *cert), append(shown, staple)
		}
	}
	return certs, shown
}

// Staples are the OCSP responses shown with identities.
func (rt *Runtime) Staples() []*Staple {
	var all []*Staple
	for _, o := range rt.Own {
		all = append(all, o.Staples()...)
	}
	return all
}

// Watched are the files whose change asks for a reload: all that were read, but for
// certificates and keys that are renewed without one. Those of identities count where only a
// reload can take what is there.
func (rt *Runtime) Watched() []string {
	if !rt.Config.Reload.Renew {
		return rt.Files
	}
	times := map[string]int{}
	for _, name := range uses(rt.Config) {
		times[name]++
	}
	renewed := map[string]bool{}
	reads := func(files []string) {
		for _, name := range files {
			if times[name]--; times[name] <= 0 {
				renewed[name] = true
			}
		}
	}
	for _, o := range rt.Own {
		reads(o.Files)
	}
	for _, t := range rt.Trusted {
		if !t.Shadow {
			reads(t.Files)
		}
	}
	for _, o := range rt.Own {
		if errors.Is(o.Failed(), identity.ErrOtherKind) {
			for _, name := range o.Files {
				delete(renewed, name)
			}
		}
	}
	for _, t := range rt.Trusted {
		if errors.Is(t.Failed(), ErrNewRoot) {
			for _, name := range t.Files {
				delete(renewed, name)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(rt.Files), func(name string) bool { return renewed[name] })
}
