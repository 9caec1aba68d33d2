package stack

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Delayed acknowledgements (RFC 9293, section 3.8.6.3; RFC 5681, section 4.2), which netstack
// does not have: it answers each segment at once. Most small segments are answered with
// data within milliseconds, a client hello with our flight and a request with its reply.
// Then the acknowledgement of its own is a packet for nothing, on every hop.
const (
	// ackDelay is how long an acknowledgement waits for data. A client that waits for it
	// because of Nagle's algorithm waits this much longer; Linux delays by 40 ms and more.
	ackDelay = 5 * time.Millisecond
	// ackBytes is how much may come meanwhile: less than two full segments of the smallest
	// MTU of IPv6, so that bulk data is acknowledged as before.
	ackBytes = 2 * 1220
	// maxDelayed bounds the flows whose acknowledgements wait. Those of more are not delayed.
	maxDelayed = 4096
)

// delayedACKs holds what waits.
type delayedACKs struct {
	send func(*gstack.PacketBuffer)
	now  func() time.Time

	count atomic.Int64 // of flow
	mu    sync.Mutex
	flow  map[synTuple]*delayedACK
	order []*delayedACK // by due, the first from head on
	head  int
	timer *time.Timer
	armed bool
	over  chan struct{} // closed by close

	merged *atomic.Uint64
}

// delayedACK is what is not acknowledged of one flow.
type delayedACK struct {
	t        synTuple
	from, to uint32 // sequence numbers of the client's data, from the first that waits
	due      time.Time
	pkt      *gstack.PacketBuffer // netstack's acknowledgement; nil: not made yet
	ack      uint32               // its number
	gone     bool                 // not in flow any more
}

func newDelayedACKs(send func(*gstack.PacketBuffer), merged *atomic.Uint64) *delayedACKs {
	d := &delayedACKs{send: send, now: time.Now, flow: map[synTuple]*delayedACK{}, timer: time.NewTimer(time.Hour), over: make(chan struct{}), merged: merged}
	d.timer.Stop()
	return d
}

// run sends what has waited long enough, until close.
func (d *delayedACKs) run() {
	for {
		select {
		case <-d.timer.C:
			d.fire()
		case <-d.over:
			return
		}
	}
}

// close gives back what waits. Nothing is delayed any more.
func (d *delayedACKs) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.flow {
		a.release()
	}
	d.flow, d.order = nil, nil
	d.count.Store(0)
	d.timer.Stop()
	close(d.over)
}

func (a *delayedACK) release() {
	if a.pkt != nil {
		a.pkt.DecRef()
		a.pkt = nil
	}
}

// expect is told of a segment of a client before netstack sees it: its acknowledgement may
// wait.
func (d *delayedACKs) expect(s segment) {
	size := uint32(s.payload) + uint32(s.flags&flagFIN)
	if size == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t := synTuple{s.src, s.dst}
	switch a := d.flow[t]; {
	case a != nil && s.seq == a.to && s.seq+size-a.from < ackBytes:
		a.to += size
	case a != nil:
		// Too much, or something odd: netstack's next acknowledgement goes at once, and
		// takes the place of this one.
		a.to = a.from
	case size < ackBytes && d.flow != nil && len(d.flow) < maxDelayed:
		a = &delayedACK{t: t, from: s.seq, to: s.seq + size, due: d.now().Add(ackDelay)}
		d.flow[t] = a
		d.count.Store(int64(len(d.flow)))
		d.order = append(d.order, a)
		if !d.armed {
			d.armed = true
			d.timer.Reset(ackDelay)
		}
	}
}

// takes says whether it keeps a packet that netstack sends: a bare acknowledgement of what
// expect was told of.
func (d *delayedACKs) takes(pkt *gstack.PacketBuffer) bool {
	if d.count.Load() == 0 || pkt.Data().Size() > 0 {
		return false
	}
	tcp := pkt.TransportHeader().Slice()
	if len(tcp) < tcpHeaderLen || tcp[13] != flagACK || !onlyTimestamps(tcp) {
		return false
	}
	t, ok := tupleOut(pkt.NetworkHeader().Slice(), tcp)
	if !ok {
		return false
	}
	ack := binary.BigEndian.Uint32(tcp[8:])
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.flow[t]
	// One that says the same as the one that waits tells of a window or answers a probe.
	if a == nil || int32(ack-a.from) <= 0 || int32(ack-a.to) > 0 || a.pkt != nil && ack == a.ack {
		return false
	}
	a.release()
	a.pkt, a.ack = pkt.IncRef(), ack
	return true
}

// sent is told of a packet that is sent: what it acknowledges need not wait any more.
func (d *delayedACKs) sent(ip, tcp []byte) {
	if d.count.Load() == 0 || len(tcp) < tcpHeaderLen {
		return
	}
	t, ok := tupleOut(ip, tcp)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.flow[t]
	if a == nil {
		return
	}
	ack := binary.BigEndian.Uint32(tcp[8:])
	if tcp[13]&flagRST == 0 && (int32(ack-a.to) < 0 || a.pkt != nil && int32(ack-a.ack) < 0) {
		return
	}
	if a.pkt != nil {
		d.merged.Add(1)
	}
	a.release()
	d.forget(a)
}

// forget takes a out of flow. d.mu is held.
func (d *delayedACKs) forget(a *delayedACK) {
	delete(d.flow, a.t)
	a.gone = true
	d.count.Store(int64(len(d.flow)))
}

// fire sends what is due.
func (d *delayedACKs) fire() {
	for _, pkt := range d.due() {
		d.send(pkt)
		pkt.DecRef()
	}
}

// due takes out the acknowledgements that are due, and sets the timer for the rest.
func (d *delayedACKs) due() (all []*gstack.PacketBuffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = false
	now := d.now()
	for d.head < len(d.order) {
		a := d.order[d.head]
		wait := a.due.Sub(now)
		if !a.gone && wait > 0 {
			d.armed = true
			d.timer.Reset(wait)
			break
		}
		d.order[d.head] = nil
		d.head++
		if a.gone {
			continue
		}
		d.forget(a)
		if a.pkt != nil {
			all = append(all, a.pkt)
			a.pkt = nil
		}
	}
	d.order = d.order[:copy(d.order, d.order[d.head:])]
	d.head = 0
	return all
}

// tupleOut is the flow of a packet that goes to a client.
func tupleOut(ip, tcp []byte) (t synTuple, ok bool) {
	var src, dst netip.Addr
	switch {
	case len(ip) >= ipv4HeaderLen && ip[0]>>4 == 4:
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	case len(ip) >= ipv6HeaderLen && ip[0]>>4 == 6:
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	default:
		return t, false
	}
	return synTuple{netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])), netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp))}, true
}
