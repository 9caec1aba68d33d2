package sender

import (
	"testing"
	"time"
)

const rtt = 20 * time.Millisecond

// again wants that exactly this was sent again, in segments.
func (r *rig) again(n int, want ...uint32) {
	r.t.Helper()
	var got []uint32
	for _, p := range r.since(n) {
		got = append(got, p.seq)
		for i, b := range p.data {
			if b != byte((p.seq+uint32(i))*7) {
				r.t.Fatalf("byte %d of segment %d is %d", i, p.seq, b)
			}
		}
	}
	if len(got) != len(want) {
		r.t.Fatalf("sent %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			r.t.Fatalf("sent %v, want %v", got, want)
		}
	}
}

// What three later segments overtake is lost (RFC 8985, section 6.2), is sent again alone,
// and netstack hears nothing. The sequence numbers wrap around.
func TestLossBySACK(t *testing.T) {
	for _, gso := range []bool{false, true} {
		for _, begin := range []uint32{1, 1<<32 - 3500} {
			r := newRig(t, begin, gso)
			una := r.warm(rtt)
			for range 5 {
				r.send(mss)
			}
			r.wait(rtt)
			n := len(r.sent)
			if pass := r.ack(una+mss, block{una + 2*mss, una + 5*mss}); !pass {
				t.Error("netstack does not get an acknowledgement of new data")
			}
			r.again(n, una+mss)
			r.check()
			if r.sent[n].stamp == r.sent[n-4].stamp {
				t.Error("the timestamp is the old one")
			}
			r.wait(rtt)
			r.ack(una + 5*mss)
			r.check()
			if st := r.s.Stats(); st.Packets != 0 {
				t.Errorf("kept: %+v", st)
			}
		}
	}
}

// What waits for its turn while something is sent again gets a new timestamp: the client
// drops what is older than what it has (RFC 7323, section 5.3).
func TestStampsOfWaiting(t *testing.T) {
	for _, gso := range []bool{false, true} {
		r := newRig(t, 1, gso)
		una := r.warm(rtt)
		for range 60 {
			r.send(mss) // more than the window: the last ones wait
		}
		n := len(r.sent)
		if n >= 60 {
			t.Fatal("nothing waits")
		}
		r.wait(rtt)
		r.ack(una, block{una + mss, una + 5*mss})
		r.wait(rtt)
		r.ack(una + 10*mss)
		r.wait(10 * rtt)
		if len(r.sent) == n {
			t.Error("nothing more was sent")
		}
		r.check()
	}
}

// Only the lost segment of a large packet is sent again.
func TestLossInsideLargePacket(t *testing.T) {
	r := newRig(t, 1, true)
	una := r.warm(rtt)
	r.send(8 * mss)
	r.wait(rtt)
	n := len(r.sent)
	r.ack(una+2*mss, block{una + 3*mss, una + 8*mss})
	r.again(n, una+2*mss)
	r.check()
}

// A segment that is only late is not sent again.
func TestReordering(t *testing.T) {
	r := newRig(t, 1, false)
	una := r.warm(rtt)
	for range 3 {
		r.send(mss)
	}
	r.wait(rtt)
	n := len(r.sent)
	r.ack(una, block{una + mss, una + 2*mss})
	r.wait(rtt / 5)
	r.ack(una + 2*mss)
	if !r.flow().rack.reordered {
		t.Error("the new order was not seen")
	}
	// Now that the path is known for it, three segments that overtake are no loss either.
	una = r.seq
	r.wait(rtt)
	r.ack(una)
	for range 5 {
		r.send(mss)
	}
	n += 5
	r.wait(rtt)
	r.ack(una, block{una + mss, una + 5*mss})
	r.wait(rtt / 5)
	r.again(n)
	r.wait(rtt / 5)
	r.again(n, una)
}

// A client without SACK says by duplicates what it misses (RFC 6582). They do not reach
// netstack, which would send again too.
func TestWithoutSACK(t *testing.T) {
	r := newRig(t, 1, false)
	una := r.warm(rtt)
	for range 6 {
		r.send(mss)
	}
	r.wait(rtt)
	n := len(r.sent)
	r.ack(una)
	for i := range 4 {
		if r.ack(una) {
			t.Errorf("duplicate %d reaches netstack", i)
		}
	}
	r.again(n, una)
	r.wait(rtt)
	r.ack(una + 3*mss) // the next hole
	r.again(n, una, una+3*mss)
	r.wait(rtt)
	r.ack(una + 6*mss)
	r.again(n, una, una+3*mss)
	r.check()
}

// A window update is no duplicate.
func TestWindowUpdatePasses(t *testing.T) {
	r := newRig(t, 1, false)
	una := r.warm(rtt)
	r.send(mss)
	r.ack(una)
	if r.ack(una) {
		t.Error("a duplicate reaches netstack")
	}
	r.window++
	if !r.ack(una) {
		t.Error("a window update does not reach netstack")
	}
}

