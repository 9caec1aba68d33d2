package stack

import (
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// earlyLab is a table where no tuple has a connection.
type earlyLab struct {
	*early
	t         testing.TB
	at        time.Time
	sent      uint64
	delivered []string
}

func newEarlyLab(t testing.TB) *earlyLab {
	l := &earlyLab{early: newEarly(), t: t, at: time.Unix(1e9, 0)}
	l.now = func() time.Time { return l.at }
	l.cookies = func() uint64 { return l.sent }
	l.known = func(synTuple) bool { return false }
	l.deliver = func(_ tcpip.NetworkProtocolNumber, p *gstack.PacketBuffer) {
		v := p.ToView()
		l.delivered = append(l.delivered, string(v.AsSlice()))
		v.Release()
	}
	t.Cleanup(func() {
		l.close()
		if l.bytes != 0 || len(l.tuple) != 0 || len(l.queue) != 0 {
			t.Errorf("left: %d bytes, %d tuples, queue of %d", l.bytes, len(l.tuple), len(l.queue))
		}
	})
	return l
}

func (l *earlyLab) segment(n int, flags uint8, data string) earlyAnswer {
	s := segment{
		src:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1024),
		dst:   netip.MustParseAddrPort("192.0.2.7:443"),
		flags: flags, payload: len(data),
	}
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData([]byte(data))})
	defer pkt.DecRef()
	return l.take(s, pkt)
}

func (l *earlyLab) want(what string, got, want earlyAnswer) {
	l.t.Helper()
	if got != want {
		l.t.Errorf("%s: %d, want %d", what, got, want)
	}
}

func (l *earlyLab) connect(n int) []string {
	l.delivered = nil
	l.release(synTuple{
		src: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1024),
		dst: netip.MustParseAddrPort("192.0.2.7:443"),
	})
	return l.delivered
}

// What waits is delivered in order, once, and without segments of other tuples.
func TestEarlyOrder(t *testing.T) {
	l := newEarlyLab(t)
	l.want("ACK", l.segment(1, flagACK, ""), earlyAll)
	l.want("data", l.segment(1, flagACK, "a"), earlyNone)
	l.want("another's data", l.segment(2, flagACK, "x"), earlyACK)
	l.want("data", l.segment(1, flagACK, "b"), earlyNone)
	l.want("RST of one that waits", l.segment(1, flagRST, "r"), earlyNone)
	l.want("RST of nobody", l.segment(3, flagRST, ""), earlyAll)
	if got := l.connect(1); len(got) != 3 || got[0] != "a" || got[1] != "b" || got[2] != "r" {
		t.Errorf("handed over: %q", got)
	}
	if got := l.connect(1); len(got) != 0 {
		t.Errorf("again: %q", got)
	}
	if got := l.connect(2); len(got) != 1 || got[0] != "x" {
		t.Errorf("handed over: %q", got)
	}
	l.known = func(synTuple) bool { return true }
	l.want("of a connection", l.segment(1, flagACK, "c"), earlyAll)
}

// What has waited too long is dropped, and a client that sends it again must acknowledge
// again.
func TestEarlyExpires(t *testing.T) {
	l := newEarlyLab(t)
	l.want("ACK", l.segment(1, flagACK, ""), earlyAll)
	l.want("data", l.segment(1, flagACK, "a"), earlyNone)
	l.at = l.at.Add(earlyLife - 1)
	l.want("data", l.segment(1, flagACK, "b"), earlyNone)
	l.at = l.at.Add(1)
	l.want("sent again", l.segment(1, flagACK, "a"), earlyACK)
	if got := l.connect(1); len(got) != 1 || got[0] != "a" {
		t.Errorf("handed over: %q", got)
	}
}

// Every bound holds under a flood of ACKs and data that belong to no connection.
func TestEarlyBounds(t *testing.T) {
	l := newEarlyLab(t)
	for range 2 * earlyPackets {
		l.segment(0, flagACK, "many")
	}
	if got := l.connect(0); len(got) != earlyPackets {
		t.Errorf("%d packets of one client waited, at most %d", len(got), earlyPackets)
	}
	big := string(make([]byte, 1400))
	for n := range earlyTuples {
		l.want("data", l.segment(n, flagACK, big), earlyACK)
	}
	l.want("ACK beyond the table", l.segment(earlyTuples, flagACK, ""), earlyAll)
	l.want("data beyond the table", l.segment(earlyTuples, flagACK, "a"), earlyNone)
	if len(l.tuple) != earlyTuples || l.bytes > earlyBytes || l.dropped == 0 {
		t.Errorf("%d tuples, %d bytes, %d dropped", len(l.tuple), l.bytes, l.dropped)
	}
	l.at = l.at.Add(earlyLife)
	l.want("ACK afterwards", l.segment(earlyTuples, flagACK, ""), earlyAll)
	if len(l.tuple) != 1 || l.bytes != 0 {
		t.Errorf("%d tuples, %d bytes", len(l.tuple), l.bytes)
	}
}

// Segments are looked at only while a cookie may come back.
func TestEarlyWanted(t *testing.T) {
	l := newEarlyLab(t)
	is := func(want bool) {
		t.Helper()
		if l.wanted() != want {
			t.Errorf("wanted: %t", !want)
		}
	}
	is(false)
	l.sent++
	is(true)
	is(true)
	l.at = l.at.Add(cookieLife)
	is(false)
	l.sent++
	is(true)
}
