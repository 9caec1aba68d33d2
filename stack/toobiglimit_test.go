package stack

import (
	"net/netip"
	"testing"
	"time"
)

// Each client, an IPv4 address or an IPv6 /64, has its own budget. A client that owes
// nothing is forgotten.
func TestTooBigLimit(t *testing.T) {
	now := time.Now()
	l := newTooBigLimit()
	l.now = func() time.Time { return now }
	use := func(client string) (allowed int) {
		for range 10 * tooBigBurst {
			if l.allow(netip.MustParseAddr(client)) {
				allowed++
			}
		}
		return allowed
	}
	for _, tt := range []struct {
		client string
		want   int
	}{
		{"192.0.2.1", tooBigBurst},
		{"192.0.2.1", 0},
		{"192.0.2.2", tooBigBurst},
		{"2001:db8::1", tooBigBurst},
		{"2001:db8::ffff:2", 0}, // of the same /64
		{"2001:db8:0:1::1", tooBigBurst},
	} {
		if got := use(tt.client); got != tt.want {
			t.Errorf("%s: %d are asked, want %d", tt.client, got, tt.want)
		}
	}
	now = now.Add(time.Second)
	if got := use("192.0.2.1"); got != tooBigRate {
		t.Errorf("%d are asked a second later, want %d", got, tooBigRate)
	}
	l.sweep(now)
	if len(l.client) != 4 {
		t.Errorf("%d clients are known, want 4: all of them owe", len(l.client))
	}
	now = now.Add(tooBigBurst / tooBigRate * 2 * time.Second)
	l.sweep(now)
	if len(l.client) != 0 {
		t.Errorf("%d clients are known that owe nothing", len(l.client))
	}
}
