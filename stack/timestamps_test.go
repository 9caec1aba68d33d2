package stack

import (
	"net/netip"
	"testing"
	"time"
)

// A client that has offered timestamps is found for as long as its handshake may take,
// and no client is looked up for ever.
func TestStampedSYNs(t *testing.T) {
	begin := time.Now()
	now := begin
	clock := func() time.Time { return now }
	const life = 5 * time.Second
	y := newStampedSYNs(life)
	tuple := func(i int, v6 bool) synTuple {
		src, dst := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), netip.MustParseAddr("192.0.2.7")
		if v6 {
			src, dst = netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}), netip.MustParseAddr("2001:db8::7")
		}
		return synTuple{netip.AddrPortFrom(src, uint16(1024+i)), netip.AddrPortFrom(dst, 443)}
	}
	for i := range 100 {
		if y.may(tuple(i, i%2 == 0), clock) {
			t.Fatalf("%d was never there", i)
		}
	}
	const many = 20_000 // more than there are places
	for i := range many {
		y.add(tuple(i, i%2 == 0), now)
	}
	for _, age := range []time.Duration{0, time.Second, life, life + sweepInterval} {
		now = begin.Add(age)
		for i := range many {
			if !y.may(tuple(i, i%2 == 0), clock) {
				t.Fatalf("%d is forgotten after %s", i, age)
			}
		}
	}
	now = begin.Add(life + 3*sweepInterval)
	for i := range many {
		if y.may(tuple(i, i%2 == 0), clock) {
			t.Fatalf("%d is looked up after its handshake must be over", i)
		}
	}
}

// What every segment of a client without timestamps costs.
func BenchmarkStampedSYNs(b *testing.B) {
	t := synTuple{netip.MustParseAddrPort("10.0.0.1:50000"), netip.MustParseAddrPort("192.0.2.7:443")}
	for name, seen := range map[string]bool{"never": false, "long ago": true} {
		b.Run(name, func(b *testing.B) {
			y := newStampedSYNs(time.Second)
			if seen {
				y.add(t, time.Now().Add(-time.Hour))
			}
			b.ReportAllocs()
			for b.Loop() {
				if y.may(t, time.Now) {
					b.Fatal("found")
				}
			}
		})
	}
}
