package sender

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// flow is the state of one flow. It exists while something is not acknowledged, and a
// little longer.
type flow struct {
	s *Sender
	t Tuple

	// Of timers.mu.
	deadline time.Duration
	place    int // in the heap; -1: not in it

	sending sync.Mutex // held while packets go to the device; taken before mu

	mu       sync.Mutex
	dead     bool
	armed    time.Duration // no later than deadline; 0: not in the heap
	idleFrom time.Duration

	q       queue  // what netstack has sent and is not acknowledged
	next    int    // how many of q are sent whole
	una     uint32 // the first byte that is not acknowledged
	nxt     uint32 // behind the last byte that was sent to the device
	queued  uint32 // behind the last byte that netstack has sent
	mss     int
	flight  int // bytes under way: sent, not received, not lost
	newest  newest
	head    []byte // an IP and a TCP header of this flow
	headIP  int    // length of the IP header in it
	v6      bool
	window  uint16 // the last that netstack was told
	model   model
	path    path
	rack    rack
	missing log // transmissions parts of which are lost, to be sent again
	pauses  pauses
}

// path is what is measured for model (draft-cheng-iccrg-delivery-rate-estimation-02), and
// the round trip of RFC 6298.
type path struct {
	delivered    uint64 // bytes
	deliveredAt  time.Duration
	firstAt      time.Duration
	limitedUntil uint64 // the application is the limit until this much is delivered
	smooth, vary time.Duration
}

// pauses are when something is to be done; 0: never.
type pauses struct {
	send    time.Duration // the next packet may go
	wait    time.Duration // somebody waits for that
	reorder time.Duration // what is late then is lost
	probe   time.Duration // the tail loss probe
	timeout time.Duration
	window  time.Duration // a probe of a closed window
	check   time.Duration // whether netstack knows what is acknowledged
	backoff int           // timeouts since something was acknowledged
	asked   int           // window probes since it closed
}

const (
	// idleLife is how long the model of the path is kept when nothing is under way.
	idleLife = 3 * time.Second
	// checkAfter is how long after the last acknowledgement netstack is asked whether it
	// has taken it. It does not where its window has closed in front of what the client
	// sent, and then it waits for what will not come again.
	checkAfter = leastTimeout
	// leastSegment is the data of the smallest packet that a path makes us send: 552 bytes
	// (see toobig.go of stack) without 40 of headers and 40 of options.
	leastSegment = 472
)

func newFlow(s *Sender, t Tuple, pkt *gstack.PacketBuffer) *flow {
	ip, tcp := pkt.NetworkHeader().Slice(), pkt.TransportHeader().Slice()
	seq := binary.BigEndian.Uint32(tcp[4:])
	f := &flow{s: s, t: t, place: -1, una: seq, nxt: seq, queued: seq, v6: len(ip) == ipv6HeaderLen, headIP: len(ip)}
	f.head = slices.Concat(ip, tcp[:tcpHeaderLen])
	f.mss = segmentSize(pkt)
	f.model.window = firstWindow * f.mss
	f.rack.end, f.rack.top, f.rack.recover, f.rack.factor = seq, seq, seq, 1
	return f
}

// segmentSize is the size of the segments on the wire in bytes, at least 1.
func segmentSize(pkt *gstack.PacketBuffer) int {
	size := pkt.Data().Size()
	if m := int(pkt.GSOOptions.MSS); pkt.GSOOptions.Type != gstack.GSONone && m > 0 {
		return m
	}
	return max(size, 1)
}

// note takes what the headers of a packet say that is not kept.
func (f *flow) note(tcp []byte, now time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest.note(tcp, now)
}

// out takes a packet with data or a FIN. taken is false if the caller has to send it;
// alive is false if the flow was given up meanwhile. With corked it is not sent yet.
func (f *flow) out(pkt *gstack.PacketBuffer, now time.Duration, corked bool) (taken, alive bool) {
	taken, alive = f.keep(pkt, now)
	if taken && !corked {
		f.transmit(now)
	}
	return taken, alive
}

// keep is out without the sending.
func (f *flow) keep(pkt *gstack.PacketBuffer, now time.Duration) (taken, alive bool) {
	tcp := pkt.TransportHeader().Slice()
	seq, data := binary.BigEndian.Uint32(tcp[4:]), pkt.Data().Size()
	size := data + int(tcp[13]&flagFIN)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.dead:
		return false, false
	case before(seq, f.una):
		f.newest.note(tcp, now)
		return false, true // a probe of the window: its data are no data
	case before(seq, f.queued):
		f.newest.note(tcp, now)
		return f.repeated(pkt, seq, seq+uint32(size)), true
	case seq != f.queued:
		return false, true // never seen to happen; netstack itself sends it again
	}
	f.newest.note(tcp, now)
	if data == 0 && f.finish() {
		return true, true
	}
	mss := segmentSize(pkt)
	if pkt.GSOOptions.Type != gstack.GSONone {
		f.mss = mss
	}
	f.mss = max(f.mss, mss)
	if f.next == f.q.len() {
		f.limited()
	}
	p := &packet{pkt: pkt.IncRef(), seq: seq, size: size, data: data, mss: mss, asIs: true, stamp: f.newest.value}
	p.runs = p.first[:0]
	f.s.stats.kept.Add(1)
	f.q.push(p)
	f.pauses.check = 0
	f.queued = p.end()
	return true, true
}

