package sender

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ackRig has the clock of DelayedACKs, and what it sent.
type ackRig struct {
	t    testing.TB
	d    *DelayedACKs
	at   time.Time
	sent []uint32
	late atomic.Uint64
}

func newACKRig(t testing.TB) *ackRig {
	r := &ackRig{t: t, at: time.Unix(1000, 0)}
	r.d = NewDelayedACKs(func(p *gstack.PacketBuffer) {
		r.sent = append(r.sent, binary.BigEndian.Uint32(p.TransportHeader().Slice()[8:]))
	}, &r.late)
	r.d.now = func() time.Time { return r.at }
	t.Cleanup(r.d.Close)
	return r
}

// client has the client send size bytes from seq on.
func (r *ackRig) client(seq uint32, size int, flags uint8) {
	r.d.Expect(tuple, seq, size+int(flags&flagFIN))
}

// netstack makes a packet and says whether it waits.
func (r *ackRig) netstack(ack uint32, size int, flags uint8, options ...byte) (waits bool) {
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{
		ReserveHeaderBytes: ipv4HeaderLen + tcpHeaderLen + len(options), Payload: buffer.MakeWithData(make([]byte, size)),
	})
	defer pkt.DecRef()
	tcp := pkt.TransportHeader().Push(tcpHeaderLen + len(options))
	binary.BigEndian.PutUint16(tcp, dest.Port())
	binary.BigEndian.PutUint16(tcp[2:], client.Port())
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13] = byte(len(tcp)/4<<4), flags
	copy(tcp[tcpHeaderLen:], options)
	ip := pkt.NetworkHeader().Push(ipv4HeaderLen)
	ip[0], ip[9] = 0x45, protoTCP
	copy(ip[12:], dest.Addr().AsSlice())
	copy(ip[16:], client.Addr().AsSlice())
	if r.d.Takes(pkt) {
		return true
	}
	r.d.Sent(ip, tcp)
	return false
}

// wait lets time pass, and returns the acknowledgements that were sent meanwhile.
func (r *ackRig) wait(d time.Duration) []uint32 {
	r.sent = nil
	r.at = r.at.Add(d)
	r.d.fire()
	return r.sent
}

func TestDelayedACKs(t *testing.T) {
	sack := []byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	for name, c := range map[string]struct {
		play   func(r *ackRig)
		late   int // acknowledgements that are sent in the end
		merged uint64
	}{
		"answered": {func(r *ackRig) {
			r.client(100, 10, flagACK)
			r.must(true, r.netstack(110, 0, flagACK))
			r.must(false, r.netstack(110, 50, flagACK|flagPSH))
		}, 0, 1},
		"not answered":    {func(r *ackRig) { r.client(100, 10, flagACK); r.must(true, r.netstack(110, 0, flagACK)) }, 1, 0},
		"with timestamps": {func(r *ackRig) { r.client(100, 10, flagACK); r.must(true, r.netstack(110, 0, flagACK, stampBytes...)) }, 1, 0},
		"a FIN":           {func(r *ackRig) { r.client(100, 0, flagACK|flagFIN); r.must(true, r.netstack(101, 0, flagACK)) }, 1, 0},
		"a FIN, answered by one": {func(r *ackRig) {
			r.client(100, 0, flagACK|flagFIN)
			r.must(true, r.netstack(101, 0, flagACK))
			r.must(false, r.netstack(101, 0, flagACK|flagFIN))
		}, 0, 1},
		"answered by RST": {func(r *ackRig) {
			r.client(100, 10, flagACK)
			r.must(true, r.netstack(110, 0, flagACK))
			r.must(false, r.netstack(110, 0, flagACK|flagRST))
		}, 0, 1},
		"data of before the acknowledgement": {func(r *ackRig) {
			r.client(100, 10, flagACK)
			r.must(true, r.netstack(110, 0, flagACK))
			r.must(false, r.netstack(100, 50, flagACK)) // made before
		}, 1, 0},
		"two small ones": {func(r *ackRig) {
			r.client(100, 10, flagACK)
			r.must(true, r.netstack(110, 0, flagACK))
			r.client(110, 20, flagACK)
			r.must(true, r.netstack(130, 0, flagACK))
		}, 1, 0},
		"the second is too much": {func(r *ackRig) {
			r.client(100, 1400, flagACK)
			r.must(true, r.netstack(1500, 0, flagACK))
			r.client(1500, 1400, flagACK)
			r.must(false, r.netstack(2900, 0, flagACK))
		}, 0, 1},
		"large":                     {func(r *ackRig) { r.client(100, ackBytes, flagACK); r.must(false, r.netstack(100+ackBytes, 0, flagACK)) }, 0, 0},
		"nothing came":              {func(r *ackRig) { r.must(false, r.netstack(110, 0, flagACK)) }, 0, 0},
		"a bare one came":           {func(r *ackRig) { r.client(100, 0, flagACK); r.must(false, r.netstack(100, 0, flagACK)) }, 0, 0},
		"a duplicate: out of order": {func(r *ackRig) { r.client(200, 10, flagACK); r.must(false, r.netstack(100, 0, flagACK)) }, 0, 0},
		"... with SACK blocks":      {func(r *ackRig) { r.client(200, 10, flagACK); r.must(false, r.netstack(205, 0, flagACK, sack...)) }, 0, 0},
		"a retransmission":          {func(r *ackRig) { r.client(100, 10, flagACK); r.must(false, r.netstack(500, 0, flagACK)) }, 0, 0},
		"a window": {func(r *ackRig) {
			r.client(100, 10, flagACK)
			r.must(true, r.netstack(110, 0, flagACK))
			r.must(false, r.netstack(110, 0, flagACK))
		}, 0, 1},
		"a hole between two": {func(r *ackRig) {
			r.client(100, 10, flagACK)
			r.must(true, r.netstack(110, 0, flagACK))
			r.client(130, 10, flagACK)
			r.must(false, r.netstack(110, 0, flagACK))
		}, 0, 1},
		"around the end of the numbers": {func(r *ackRig) { r.client(1<<32-5, 10, flagACK); r.must(true, r.netstack(5, 0, flagACK)) }, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newACKRig(t)
			c.play(r)
			if got := r.wait(ackWait - time.Nanosecond); len(got) != 0 {
				t.Errorf("too early: %v", got)
			}
			if got := r.wait(time.Nanosecond); len(got) != c.late {
				t.Errorf("sent %v, want %d", got, c.late)
			}
			if got := r.late.Load(); got != c.merged {
				t.Errorf("merged %d, want %d", got, c.merged)
			}
			if n := r.d.count.Load(); n != 0 || len(r.d.order) != 0 {
				t.Errorf("left: %d, %d", n, len(r.d.order))
			}
		})
	}
}

