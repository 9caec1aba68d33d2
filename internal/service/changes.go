package service

import (
	"cmp"
	"crypto/x509"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
)

// maxChanges bounds the changed certificates that one look names; of the others it gives the
// number.
const maxChanges = 64

// changes knows which certificates were in use at the last look. It notices those of a reload,
// and those that the source of an identity has replaced by itself.
type changes struct {
	mu   sync.Mutex
	seen []used
}

// used is a certificate of the configuration in force.
type used struct {
	kind, name, file string
	cert             *x509.Certificate
}

// key tells it from all others.
func (u *used) key() string { return u.kind + "\x00" + u.name + "\x00" + string(u.cert.Raw) }

// look returns what has changed since the last look, ordered by kind and name, and logs it. more
// counts the changes that are not returned. The first look finds nothing.
func (c *changes) look(rt *config.Runtime, log *zap.Logger) (all []admin.CertificateChange, more int) {
	now := usedBy(rt)
	c.mu.Lock()
	before := c.seen
	c.seen = now
	c.mu.Unlock()
	if before == nil {
		return nil, 0
	}
	all = compare(before, now)
	more = max(len(all)-maxChanges, 0)
	all = all[:len(all)-more]
	for i := range all {
		log.Info("certificate changed", fieldsOf(&all[i])...)
	}
	if more > 0 {
		log.Info("more certificates changed", zap.Int("number", more))
	}
	return all, more
}

// compare pairs, for each identity and authority, the certificates that went with those that
// came, in their order.
func compare(before, now []used) []admin.CertificateChange {
	type group struct{ kind, name string }
	gone, come := map[group][]used{}, map[group][]used{}
	missing := func(from, in []used, into map[group][]used) {
		have := map[string]bool{}
		for _, u := range in {
			have[u.key()] = true
		}
		for _, u := range from {
			if !have[u.key()] {
				into[group{u.kind, u.name}] = append(into[group{u.kind, u.name}], u)
			}
		}
	}
	missing(before, now, gone)
	missing(now, before, come)
	groups := map[group]bool{}
	for g := range gone {
		groups[g] = true
	}
	for g := range come {
		groups[g] = true
	}
	var all []admin.CertificateChange
	for g := range groups {
		for i := range max(len(gone[g]), len(come[g])) {
			change := admin.CertificateChange{Kind: g.kind, Name: g.name}
			if i < len(gone[g]) {
				change.Old = gone[g][i].shown()
			}
			if i < len(come[g]) {
				change.New = come[g][i].shown()
			}
			all = append(all, change)
		}
	}
	slices.SortStableFunc(all, func(a, b admin.CertificateChange) int {
		return cmp.Or(-cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) // identities first
	})
	return all
}

func (u *used) shown() *admin.Certificate {
	c := admin.CertificateOf(u.kind, u.name, u.file, u.cert)
	return &c
}

// fieldsOf is a change for the log.
func fieldsOf(c *admin.CertificateChange) []zap.Field {
	fields := []zap.Field{zap.String(c.Kind, c.Name)}
	for _, side := range []struct {
		when string
		cert *admin.Certificate
	}{{"", c.New}, {"before_", c.Old}} {
		if side.cert != nil {
			fields = append(fields, zap.String(side.when+"subject", side.cert.Subject), zap.String(side.when+"serial", side.cert.Serial),
				zap.Time(side.when+"not_after", side.cert.NotAfter))
		}
	}
	return fields
}

// lookForChanges is a look between reloads: the source of an identity or an authority may have
// replaced its certificates. Where those of an authority have changed, live flows are decided
// again under `reload: {live: reevaluate}`, as at a reload; flows that are not granted yet ask
// by themselves. While a reload is under way that one looks.
func (s *Service) lookForChanges() {
	if !s.reloading.TryLock() {
		return
	}
	defer s.reloading.Unlock()
	rt := s.runtime()
	s.changes.look(rt, s.log)
	if !s.trustChanged(rt) {
		return
	}
	ended := 0
	if rt.Config.Reload.Live == "reevaluate" {
		ended = s.reevaluate(rt.Set)
	}
	s.log.Info("authorities changed", zap.String("policy", rt.Set.ID()), zap.Int("ended", ended))
}

// trustChanged says whether an authority has other certificates than at the last call. Whoever
// calls it holds reloading, or is alone.
func (s *Service) trustChanged(rt *config.Runtime) bool {
	before := s.trust
	s.trust = rt.Set.Trust()
	return s.trust != before
}
