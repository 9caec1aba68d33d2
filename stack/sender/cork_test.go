package sender

import (
	"testing"
	"time"
)

// The last data of a flow and its FIN leave as one segment when both wait, and each part
// of it is sent again when it is lost.
func TestFINWithData(t *testing.T) {
	for _, gso := range []bool{false, true} {
		for _, size := range []int{1, 24, mss, 3*mss + 5} {
			r := newRig(t, 1000, gso)
			r.warm(time.Millisecond)
			first, n := r.seq, len(r.sent)
			r.s.Cork(tuple)
			if r.out(size, flagACK|flagPSH); !gso && size > mss {
				continue // netstack makes one segment a packet without offloads
			}
			r.out(0, flagACK|flagFIN)
			if got := r.since(n); len(got) != 0 {
				t.Fatalf("%d bytes: sent while corked: %+v", size, got)
			}
			r.s.Uncork(tuple)
			whole := r.since(n)
			r.checkEnd(whole, first, size)
			r.check()

			// All of it is lost.
			n = len(r.sent)
			r.wait(5 * time.Second)
			if got := r.since(n); len(got) == 0 || got[len(got)-1].flags&flagFIN == 0 {
				t.Errorf("%d bytes, gso %t: sent again: %+v", size, gso, got)
			}
			// The FIN alone is lost.
			r.ack(first + uint32(size))
			n = len(r.sent)
			r.wait(5 * time.Second)
			got := r.since(n)
			if len(got) == 0 {
				t.Fatalf("%d bytes, gso %t: the FIN is not sent again", size, gso)
			}
			r.checkEnd(got[:1], first+uint32(size), 0)
			r.check()
			r.ack(r.seq)
			r.check()
			if st := r.s.Stats(); st.Packets != 0 {
				t.Errorf("%d bytes: %+v", size, st)
			}
		}
	}
}

// checkEnd checks packets that are size bytes from first on and a FIN.
func (r *rig) checkEnd(got []wirePacket, first uint32, size int) {
	r.t.Helper()
	at := first
	for i, p := range got {
		if p.seq != at {
			r.t.Fatalf("packet %d begins at %d, not %d", i, p.seq, at)
		}
		if fin := p.flags&flagFIN != 0; fin != (i == len(got)-1) {
			r.t.Fatalf("packet %d of %d has a FIN: %t", i, len(got), fin)
		}
		for k, b := range p.data {
			if b != byte((at+uint32(k))*7) {
				r.t.Fatalf("packet %d: wrong data", i)
			}
		}
		at += uint32(len(p.data))
	}
	if want := max((size+mss-1)/mss, 1); len(got) != want || at != first+uint32(size) {
		r.t.Fatalf("%d packets up to %d, want %d up to %d", len(got), at, want, first+uint32(size))
	}
}

// A cork holds back nothing for long: what an acknowledgement or a timer sends is sent, and
// then the FIN is a segment of its own.
func TestCorkIsSoft(t *testing.T) {
	r := newRig(t, 1000, true)
	r.warm(time.Millisecond)
	r.send(mss) // under way
	n := len(r.sent)
	r.s.Cork(tuple)
	r.send(24)
	if got := r.since(n); len(got) != 0 {
		t.Fatalf("sent while corked: %+v", got)
	}
	r.at += time.Millisecond
	r.ack(r.seq - 24)
	if got := r.since(n); len(got) != 1 || got[0].flags&flagFIN != 0 {
		t.Fatalf("after an acknowledgement: %+v", got)
	}
	r.out(0, flagACK|flagFIN)
	r.s.Uncork(tuple)
	if got := r.since(n); len(got) != 2 || len(got[1].data) != 0 || got[1].flags&flagFIN == 0 {
		t.Fatalf("after the FIN: %+v", got)
	}
	r.check()
	other := Tuple{Client: dest, Dest: client} // not known
	r.s.Cork(other)
	r.s.Uncork(other)
	if n := r.s.corks.Load(); n != 0 {
		t.Errorf("%d flows are corked", n)
	}
	for i := range r.s.table {
		if c := r.s.table[i].corked; len(c) != 0 {
			t.Errorf("still corked: %v", c)
		}
	}
}