// finish adds netstack's FIN, which has a packet of its own, to the last data, if nothing of
// that was sent yet. It returns false if there is none.
func (f *flow) finish() bool {
	if f.next == f.q.len() {
		return false
	}
	last := f.q.at(f.q.len() - 1)
	if last.sent > 0 || last.size > last.data {
		return false
	}
	last.size++
	last.asIs = false
	f.queued++
	return true
}

// repeated takes a packet that netstack sends again. Either its timeout, which is much
// longer than ours, has come: then the first packet goes out as a last resort. Or the
// path carries less than before ("packet too big"): then what is larger is sent again in
// smaller segments.
func (f *flow) repeated(pkt *gstack.PacketBuffer, seq, end uint32) (taken bool) {
	mss := segmentSize(pkt)
	i := f.q.find(seq)
	if i < f.q.len() && f.q.at(i).seq == seq && before(end, f.q.at(i).end()) || pkt.GSOOptions.Type != gstack.GSONone {
		f.shrink(mss)
	}
	// A packet of which nothing was sent yet goes out in its turn.
	return seq != f.una || !before(f.una, f.nxt) || f.pauses.backoff == 0
}

// shrink makes the segments no larger than mss. Larger ones that are under way are lost.
func (f *flow) shrink(mss int) {
	if mss < leastSegment {
		return // a small window of the client cut it, not the path
	}
	f.mss = min(f.mss, mss)
	for _, p := range f.q.live() {
		if p.mss <= mss {
			continue
		}
		p.asIs, p.mss = false, mss
		for i := range p.runs {
			if p.runs[i].state == underWay && p.runs[i].size() > mss {
				f.lose(p, i)
			}
		}
	}
}

// release gives a packet back.
func (f *flow) release(p *packet) {
	p.pkt.DecRef()
	p.pkt, p.runs = nil, nil
	f.s.stats.kept.Add(-1)
}

// end gives everything back. The flow is not used any more.
func (f *flow) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked()
}

// endLocked is end for a caller that holds the lock.
func (f *flow) endLocked() {
	if f.dead {
		return
	}
	f.dead = true
	for _, p := range f.q.live() {
		f.release(p)
	}
	f.q, f.rack.log, f.missing = queue{}, log{}, log{}
	f.s.count.Add(-1)
	f.s.timer.drop(f)
}

// due does what the time has come for. It returns false if the flow is idle and not
// needed any more.
func (f *flow) due(now time.Duration) bool {
	probes, check, idle := f.come(now)
	if check != nil {
		check()
	}
	if idle {
		return false
	}
	f.sending.Lock()
	for _, o := range probes {
		f.write(o)
	}
	f.sending.Unlock()
	f.transmit(now)
	return true
}

// come does what the time has come for, but for the sending: it returns the probes.
func (f *flow) come(now time.Duration) (probes []outgoing, check func(), idle bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, nil, true
	}
	w := &f.pauses
	come := func(at *time.Duration) bool {
		if *at == 0 || *at > now {
			return false
		}
		*at = 0
		return true
	}
	if come(&w.reorder) {
		f.detect(now)
	}
	if come(&w.timeout) {
		f.timeout(now)
	} else if come(&w.probe) {
		probes = f.probeTail(now)
	}
	if come(&w.window) {
		probes = append(probes, f.probeWindow(now))
	}
	come(&w.wait)
	if come(&w.check) {
		una, window := f.una, f.window
		check = func() { f.s.cfg.Unheard(f.t, una, window) }
	}
	if idle = f.q.len() == 0 && len(probes) == 0 && w.window == 0 && now-f.idleFrom >= idleLife; idle {
		f.endLocked() // before the lock is given up: what comes next begins anew
	}
	return probes, check, idle
}

// unset is called when the deadline was taken out of the heap.
func (f *flow) unset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = 0
}

// arm sets the deadline to the earliest of all pauses.
func (f *flow) arm(now time.Duration) {
	w := &f.pauses
	at := never
	for _, p := range [...]time.Duration{w.wait, w.reorder, w.probe, w.timeout, w.window, w.check} {
		if p != 0 && p < at {
			at = p
		}
	}
	if at == never {
		at = now + idleLife
	}
	if f.armed == 0 || at < f.armed {
		f.armed = at
		f.s.timer.set(f, at)
	}
}