// A FIN that is lost is sent again, and so is a tail of data.
func TestLostTail(t *testing.T) {
	r := newRig(t, 1, true)
	una := r.warm(rtt)
	r.send(mss)
	r.out(0, flagACK|flagFIN)
	n := len(r.sent)
	r.wait(2*rtt + 2*ackDelay)
	got := r.since(n)
	if len(got) != 1 || got[0].flags&flagFIN == 0 || got[0].seq != una+mss || len(got[0].data) != 0 {
		t.Fatalf("the probe is %+v", got)
	}
	// The answer tells of the data before it.
	r.ack(una, block{una + mss, una + mss + 1})
	r.wait(rtt)
	if got := r.since(n); len(got) != 2 || got[1].seq != una || got[1].flags&flagFIN != 0 {
		t.Fatalf("sent %+v", got)
	}
	r.ack(una + mss + 1)
	if st := r.s.Stats(); st.Packets != 0 {
		t.Errorf("kept: %+v", st)
	}
}

// A client that delays its acknowledgements by 40 ms causes nothing.
func TestDelayedACK(t *testing.T) {
	for _, rtt := range []time.Duration{100 * time.Microsecond, time.Millisecond, rtt} {
		r := newRig(t, 1, true)
		r.warm(rtt)
		for range 20 {
			n := len(r.sent)
			r.send(3 * mss)
			r.wait(rtt + 40*time.Millisecond)
			r.again(n, r.seq-3*mss, r.seq-2*mss, r.seq-mss)
			r.ack(r.seq)
		}
		if st := r.s.Stats(); st.Again+st.Probes+st.Timeouts != 0 {
			t.Errorf("at %v: %+v", rtt, st)
		}
	}
}

// A client that takes back what it has said to have (RFC 2018, section 8) gets it again.
func TestReneging(t *testing.T) {
	r := newRig(t, 1, false)
	una := r.warm(rtt)
	for range 4 {
		r.send(mss)
	}
	r.wait(rtt)
	r.ack(una, block{una + mss, una + 4*mss})
	r.wait(rtt)
	n := len(r.sent)
	r.ack(una + mss) // and the rest is gone
	r.wait(5 * time.Second)
	seen := map[uint32]bool{}
	for _, p := range r.since(n) {
		seen[p.seq] = true
	}
	for i := range uint32(3) {
		if !seen[una+(i+1)*mss] {
			t.Errorf("segment %d is not sent again: %v", i+1, seen)
		}
	}
	r.check()
}

// Who never acknowledges costs a few packets, and gives up nothing of netstack's.
func TestSilentClient(t *testing.T) {
	r := newRig(t, 1, true)
	for range 10 {
		r.send(mss)
	}
	r.wait(2 * time.Minute)
	if st := r.s.Stats(); st.Again > 100 || st.Timeouts > 12 || st.Timeouts < 5 {
		t.Errorf("%+v", st)
	}
	r.alive = false // netstack ends the flow
	r.wait(time.Minute)
	if st := r.s.Stats(); st.Packets != 0 || st.Flows != 0 {
		t.Errorf("kept: %+v", st)
	}
}

// A closed window is asked for, a few times, with longer and longer pauses.
func TestWindowProbes(t *testing.T) {
	r := newRig(t, 1, true)
	una := r.warm(rtt)
	r.send(mss)
	r.window = 0
	r.ack(una + mss)
	n := len(r.sent)
	r.wait(time.Minute)
	probes := r.since(n)
	if len(probes) != windowProbes {
		t.Fatalf("%d probes", len(probes))
	}
	for _, p := range probes {
		if p.seq != r.seq-1 || len(p.data) != 0 || p.flags != flagACK {
			t.Errorf("probe %+v", p)
		}
	}
	r.wait(idleLife)
	if r.s.Stats().Flows != 0 {
		t.Error("an idle flow is kept")
	}
}

// The path has become narrower (RFC 1191): what is under way is cut.
func TestNarrower(t *testing.T) {
	r := newRig(t, 1, true)
	una := r.warm(rtt)
	r.send(4 * mss)
	r.wait(rtt / 2)
	n := len(r.sent)
	pkt := r.packet(una, 4*mss, flagACK)
	pkt.GSOOptions.MSS = 600
	if !r.s.Out(pkt) {
		t.Error("netstack sends again itself")
	}
	pkt.DecRef()
	r.wait(rtt)
	total := 0
	for _, p := range r.since(n) {
		total += len(p.data)
		if len(p.data) > 600 {
			t.Errorf("a segment of %d bytes", len(p.data))
		}
	}
	if total != 4*mss {
		t.Errorf("%d bytes were sent again", total)
	}
	r.check()
}
