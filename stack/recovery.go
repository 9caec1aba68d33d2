package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// recovery bounds how much work a client can cause in netstack's loss recovery.
//
// While a connection recovers from a loss, netstack walks over all segments under way for
// each acknowledgement (SetPipe in snd.go of netstack, RFC 6675, section 4). With 4 MiB
// under way that takes 0.55 ms, so 2,000 small packets a second took a processor. So
// acknowledgements of a connection that has sent SACK blocks (RFC 2018) pay for the walk,
// from a budget of their client. When the budget is used up, the newest acknowledgement
// waits for its turn, and replaces the one that waited before. A window is still
// acknowledged within recoveryShare times the walk, so this slows nothing to less than 15
// Gbit/s.
type recovery struct {
	now     func() time.Time
	deliver func(tcpip.NetworkProtocolNumber, *gstack.PacketBuffer)
	room    func(synTuple) int // the send buffer of the connection in bytes; -1: no such connection

	tracked atomic.Int64 // len(flow)

	mu     sync.Mutex
	flow   map[synTuple]*recovering
	next   map[netip.Prefix]time.Time // when a client has paid off its walks
	closed bool
	wg     sync.WaitGroup // timers that are armed

	held, dropped uint64
}

// recovering is a connection that has sent SACK blocks.
type recovering struct {
	sacked time.Time // when it last sent SACK blocks
	// The acknowledgements that wait. held[0] is the first one, replaced by newer ones
	// near it. held[1] is the newest of those farther from held[0] than all that can be
	// under way. One of the two must be forged, and must not replace the other. Only
	// netstack can tell them apart, so it gets both, and both are paid for.
	held  [2]heldACK
	timer *time.Timer // armed while an acknowledgement waits
}

// heldACK is an acknowledgement that waits; pkt is nil where none does.
type heldACK struct {
	pkt *gstack.PacketBuffer
	ack uint32
}

func (h *heldACK) set(ack uint32, pkt *gstack.PacketBuffer) {
	h.drop()
	h.pkt, h.ack = pkt.IncRef(), ack
}

func (h *heldACK) drop() {
	if h.pkt != nil {
		h.pkt.DecRef()
		h.pkt = nil
	}
}

// near says whether an acknowledgement may be of the same window, of room bytes, as the
// one that waits.
func (h *heldACK) near(ack uint32, room int) bool {
	by := int64(int32(ack - h.ack))
	return max(by, -by) <= int64(room)
}

func (f *recovering) waits() bool { return f.held[0].pkt != nil }

const (
	// walkStep is the time that a walk takes for one segment of an MSS: 550 µs by 2,900.
	walkStep = 190 * time.Nanosecond
	walkMSS  = 1448
	// recoveryShare is the part of one processor that the walks of one client
	// may take: a quarter.
	recoveryShare = 4
	// recoveryDebt is how far segments with data may overdraw the budget. Beyond it they
	// are dropped, and the client sends them again. They pay only within recoveryData of
	// the last SACK blocks: without a recovery there is no walk.
	recoveryDebt = 250 * time.Millisecond
	recoveryData = 5 * time.Second
	// recoveryLife is how long after its last SACK block a connection is watched: longer
	// than netstack stays in a recovery without one.
	recoveryLife = time.Minute
)

func newRecovery() *recovery {
	return &recovery{now: time.Now, flow: map[synTuple]*recovering{}, next: map[netip.Prefix]time.Time{}}
}

// attach must be called before every other method but snapshot.
func (r *recovery) attach(ns *gstack.Stack, l *link) {
	r.deliver = l.deliver
	r.room = func(t synTuple) int {
		ep, ok := ns.FindTransportEndpoint(t.proto(), tcp.ProtocolNumber, t.id(), nicID).(*tcp.Endpoint)
		if !ok || ep.EndpointState() == tcp.StateListen {
			return -1
		}
		return int(ep.SocketOptions().GetSendBufferSize())
	}
}

