package stack

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// early holds back what clients send right behind the ACK of a SYN cookie, until
// netstack has made a connection from the cookie.
//
// Netstack would queue such segments to the listener. The listener passes them to the
// connection but counts them as its own memory for ever. After a receive buffer's worth
// (TestDataBehindCookie) the listener takes no segment with data any more, and a client
// that comes by cookie is heard only after a retransmission. So a listener gets one
// segment of a tuple at a time, and none with data.
type early struct {
	cookies func() uint64 // how many were sent so far
	now     func() time.Time
	deliver func(tcpip.NetworkProtocolNumber, *gstack.PacketBuffer)
	known   func(synTuple) bool // whether the tuple has a connection

	seen  atomic.Uint64             // how many cookies wanted has seen
	until atomic.Pointer[time.Time] // when the last cookie expires; nil: there was none

	mu    sync.Mutex
	tuple map[synTuple]*earlyTuple
	queue []*earlyTuple // oldest first
	bytes int           // memory of all held packets

	held, dropped uint64
}

type earlyTuple struct {
	synTuple
	at   time.Time
	pkts []*gstack.PacketBuffer
	gone bool // out of the table, but still in the queue
}

const (
	// cookieLife is how long a cookie may come back: netstack accepts cookies of the
	// current period of 64 s and of the two before.
	cookieLife = 3 * 64 * time.Second
	// earlyLife is how long a client's segments wait for the connection. It is less
	// than the 200 ms after which Linux sends them again (TCP_RTO_MIN).
	earlyLife = 150 * time.Millisecond
	// earlyTuples bounds the tuples that wait: enough for 25,000 ACKs a second, about 1
	// MiB.
	earlyTuples = 4096
	// earlyPackets bounds the packets that wait for one tuple: more than the first
	// flight of ten segments (RFC 6928).
	earlyPackets = 16
	// earlyBytes bounds the memory of all packets that wait.
	earlyBytes = 4 << 20
)

func newEarly() *early {
	return &early{now: time.Now, tuple: map[synTuple]*earlyTuple{}}
}

// attach must be called before every other method but snapshot.
func (e *early) attach(ns *gstack.Stack, l *link) {
	e.cookies = ns.Stats().TCP.ListenOverflowSynCookieSent.Value
	e.deliver = l.deliver
	e.known = func(t synTuple) bool { return known(ns, t) }
}

// known says whether netstack has a connection of the tuple.
func known(ns *gstack.Stack, t synTuple) bool {
	ep, ok := ns.FindTransportEndpoint(t.proto(), tcp.ProtocolNumber, t.id(), nicID).(*tcp.Endpoint)
	return ok && ep.EndpointState() != tcp.StateListen
}

// wanted says whether a cookie may still come back. The receiving goroutines call it
// for every segment but a SYN. Without cookies it costs a few loads.
func (e *early) wanted() bool {
	if n := e.cookies(); n != e.seen.Load() {
		until := e.now().Add(cookieLife)
		e.until.Store(&until)
		e.seen.Store(n) // after until: a goroutine that sees no new cookie must see the new until
		return true
	}
	until := e.until.Load()
	return until != nil && e.now().Before(*until)
}

// earlyAnswer is what netstack gets of a segment at once.
type earlyAnswer int

const (
	earlyNone earlyAnswer = iota // nothing: the segment waits, or is lost
	earlyAll                     // the segment itself
	earlyACK                     // only its acknowledgement: the rest waits
)

