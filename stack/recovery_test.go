package stack

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// recoveryLab is a recovery whose connections have send buffers of 4 MiB.
type recoveryLab struct {
	*recovery
	rooms map[synTuple]int

	gotMu sync.Mutex
	all   []uint32 // acknowledgements that netstack got
}

func newRecoveryLab() *recoveryLab {
	l := &recoveryLab{recovery: newRecovery(), rooms: map[synTuple]int{}}
	l.room = func(s synTuple) int {
		if n, ok := l.rooms[s]; ok {
			return n
		}
		return -1
	}
	l.deliver = func(_ tcpip.NetworkProtocolNumber, p *gstack.PacketBuffer) {
		l.note(binary.BigEndian.Uint32(p.Data().AsRange().ToSlice()))
	}
	return l
}

func (l *recoveryLab) note(ack uint32) {
	l.gotMu.Lock()
	defer l.gotMu.Unlock()
	l.all = append(l.all, ack)
}

// got waits for timers that have fired, and returns what netstack got.
func (l *recoveryLab) got() []uint32 {
	synctest.Wait()
	l.gotMu.Lock()
	defer l.gotMu.Unlock()
	return l.all
}

// send gives the recovery a segment, and says whether it passed at once.
func (l *recoveryLab) send(s segment) bool {
	b := make([]byte, 4)
	binary.BigEndian.PutUint32(b, s.ack)
	p := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	defer p.DecRef()
	passed := l.take(s, p)
	if passed {
		l.note(s.ack)
	}
	return passed
}

func recoveringFrom(client string, port uint16) segment {
	return segment{
		src: netip.AddrPortFrom(netip.MustParseAddr(client), port), dst: netip.MustParseAddrPort("192.0.2.7:443"),
		flags: flagACK, sack: true,
	}
}

// Of a flood of acknowledgements netstack gets as many as the client has budget for, and
// always the newest. Other clients are not affected.
func TestRecoveryIsPaidFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryLab()
		s, other := recoveringFrom("10.0.0.1", 1000), recoveringFrom("10.0.0.2", 1000)
		const room = 4 << 20
		walk := walkStep * (room/walkMSS + 1)
		l.rooms[synTuple{s.src, s.dst}], l.rooms[synTuple{other.src, other.dst}] = room, room
		start := time.Now()
		for i := range 10_000 {
			s.ack = uint32(i)
			s.sack = i == 0 // those without blocks cost as much
			l.send(s)
			if i == 5000 && !l.send(other) {
				t.Error("the acknowledgement of another client waits")
			}
			time.Sleep(100 * time.Microsecond)
		}
		time.Sleep(time.Second)
		all := l.got()
		got := time.Duration(len(all)-1) * walk
		if took := time.Since(start) - time.Second; got > took/recoveryShare+2*walk || got < took/recoveryShare/2 {
			t.Errorf("%d walks take %v of %v", len(all), got, took)
		}
		if last := all[len(all)-1]; last != 9999 {
			t.Errorf("the last to arrive is number %d", last)
		}
		l.close()
	})
}

// Connections share what their client has, and those that never lost anything
// pay nothing.
func TestRecoveryOfClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryLab()
		var conns []segment
		for port := range uint16(20) {
			s := recoveringFrom("2001:db8::1", 1000+port)
			s.src = netip.AddrPortFrom(netip.MustParseAddr("2001:db8::").Next(), 1000+port)
			l.rooms[synTuple{s.src, s.dst}] = 1 << 20
			conns = append(conns, s)
		}
		whole := recoveringFrom("2001:db8::99", 9) // of the same /64
		whole.sack = false
		l.rooms[synTuple{whole.src, whole.dst}] = 4 << 20
		for round := range 100 {
			for i := range conns {
				conns[i].ack = uint32(round)
				l.send(conns[i])
			}
			if !l.send(whole) {
				t.Fatal("a connection without SACK blocks waits")
			}
			time.Sleep(time.Millisecond)
		}
		whole.payload = 1
		if !l.send(whole) {
			t.Error("its data is lost")
		}
		time.Sleep(time.Second)
		walk := walkStep * (1<<20/walkMSS + 1)
		all := l.got()
		if got, most := time.Duration(len(all)-101)*walk, 100*time.Millisecond/recoveryShare+21*walk; got > most {
			t.Errorf("the walks of one client took %v of 100 ms", got)
		}
		n := 0
		for _, a := range all[len(all)-25:] {
			if a == 99 {
				n++
			}
		}
		if n < 20 {
			t.Errorf("%d of 20 connections got their last acknowledgement", n)
		}
		// Data pays too, and beyond the debt it is lost.
		data := conns[0]
		data.payload, data.sack = 1, false
		passed := 0
		for range 10_000 {
			if l.send(data) {
				passed++
			}
		}
		if most := int(recoveryDebt/(recoveryShare*walk)) + 2; passed > most || l.dropped == 0 {
			t.Errorf("%d segments with data passed, at most %d have budget; %d were dropped", passed, most, l.dropped)
		}
		data.flags |= flagRST
		if !l.send(data) {
			t.Error("a reset waits")
		}
		l.close()
	})
}

