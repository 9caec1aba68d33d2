package stack

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// A port that is used again within the timeout begins a new handshake, which must not end
// when the first one's time is up.
func TestHalfOpenTells(t *testing.T) {
	h := newHalfOpen(5 * time.Second)
	start := time.Now()
	syn := func(port uint16, seq uint32, after time.Duration) {
		h.add(segment{
			src: netip.AddrPortFrom(netip.MustParseAddr("10.1.0.2"), port),
			dst: netip.MustParseAddrPort("192.0.2.7:443"),
			seq: seq,
		}, start.Add(after))
	}
	syn(1, 100, 0)
	syn(2, 100, time.Second)
	syn(2, 100, 3*time.Second) // sent again
	syn(3, 100, 3*time.Second)
	syn(1, 200, 4*time.Second) // used again
	var ended []string
	for s := range 12 {
		h.end = func(t synTuple) bool {
			ended = append(ended, fmt.Sprintf("%d after %d s", t.src.Port(), s))
			return t.src.Port() != 3
		}
		n := h.sweep(start.Add(time.Duration(s) * time.Second))
		if want := map[int]int{6: 1, 9: 1}[s]; n != want {
			t.Errorf("after %d s %d were ended, want %d", s, n, want)
		}
	}
	if want := []string{"2 after 6 s", "3 after 8 s", "1 after 9 s"}; !slices.Equal(ended, want) {
		t.Errorf("ended %q, want %q", ended, want)
	}
	if len(h.queue) != 0 || len(h.last) != 0 {
		t.Errorf("left: %v, %v", h.queue, h.last)
	}
}

// At the bound the oldest handshake ends, and every one that remains is watched.
func TestHalfOpenIsBounded(t *testing.T) {
	h := newHalfOpen(time.Second)
	now := time.Now()
	ended := 0
	h.end = func(s synTuple) bool {
		if want := netip.AddrFrom4([4]byte{10, byte(ended >> 16), byte(ended >> 8), byte(ended)}); s.src.Addr() != want {
			t.Fatalf("%v was ended, want %v", s.src, want)
		}
		ended++
		return ended%2 == 0
	}
	for i := range halfOpenMax + 1000 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		h.add(segment{src: src, dst: src}, now)
	}
	if len(h.queue) != halfOpenMax || len(h.last) != halfOpenMax {
		t.Errorf("%d queued, %d tuples", len(h.queue), len(h.last))
	}
	if n := h.sweep(now); ended != 1000 || n != 500 {
		t.Errorf("%d were asked about, %d told", ended, n)
	}
}
