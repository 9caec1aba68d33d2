package sender

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// An acknowledgement of what waits here does not reach netstack, which thinks that it is
// sent; one of what nobody has sent does, and netstack answers it.
func TestOptimisticACK(t *testing.T) {
	r := newRig(t, 1, true)
	una := r.warm(rtt)
	for range 100 {
		r.send(mss)
	}
	f := r.flow()
	if f.nxt == f.queued {
		t.Fatal("nothing waits")
	}
	if r.ack(f.nxt + 1) {
		t.Error("netstack gets an acknowledgement of what waits")
	}
	if f.una != una {
		t.Error("it was taken")
	}
	if !r.ack(f.queued + 1) {
		t.Error("netstack does not get one of what nobody has sent")
	}
	if st := r.s.Stats(); st.Refused != 1 {
		t.Errorf("%+v", st)
	}
	r.check()
}

// Segments whose sequence number cannot be the client's say nothing.
func TestForgedACK(t *testing.T) {
	r := newRig(t, 1, true)
	una := r.warm(rtt)
	r.send(4 * mss)
	for _, seq := range []uint32{ours - 1, ours - room, ours + room + 1, ours + 1<<31} {
		if pass, _ := r.hear(seq, una+4*mss, 0); !pass {
			t.Error("netstack has to answer")
		}
		if f := r.flow(); f.una != una {
			t.Errorf("with sequence number %d it was taken", seq)
		}
	}
}

// SACK blocks that cannot be true say nothing, and tiny ones make nothing grow.
func TestHostileBlocks(t *testing.T) {
	r := newRig(t, 1<<32-2000, true)
	una := r.warm(rtt)
	for range 20 {
		r.send(40 * mss)
	}
	f := r.flow()
	for _, b := range []block{
		{una - 5*mss, una - mss}, {f.nxt, f.nxt + mss}, {f.nxt - mss, f.nxt + 1}, {una + 2*mss, una + mss},
		{una + mss, una + mss}, {una, una + mss}, {una + 1<<31, una + 1<<31 + mss},
	} {
		r.ack(una, b)
		if f.path.delivered != mss {
			t.Fatalf("block %+v was taken", b)
		}
		r.check()
	}
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // a test that can be repeated
	for range 20_000 {
		at := una + 1 + random.Uint32N(f.nxt-una)
		r.ack(una, block{at, at + 1}, block{at + 3, at + 5}, block{at + 9, at + 700})
	}
	r.check()
}

// A RST, a new connection of the same ports and the end of netstack's connection free
// everything.
func TestFreed(t *testing.T) {
	for name, end := range map[string]func(*rig){
		"RST of ours": func(r *rig) { r.out(0, flagRST|flagACK) },
		"SYN-ACK":     func(r *rig) { r.seq = 12345; r.out(0, flagSYN|flagACK) },
		"RST of the client": func(r *rig) {
			r.alive = false
			r.s.Check(tuple)
		},
	} {
		r := newRig(t, 1, true)
		r.warm(rtt)
		r.send(40 * mss)
		end(r)
		if st := r.s.Stats(); st.Packets != 0 || st.Flows != 0 {
			t.Errorf("%s: %+v", name, st)
		}
		r.seq = 999_999
		una := r.warm(rtt)
		if f := r.flow(); f.una != una {
			t.Errorf("%s: the next connection begins at %d", name, f.una)
		}
	}
}

// Netstack is asked whether it knows what is acknowledged.
func TestUnheard(t *testing.T) {
	r := newRig(t, 1, true)
	r.warm(rtt)
	r.wait(checkAfter)
	if r.unheard != 1 {
		t.Errorf("asked %d times", r.unheard)
	}
	r.wait(time.Minute)
	if r.unheard != 1 || r.s.Stats().Flows != 0 {
		t.Errorf("asked %d times, %+v", r.unheard, r.s.Stats())
	}
}

// FuzzACKs: whatever a client says, the books are right, and everything is given back.
func FuzzACKs(f *testing.F) {
	f.Add(uint32(1), []byte("some acknowledgements, blocks and pauses in an order that makes sense to nobody"))
	f.Add(uint32(1<<32-9000), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x80, 0x81, 0x82, 0xff, 0xfe, 0xfd, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4})
	f.Fuzz(func(t *testing.T, begin uint32, script []byte) {
		if len(script) <= 400 {
			play(t, begin, script)
		}
	})
}

// play has a client of one flow do what a script says.
func play(t *testing.T, begin uint32, script []byte) {
	r := newRig(t, begin, begin%2 == 0)
	for len(script) >= 4 {
		op, a, b := script[0], uint32(script[1]), uint32(script[2])
		at := begin + uint32(binary.BigEndian.Uint16(script[2:]))
		script = script[4:]
		switch op % 8 {
		case 0:
			r.send(1 + int(a)*4)
		case 1:
			if r.gso {
				r.send(1 + int(b)*100)
			}
		case 2:
			r.ack(begin + a*100 + b)
		case 3:
			r.ack(begin+a*100, block{at, at + b*50})
		case 4:
			r.ack(begin+a, block{at, at + 1 + b}, block{at + a, at + a*30})
		case 5:
			r.wait(time.Duration(a) * time.Millisecond)
		case 6:
			r.window = uint16(a)
			r.hear(ours-1+a%4, at, int(b))
		case 7:
			r.wait(time.Duration(b) * 50 * time.Millisecond)
		}
		r.check()
	}
}
