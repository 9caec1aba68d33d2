package policy

import (
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// A certificate without an end, and one from before anybody's time, are judged
// like any other.
func TestFarTimes(t *testing.T) {
	p := testPKI()
	leaf := testpki.Leaf{DNS: []string{"x.example"}, NotBefore: time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	for when, fits := range map[string]bool{
		`cert.not_after - now > duration("72h")`:                                                 true,
		`cert.not_after - now < duration("72h")`:                                                 false,
		`now - cert.not_after < duration("0s")`:                                                  true,
		`cert.not_after - cert.not_before > duration("876000h")`:                                 true,
		`cert.not_after + duration("24h") > now`:                                                 true,
		`duration("24h") + cert.not_after > now`:                                                 true,
		`cert.not_after - duration("-24h") > now`:                                                true,
		`timestamp("0001-01-01T00:00:00Z") - duration("1h") < now`:                               true,
		`(cert.not_after - now) + duration("24h") > duration("1h")`:                              true,
		`(now - cert.not_after) - duration("24h") < duration("1h")`:                              true,
		`now - cert.not_before < duration("876000h")`:                                            true,
		`cert.not_after == timestamp("9999-12-31T23:59:59Z") && cert.not_after > now`:            true,
		`timestamp("9999-12-31T23:59:59Z") - timestamp("0001-01-01T00:00:00Z") > duration("1h")`: true,
	} {
		set, plan, f := policyWith(t, "{authorities: [staff], when: '"+when+"'}")
		f.Now, f.Peer = time.Now(), peer("staff", p.staff, leaf)
		if v := set.OnPeer(plan, f); (v.Action == Terminate) != fits {
			t.Errorf("%s: %+v", when, v)
		}
	}
	// Numbers are no times: there an overflow is an error, and denies.
	set, plan, f := policyWith(t, `{authorities: [staff], when: 'cert.key_bits + 9223372036854775807 > 0'}`)
	f.Now, f.Peer = time.Now(), peer("staff", p.staff, leaf)
	if v := set.OnPeer(plan, f); v.Action == Terminate {
		t.Errorf("an overflow of numbers lets in: %+v", v)
	}
	for text, want := range map[string]bool{`valid_left: 30d`: true, `valid_left: 36525d`: true, `max_age: 36525d`: true, `max_age: 30d`: false} {
		set, plan, f := policyWith(t, "{authorities: [staff], allow: [{"+text+", san_dns: [x.example]}]}")
		f.Now, f.Peer = time.Now(), peer("staff", p.staff, leaf)
		if v := set.OnPeer(plan, f); (v.Action == Terminate) != want {
			t.Errorf("%s: %+v", text, v)
		}
	}
}