var stampBytes = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}

func (r *ackRig) must(want, got bool) {
	r.t.Helper()
	if want != got {
		r.t.Errorf("waits: %t, want %t", got, want)
	}
}

// The flows whose acknowledgements wait are bounded.
func TestDelayedACKsAreBounded(t *testing.T) {
	r := newACKRig(t)
	for i := range 2 * maxDelayed {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 1)
		r.d.Expect(Tuple{Client: src, Dest: dest}, 1, 1)
	}
	if n := len(r.d.flow); n != maxDelayed {
		t.Errorf("%d flows", n)
	}
	r.wait(ackWait)
	if len(r.d.flow) != 0 || len(r.d.order) != 0 {
		t.Errorf("left: %d, %d", len(r.d.flow), len(r.d.order))
	}
}

// FuzzDelayedACKs: whatever comes in whatever order, what netstack has acknowledged is
// acknowledged to the client within ackWait.
func FuzzDelayedACKs(f *testing.F) {
	f.Add([]byte{0, 10, 1, 0, 2, 0, 3, 9})
	f.Add([]byte{0, 200, 1, 0, 0, 200, 1, 0, 4, 0, 1, 0, 3, 1, 3, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		r := newACKRig(t)
		var came, acked, told uint32 = 1000, 1000, 1000
		var since time.Time // when the oldest of what is not told was acknowledged
		tell := func(ack uint32) { told = max(told, ack) }
		for ; len(ops) >= 2; ops = ops[2:] {
			arg := uint32(ops[1])
			switch ops[0] % 5 {
			case 0: // the client sends
				r.client(came, int(arg*16), flagACK)
				came += arg * 16
			case 1: // netstack acknowledges all of it
				if acked == told && came > acked {
					since = r.at
				}
				acked = came
				if !r.netstack(acked, 0, flagACK) {
					tell(acked)
				}
			case 2: // netstack sends data
				if r.netstack(acked, 1, flagACK|flagPSH) {
					t.Fatal("data waits")
				}
				tell(acked)
			case 3:
				for _, ack := range r.wait(time.Duration(arg) * time.Millisecond / 16) {
					tell(ack)
				}
			case 4: // bytes that came before, and perhaps a large segment before them
				r.client(came-arg, int(arg), flagACK|flagFIN)
			}
			if r.wait(0); len(r.sent) > 0 {
				tell(r.sent[len(r.sent)-1])
			}
			if told != acked && r.at.Sub(since) > ackWait {
				t.Fatalf("acknowledged %v ago, and not told", r.at.Sub(since))
			}
			if int(r.d.count.Load()) != len(r.d.flow) {
				t.Fatal("miscounted")
			}
		}
	})
}
