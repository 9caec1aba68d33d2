package sender

import (
	"encoding/binary"
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
	// ackWait is how long an acknowledgement waits for data. A client that waits for it
	// because of Nagle's algorithm waits this much longer; Linux delays by 40 ms and more.
	ackWait = 5 * time.Millisecond
	// ackBytes is how much may come meanwhile: less than two full segments of the smallest
	// MTU of IPv6, so that bulk data is acknowledged as before.
	ackBytes = 2 * 1220
	// maxDelayed bounds the flows whose acknowledgements wait. Those of more are not delayed.
	maxDelayed = 4096
)

// DelayedACKs holds the acknowledgements that wait.
type DelayedACKs struct {
	send func(*gstack.PacketBuffer)
	now  func() time.Time

	count atomic.Int64 // of flow
	mu    sync.Mutex
	flow  map[Tuple]*delayedACK
	order []*delayedACK // by due, the first from head on
	head  int
	timer *time.Timer
	armed bool
	over  chan struct{} // closed by Close

	merged *atomic.Uint64
}

// delayedACK is what is not acknowledged of one flow.
type delayedACK struct {
	t        Tuple
	from, to uint32 // sequence numbers of the client's data, from the first that waits
	due      time.Time
	pkt      *gstack.PacketBuffer // netstack's acknowledgement; nil: not made yet
	ack      uint32               // its number
	gone     bool                 // not in flow any more
}

// NewDelayedACKs makes one that calls send with what nothing has taken along, and counts in
// merged what data has. Run must be called for its timer.
func NewDelayedACKs(send func(*gstack.PacketBuffer), merged *atomic.Uint64) *DelayedACKs {
	d := &DelayedACKs{send: send, now: time.Now, flow: map[Tuple]*delayedACK{}, timer: time.NewTimer(time.Hour), over: make(chan struct{}), merged: merged}
	d.timer.Stop()
	return d
}

// Run sends what has waited long enough, until Close.
func (d *DelayedACKs) Run() {
	for {
		select {
		case <-d.timer.C:
			d.fire()
		case <-d.over:
			return
		}
	}
}

// Close gives back what waits. Nothing is delayed any more.
func (d *DelayedACKs) Close() {
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

// Expect is told of a segment of a client before netstack sees it: its sequence number and
// the bytes of its data, a FIN included. Its acknowledgement may wait.
func (d *DelayedACKs) Expect(t Tuple, seq uint32, bytes int) {
	size := uint32(bytes)
	if size == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch a := d.flow[t]; {
	case a != nil && seq == a.to && seq+size-a.from < ackBytes:
		a.to += size
	case a != nil:
		// Too much, or something odd: netstack's next acknowledgement goes at once, and
		// takes the place of this one.
		a.to = a.from
	case size < ackBytes && d.flow != nil && len(d.flow) < maxDelayed:
		a = &delayedACK{t: t, from: seq, to: seq + size, due: d.now().Add(ackWait)}
		d.flow[t] = a
		d.count.Store(int64(len(d.flow)))
		d.order = append(d.order, a)
		if !d.armed {
			d.armed = true
			d.timer.Reset(ackWait)
		}
	}
}

// Takes says whether it keeps a packet that netstack sends: a bare acknowledgement of what
// Expect was told of.
func (d *DelayedACKs) Takes(pkt *gstack.PacketBuffer) bool {
	if d.count.Load() == 0 || pkt.Data().Size() > 0 {
		return false
	}
	tcp := pkt.TransportHeader().Slice()
	if len(tcp) < tcpHeaderLen || tcp[13] != flagACK || len(tcp) != tcpHeaderLen && (len(tcp) != tcpHeaderLen+timestampsLen || binary.BigEndian.Uint32(tcp[tcpHeaderLen:]) != stampsAsUsual) {
		return false
	}
	t, ok := tupleOf(pkt.NetworkHeader().Slice(), tcp)
	if !ok {
		return false
	}
	ack := binary.BigEndian.Uint32(tcp[8:])
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.flow[t]
	// One that says the same as the one that waits tells of a window or answers a probe.
	if a == nil || !before(a.from, ack) || before(a.to, ack) || a.pkt != nil && ack == a.ack {
		return false
	}
	a.release()
	a.pkt, a.ack = pkt.IncRef(), ack
	return true
}

// Sent is told of a packet that is sent: what it acknowledges need not wait any more.
func (d *DelayedACKs) Sent(ip, tcp []byte) {
	if d.count.Load() == 0 || len(tcp) < tcpHeaderLen {
		return
	}
	t, ok := tupleOf(ip, tcp)
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
	if tcp[13]&flagRST == 0 && (before(ack, a.to) || a.pkt != nil && before(ack, a.ack)) {
		return
	}
	if a.pkt != nil {
		d.merged.Add(1)
	}
	a.release()
	d.forget(a)
}

// forget takes a out of flow. d.mu is held.
func (d *DelayedACKs) forget(a *delayedACK) {
	delete(d.flow, a.t)
	a.gone = true
	d.count.Store(int64(len(d.flow)))
}

// fire sends what is due.
func (d *DelayedACKs) fire() {
	for _, pkt := range d.due() {
		d.send(pkt)
		pkt.DecRef()
	}
}

// due takes out the acknowledgements that are due, and sets the timer for the rest.
func (d *DelayedACKs) due() (all []*gstack.PacketBuffer) {
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