// take decides whether netstack gets a segment now; it is called for every segment but
// SYNs. For a packet that it keeps it takes a reference of its own.
func (r *recovery) take(s segment, pkt *gstack.PacketBuffer) bool {
	if !s.sack && r.tracked.Load() == 0 {
		return true // most segments: no connection has lost anything
	}
	if s.flags&flagRST != 0 {
		return true
	}
	t := synTuple{s.src, s.dst}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.flow[t]
	if f == nil && !s.sack || r.closed {
		return true
	}
	room := r.room(t)
	if room < 0 {
		return true // no connection: netstack answers RST
	}
	now := r.now()
	if f == nil {
		f = new(recovering)
		r.flow[t] = f
		r.tracked.Store(int64(len(r.flow)))
	}
	if s.sack {
		f.sacked = now
	}
	client := clientkey.Of(s.src.Addr())
	wait := r.next[client].Sub(now)
	switch {
	case s.payload > 0 || s.flags&flagFIN != 0:
		switch {
		case now.Sub(f.sacked) > recoveryData:
			return true
		case wait > recoveryDebt:
			r.dropped++
			return false
		}
	case f.waits():
		if r.replace(f, s.ack, room, pkt) {
			r.pay(client, room, now)
		}
		return false
	case wait > 0:
		// Pay for its turn now, so that no other segment can overtake it for ever.
		r.pay(client, room, now)
		r.hold(t, f, s.ack, pkt, wait)
		return false
	}
	r.pay(client, room, now)
	return true
}

// pay charges a client for a walk over room bytes.
func (r *recovery) pay(client netip.Prefix, room int, now time.Time) {
	from := r.next[client]
	if from.Before(now) {
		from = now
	}
	r.next[client] = from.Add(recoveryShare * walkStep * time.Duration(room/walkMSS+1))
}

// hold keeps an acknowledgement until its turn comes, after wait.
func (r *recovery) hold(t synTuple, f *recovering, ack uint32, pkt *gstack.PacketBuffer, wait time.Duration) {
	r.held++
	f.held[0].set(ack, pkt)
	r.wg.Add(1)
	f.timer = time.AfterFunc(wait, func() {
		defer r.wg.Done()
		r.due(t, f)
	})
}

// replace lets a newer acknowledgement take the turn of the one that waits. If the newer
// one is far from it, it waits beside it; then more is true, because one more walk is to
// be paid.
func (r *recovery) replace(f *recovering, ack uint32, room int, pkt *gstack.PacketBuffer) (more bool) {
	r.held++
	h := &f.held[0]
	if !h.near(ack, room) {
		h = &f.held[1]
		if h.pkt == nil || !h.near(ack, room) {
			more = h.pkt == nil
			h.set(ack, pkt)
			return more
		}
	}
	if int32(ack-h.ack) >= 0 { // an older one came out of order
		h.set(ack, pkt)
	}
	return false
}

// due delivers the acknowledgements that wait: their turn has come.
func (r *recovery) due(t synTuple, f *recovering) {
	r.mu.Lock()
	held := f.held // empty if recovery was closed meanwhile
	f.held = [2]heldACK{}
	r.mu.Unlock()
	for _, h := range held {
		if h.pkt != nil {
			r.deliver(t.proto(), h.pkt) // without the lock: netstack may answer on the spot
			h.drop()
		}
	}
}

// sweep forgets connections that are gone or have recovered, and clients that owe
// nothing.
func (r *recovery) sweep(now time.Time) {
	if r.tracked.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for t, f := range r.flow {
		if !f.waits() && (now.Sub(f.sacked) > recoveryLife || r.room(t) < 0) {
			delete(r.flow, t)
		}
	}
	for client, next := range r.next {
		if next.Before(now) {
			delete(r.next, client)
		}
	}
	r.tracked.Store(int64(len(r.flow)))
}

// close drops everything, and returns when no timer runs any more.
func (r *recovery) close() {
	r.mu.Lock()
	r.closed = true
	for _, f := range r.flow {
		if !f.waits() {
			continue
		}
		f.held[0].drop()
		f.held[1].drop()
		if f.timer.Stop() {
			r.wg.Done()
		}
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// snapshot adds the counters.
func (r *recovery) snapshot(s *Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.RecoveryHeld, s.RecoveryDropped = r.held, r.dropped
}

// hasSACK says whether a TCP header has SACK blocks (RFC 2018, section 3).
func hasSACK(tcp []byte) bool {
	if onlyTimestamps(tcp) {
		return false
	}
	for o := tcp[tcpHeaderLen:]; len(o) > 0; {
		switch {
		case o[0] == 0: // end of the list
			return false
		case o[0] == 1: // no operation
			o = o[1:]
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return false // netstack reads no further either
		case o[0] == 5:
			return true
		}
		o = o[o[1]:]
	}
	return false
}
