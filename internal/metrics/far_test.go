package metrics

import (
	"fmt"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/revocation"
)

// Dates beyond what nanoseconds hold have their own second in the metrics, and
// one in the year 1 is not mistaken for none.
func TestFarDates(t *testing.T) {
	for _, y := range []int{9999, 2400, 1950, 1, 0} {
		from, to := time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(y, 7, 1, 0, 0, 0, 0, time.UTC)
		text := scrape(t, New(Info{}, Sources{
			Revocation: func() revocation.Stats {
				return revocation.Stats{Authorities: map[string]revocation.AuthorityStats{"far": {Lists: []revocation.ListStats{{ThisUpdate: from, NextUpdate: to}}}}}
			},
			Staples:      func() []Staple { return []Staple{{"far", to}} },
			Certificates: func() []Certificate { return []Certificate{{"identity", "far", to}} },
		}))
		has(t, text,
			fmt.Sprintf(`sslgate_crl_this_update_timestamp_seconds{authority="far"} %v`, float64(from.Unix())),
			fmt.Sprintf(`sslgate_crl_next_update_timestamp_seconds{authority="far"} %v`, float64(to.Unix())),
			fmt.Sprintf(`sslgate_ocsp_staple_expiry_timestamp_seconds{name="far"} %v`, float64(to.Unix())),
			fmt.Sprintf(`sslgate_certificate_expiry_timestamp_seconds{kind="identity",name="far"} %v`, float64(to.Unix())))
	}
}
