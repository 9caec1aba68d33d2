package service

import (
	"crypto/x509"
	"maps"
	"slices"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/policy"
)

// The kinds of certificates.
const (
	kindIdentity  = "identity"
	kindAuthority = "authority"
)

// Certificates lists the certificates of the configuration, the earliest expiry first.
func (s *Service) Certificates() []admin.Certificate {
	all := []admin.Certificate{}
	for _, u := range usedBy(s.runtime()) {
		all = append(all, *u.shown())
	}
	slices.SortStableFunc(all, func(a, b admin.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return all
}

// usedBy returns the certificates of the moment, by name of identity, then of authority. It is
// never nil.
func usedBy(rt *config.Runtime) []used {
	all := []used{}
	for _, name := range slices.Sorted(maps.Keys(rt.Environment.Identities)) {
		all = append(all, usedByIdentity(name, rt.Config.Identities[name], rt.Environment.Identities[name])...)
	}
	for _, name := range slices.Sorted(maps.Keys(rt.Environment.Authorities)) {
		a, c := rt.Environment.Authorities[name].Current(), rt.Config.Authorities[name]
		if c.SPIFFE != nil {
			c.Roots = c.SPIFFE.Socket
		}
		for _, root := range a.Roots {
			all = append(all, used{kindAuthority, name, c.Roots, root})
		}
		for _, ca := range a.Intermediates {
			all = append(all, used{kindAuthority, name, c.Intermediates, ca})
		}
	}
	return all
}

// usedByIdentity returns the certificates whose expiry ends the identity. For an
// identity that makes certificates on demand these are the issuer and the CAs above it.
func usedByIdentity(name string, c config.Identity, id policy.Identity) []used {
	var all []used
	if minted, ok := id.Source.(*identity.Minted); ok {
		if m, ok := minted.Minter().(interface{ Chain() []*x509.Certificate }); ok {
			for _, ca := range m.Chain() {
				all = append(all, used{kindIdentity, name, c.Issuer, ca})
			}
		}
		return all
	}
	if f, ok := id.Source.(*identity.File); ok && f.Awaited() {
		return nil
	}
	for i, pair := range id.Certificates() {
		file := c.Certificate
		if c.SPIFFE != nil {
			file = c.SPIFFE.Socket
		}
		if i > 0 && i <= len(c.Also) {
			file = c.Also[i-1].Certificate
		}
		if leaf := pair.Leaf; leaf != nil {
			all = append(all, used{kindIdentity, name, file, leaf})
		}
	}
	return all
}
