package config

import (
	"cmp"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"maps"
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

// pairs are all certificates of an identity, the first one first.
func (id Identity) pairs() []KeyPair {
	return append([]KeyPair{{id.Certificate, id.Key, id.OCSP}}, id.Also...)
}

func (f *File) checkIdentity(path string, id *Identity) {
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
	key := b.privateKey(path+".key", id.Key)
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
	for i, r := range rules {
		for j, name := range r.Client.Authorities {
			var a *handshake.Authority
			if loaded := env.Authorities[name]; loaded != nil {
				a = loaded.Current()
			}
			for _, minter := range slices.Sorted(maps.Keys(b.issuers)) {
				ca := b.issuers[minter]
				if a != nil && slices.ContainsFunc(slices.Concat(a.Roots, a.Intermediates), func(c *x509.Certificate) bool {
					return string(c.RawSubjectPublicKeyInfo) == string(ca.RawSubjectPublicKeyInfo)
				}) {
					b.add(indexPath(indexPath("policy.rules", i)+".client.authorities", j), fmt.Sprintf("%q trusts the CA of identity %q, which makes certificates on demand: it must vouch for no client", name, minter))
				}
			}
		}
	}
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
