package config

import (
	"cmp"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/mint"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/policy"
)

// pairs are all certificates of an identity, the first one first. Where it is ordered they stand
// where placeACME says.
func (id Identity) pairs() []KeyPair {
	return append([]KeyPair{{Certificate: id.Certificate, Key: id.Key, Passphrase: id.Passphrase, OCSP: id.OCSP}}, id.Also...)
}

func (f *File) checkIdentity(path string, id *Identity) {
	if id.SPIFFE != nil {
		f.checkSVID(path, id)
		return
	}
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
