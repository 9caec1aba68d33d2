package revocation

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

func year(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }

// Lists have any date from the year 1 to 9999, which exceeds a Duration.
func TestListsOfFarDates(t *testing.T) {
	w := newWorld(t)
	now := year(2026)
	for _, c := range []struct {
		this, next time.Time
		want       stage
		due        time.Duration // at most until the source is asked again
	}{
		{year(2025), year(9999), fresh, DefaultRefresh},
		{year(1), year(9999), fresh, DefaultRefresh},
		{year(1950), year(9999), fresh, DefaultRefresh},
		{year(1), year(2027), late, DefaultRefresh},
		{year(1), year(2800), late, DefaultRefresh}, // two thirds are over in 1867
		{year(1), year(3100), fresh, DefaultRefresh},
		{year(1950), year(2026).Add(time.Hour), urgent, 15*time.Minute + lateRetry},
		{year(1), year(1950), expired, 2 * lateRetry},
		{year(1950), year(1951), expired, 2 * lateRetry},
		{year(9998), year(9999), expired, DefaultRefresh}, // not valid yet
		{year(2300), year(9999), expired, DefaultRefresh},
	} {
		name := c.this.Format("2006") + " to " + c.next.Format("2006")
		der := mustCRL(t, w, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: c.this, NextUpdate: c.next})
		lists, err := ParseLists(der, w.cas())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		l := lists[0]
		if !l.ThisUpdate.Equal(c.this) || !l.NextUpdate.Equal(c.next) {
			t.Errorf("%s: read as %s to %s", name, l.ThisUpdate, l.NextUpdate)
		}
		if got := stageOf(l, now); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
		s := &source{authority: &Authority{}, lists: lists}
		s.schedule(now)
		if wait := s.due.Sub(now); wait <= 0 || wait > c.due*5/4 {
			t.Errorf("%s: asked again in %v", name, wait)
		}
	}
}

// So do OCSP answers. A nextUpdate in the year 1 counts as one.
func TestAnswersOfFarDates(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		this, next time.Time
		want       Status
	}{
		{w.now.Add(-time.Hour), year(9999), Good},
		{year(1950), year(9999), Good},
		{year(2), year(9999), Good},
		{year(2), year(1950), Unknown},
		{w.now.Add(-time.Minute), year(2), Unknown},
		{w.now.Add(-time.Minute), time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), Unknown}, // 00010101000000Z
		{year(9998), year(9999), Unknown},
		{time.Time{}, time.Time{}, Unknown}, // no nextUpdate, made in the year 1
	} {
		der, err := ocsp.CreateResponse(w.root.Cert, w.root.Cert, ocsp.Response{
			Status: ocsp.Good, SerialNumber: w.direct.Cert.SerialNumber, ThisUpdate: c.this, NextUpdate: c.next,
		}, w.root.Key)
		if err != nil {
			t.Fatal(err)
		}
		a, err := parseAnswer(der)
		if err != nil {
			t.Errorf("%s to %s: %v", c.this, c.next, err)
			continue
		}
		number, _ := serialOf(w.direct.Cert)
		got, _, err := a.judge(question{number: number, issuer: w.root.Cert}, w.now)
		if got != c.want || (err == nil) != (got == Good) {
			t.Errorf("%s to %s: %v, %v, want %v", c.this, c.next, got, err, c.want)
		}
	}
}
