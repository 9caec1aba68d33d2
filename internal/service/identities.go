package service

import (
	"cmp"
	"slices"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
)

// identitySources are the identities whose certificates somebody renews, in the order of their
// names.
func identitySources(rt *config.Runtime, now time.Time) []admin.IdentitySource {
	all := []admin.IdentitySource{}
	for _, o := range rt.Own {
		s := admin.IdentitySource{Name: o.Name, Source: o.Kind(), HoursLeft: hoursLeft(now, o.Ends())}
		if ends := o.Ends(); !ends.IsZero() {
			s.NotAfter = &ends
		}
		if err := o.Failed(); err != nil {
			s.Error = err.Error()
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b admin.IdentitySource) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
