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
	rt := s.runtime()
	all := []admin.Certificate{}
	for _, name := range slices.Sorted(maps.Keys(rt.Environment.Identities)) {
		all = append(all, identityCertificates(name, rt.Config.Identities[name], rt.Environment.Identities[name])...)
	}
	for _, name := range slices.Sorted(maps.Keys(rt.Environment.Authorities)) {
		for _, root := range rt.Environment.Authorities[name].Roots {
			all = append(all, admin.CertificateOf(kindAuthority, name, rt.Config.Authorities[name].Roots, root))
		}
		for _, ca := range rt.Environment.Authorities[name].Intermediates {
			all = append(all, admin.CertificateOf(kindAuthority, name, rt.Config.Authorities[name].Intermediates, ca))
		}
	}
	slices.SortStableFunc(all, func(a, b admin.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return all
}

// identityCertificates returns the certificates whose expiry ends the identity. For an
// identity that makes certificates on demand these are the issuer and the CAs above it.
func identityCertificates(name string, c config.Identity, id policy.Identity) []admin.Certificate {
	var all []admin.Certificate
	if minted, ok := id.Source.(*identity.Minted); ok {
		if m, ok := minted.Minter().(interface{ Chain() []*x509.Certificate }); ok {
			for _, ca := range m.Chain() {
				all = append(all, admin.CertificateOf(kindIdentity, name, c.Issuer, ca))
			}
		}
		return all
	}
	for i, pair := range id.Certificates() {
		file := c.Certificate
		if i > 0 && i <= len(c.Also) {
			file = c.Also[i-1].Certificate
		}
		if leaf := pair.Leaf; leaf != nil {
			all = append(all, admin.CertificateOf(kindIdentity, name, file, leaf))
		}
	}
	return all
}