// Nothing is left over: a connection that is gone or has recovered is forgotten, and what
// waits is dropped at the end.
func TestRecoveryIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryLab()
		gone, recovered, waits := recoveringFrom("10.0.0.1", 1), recoveringFrom("10.0.0.1", 2), recoveringFrom("10.0.0.1", 3)
		for _, s := range []segment{gone, recovered, waits} {
			l.rooms[synTuple{s.src, s.dst}] = 1 << 20
		}
		nobody := recoveringFrom("10.0.0.9", 9)
		if !l.send(nobody) || len(l.flow) != 0 {
			t.Error("a connection that is not there is kept")
		}
		l.send(gone)
		time.Sleep(time.Second)
		l.send(recovered)
		delete(l.rooms, synTuple{gone.src, gone.dst})
		l.sweep(time.Now())
		if len(l.flow) != 1 || l.tracked.Load() != 1 {
			t.Errorf("%d connections are kept, want the one", len(l.flow))
		}
		time.Sleep(2 * recoveryLife)
		l.sweep(time.Now())
		if len(l.flow) != 0 || len(l.next) != 0 || l.tracked.Load() != 0 {
			t.Errorf("%d connections and %d clients are kept", len(l.flow), len(l.next))
		}
		l.send(waits)
		waits.ack = 7
		if l.send(waits) {
			t.Error("the second passes at once")
		}
		l.close()
		time.Sleep(time.Second)
		if n := len(l.got()); n != 4 { // nobody, gone, recovered, waits
			t.Errorf("%d packets arrived: one after the end", n)
		}
	})
}

func TestHasSACK(t *testing.T) {
	for _, tt := range []struct {
		options string
		want    bool
	}{
		{"", false},
		{"\x01\x01\x08\x0a12345678", false},
		{"\x01\x01\x05\x0a12345678", true},
		{"\x01\x01\x08\x0a12345678\x01\x01\x05\x1212345678abcdefgh", true},
		{"\x00\x00\x05\x0a12345678\x00\x00", false}, // behind the end
		{"\x05\x02\x01\x01", true},
		{"\x08\xff\x05\x0a", false}, // too long
		{"\x08\x00\x05\x0a", false}, // too short
		{"\x05\x01\x01\x01", false},
		{"\x01\x01\x01\x05", false},
	} {
		if got := hasSACK(append(make([]byte, tcpHeaderLen), tt.options...)); got != tt.want {
			t.Errorf("%q: %t", tt.options, got)
		}
	}
}

// Data of one connection keeps no acknowledgement of another waiting for ever;
// and long after the last SACK blocks it pays nothing.
func TestRecoveryIsServedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryLab()
		busy, waits := recoveringFrom("10.0.0.1", 1), recoveringFrom("10.0.0.1", 2)
		l.rooms[synTuple{busy.src, busy.dst}], l.rooms[synTuple{waits.src, waits.dst}] = 4<<20, 4<<20
		l.send(busy)
		waits.ack = 7777
		if l.send(waits) {
			t.Error("the second passes at once")
		}
		busy.payload = 1
		for range 1000 {
			l.send(busy)
			time.Sleep(100 * time.Microsecond)
		}
		if !slices.Contains(l.got(), 7777) {
			t.Error("an acknowledgement waits for ever")
		}
		time.Sleep(2 * recoveryData)
		busy.sack = false
		for range 1000 {
			if !l.send(busy) {
				t.Fatal("data is lost long after the last recovery")
			}
		}
		l.close()
	})
}

// An acknowledgement of data that cannot be under way never replaces a true one,
// whichever comes first, and pays for its own walk.
func TestRecoveryOfForgedACKs(t *testing.T) {
	const room = 4 << 20
	for _, tt := range []struct {
		name       string
		acks, want []uint32
	}{
		{"forged between", []uint32{1000, 1000 + 1<<30, 2000}, []uint32{2000, 1000 + 1<<30}},
		{"forged first", []uint32{1 << 30, 1000, 2000}, []uint32{1 << 30, 2000}},
		{"forged behind", []uint32{1000, 2000, 1<<32 + 2000 - 1<<29}, []uint32{2000, 1<<32 + 2000 - 1<<29}},
		{"just too far", []uint32{1000, 1000 + room + 1}, []uint32{1000, 1000 + room + 1}},
		{"round the end of the numbers", []uint32{1<<32 - 500, 1 << 30, 500}, []uint32{500, 1 << 30}},
		{"many forged", []uint32{1000, 1 << 29, 1 << 30, 3 << 29, 1500}, []uint32{1500, 3 << 29}},
		{"half the space away", []uint32{1000, 1000 + 1<<31, 1100}, []uint32{1100, 1000 + 1<<31}},
		{"out of order", []uint32{2000, 1000}, []uint32{2000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newRecoveryLab()
				s := recoveringFrom("10.0.0.1", 1000)
				l.rooms[synTuple{s.src, s.dst}] = room
				l.send(s) // uses the budget up
				for _, s.ack = range tt.acks {
					if l.send(s) {
						t.Fatal("it does not wait")
					}
				}
				time.Sleep(time.Second)
				if got := l.got()[1:]; !slices.Equal(got, tt.want) {
					t.Errorf("netstack got %d, want %d", got, tt.want)
				}
				if last := time.Until(l.next[clientkey.Of(s.src.Addr())]) + time.Second; last < time.Duration(1+len(tt.want))*recoveryShare*walkStep*(room/walkMSS) {
					t.Errorf("%d walks are paid with %v", 1+len(tt.want), last)
				}
				l.close()
			})
		})
	}
}
