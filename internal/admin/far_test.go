package admin

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"crypto/x509"
	"math/big"

	"github.com/sslgate/sslgate/internal/revocation"
)

// Dates of certificates and lists are answered whatever they are: an offset takes
// them beyond the year 9999 or before the year 0, for which time.Time has no JSON,
// and one such certificate would silence the whole answer.
func TestFarDatesAreAnswered(t *testing.T) {
	at := func(y int) time.Time { return time.Date(y, 6, 1, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		from, to      time.Time
		shown, shownT string
		days          float64 // about, from 2026 on
	}{
		{at(2020), at(9999), "2020-06", "9999-06", 2912000},
		{at(1950), time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600)), "1950-06", "9999-12", 2912400},
		{time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)), at(1950), "0001-01", "1950-06", -27600},
		{at(0), at(1), "0001-01", "0001-06", -739000},
	} {
		cert := CertificateOf("authority", "far", "far.pem", &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: c.from, NotAfter: c.to})
		if years := (cert.DaysLeft - c.days) / 365; math.Abs(years) > 60 {
			t.Errorf("%s to %s: %v days left, want about %v", c.from, c.to, cert.DaysLeft, c.days)
		}
		st := revocation.Stats{Authorities: map[string]revocation.AuthorityStats{"far": {Lists: []revocation.ListStats{{ThisUpdate: c.from, NextUpdate: c.to}}}}}
		lists, status := RevocationListsOf(st), RevocationOf(st)
		for what, v := range map[string]any{"certificate": cert, "lists": lists, "status": status} {
			b, err := json.Marshal(v)
			if err != nil || !strings.Contains(string(b), c.shownT) || what != "status" && !strings.Contains(string(b), c.shown) {
				t.Errorf("%s to %s: %s: %s, %v", c.from, c.to, what, b, err)
			}
		}
	}
}