// take decides about a segment other than a SYN, while cookies may come back. For a
// packet that it keeps it takes a reference of its own.
func (e *early) take(s segment, pkt *gstack.PacketBuffer) earlyAnswer {
	t := synTuple{s.src, s.dst}
	if e.known(t) {
		return earlyAll // most segments belong to a connection
	}
	now := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	// Asked again under the lock: if the connection is made after this, release finds
	// what is added now.
	if e.known(t) {
		return earlyAll
	}
	e.expire(now)
	w := e.tuple[t]
	bare := s.payload == 0 && s.flags&flagFIN == 0
	switch {
	case w != nil:
		e.hold(w, pkt)
		return earlyNone
	case s.flags&flagRST != 0:
		return earlyAll // a listener does nothing with it
	case len(e.tuple) >= earlyTuples:
		if bare {
			return earlyAll
		}
		e.dropped++
		return earlyNone
	}
	w = &earlyTuple{synTuple: t, at: now}
	e.tuple[t] = w
	e.queue = append(e.queue, w)
	if bare {
		return earlyAll
	}
	e.hold(w, pkt)
	return earlyACK
}

func (e *early) hold(w *earlyTuple, pkt *gstack.PacketBuffer) {
	size := pkt.MemSize()
	if len(w.pkts) >= earlyPackets || e.bytes+size > earlyBytes {
		e.dropped++
		return
	}
	e.held++
	e.bytes += size
	w.pkts = append(w.pkts, pkt.IncRef())
}

// release gives netstack the packets that waited for a connection, now that it exists.
func (e *early) release(t synTuple) {
	e.mu.Lock()
	w := e.tuple[t]
	var pkts []*gstack.PacketBuffer
	if w != nil {
		pkts = e.remove(w)
	}
	e.mu.Unlock()
	for _, p := range pkts { // without the lock: netstack may answer on the spot
		e.deliver(t.proto(), p)
		p.DecRef()
	}
}

// sweep drops the packets that have waited for too long.
func (e *early) sweep(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire(now)
}

func (e *early) expire(now time.Time) {
	n := 0
	for _, w := range e.queue {
		if !w.gone {
			if now.Sub(w.at) < earlyLife {
				break
			}
			for _, p := range e.remove(w) {
				p.DecRef()
			}
		}
		n++
	}
	e.queue = slices.Delete(e.queue, 0, n)
}

// remove takes a tuple out of the table and returns its packets. Its entry in the queue
// stays until expire reaches it.
func (e *early) remove(w *earlyTuple) []*gstack.PacketBuffer {
	delete(e.tuple, w.synTuple)
	w.gone = true
	for _, p := range w.pkts {
		e.bytes -= p.MemSize()
	}
	pkts := w.pkts
	w.pkts = nil
	return pkts
}

// close drops everything that waits.
func (e *early) close() { e.sweep(e.now().Add(time.Hour)) }

// snapshot adds the counters.
func (e *early) snapshot(s *Stats) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.EarlyHeld, s.EarlyDropped, s.EarlyBytes = e.held, e.dropped, e.bytes
}

// withoutData returns a copy of a packet's headers with these TCP flags and no data.
// head is the beginning of the packet up to the data, without IPv6 extension headers.
func withoutData(v6 bool, head []byte, flags uint8) []byte {
	if v6 {
		b := slices.Clone(head[:ipv6HeaderLen+tcpHeaderSize(head[ipv6HeaderLen:])])
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6HeaderLen))
		b[ipv6HeaderLen+13] = flags
		return b
	}
	b := slices.Clone(head[:ipv4HeaderLen+tcpHeaderSize(head[ipv4HeaderLen:])])
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b[:ipv4HeaderLen], 0))
	b[ipv4HeaderLen+13] = flags
	return b
}

// proto is the network protocol of the tuple.
func (t synTuple) proto() tcpip.NetworkProtocolNumber {
	if t.src.Addr().Is6() {
		return header.IPv6ProtocolNumber
	}
	return header.IPv4ProtocolNumber
}

// id is the tuple as netstack's endpoint ID, in which the client is the remote side.
func (t synTuple) id() gstack.TransportEndpointID {
	return gstack.TransportEndpointID{
		LocalAddress: tcpip.AddrFromSlice(t.dst.Addr().AsSlice()), LocalPort: t.dst.Port(),
		RemoteAddress: tcpip.AddrFromSlice(t.src.Addr().AsSlice()), RemotePort: t.src.Port(),
	}
}
