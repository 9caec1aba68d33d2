package sender

import (
	"slices"
	"time"
)

// news is what one segment of the client has told so far.
type news struct {
	now     time.Duration
	acked   int           // bytes that have arrived, by ACK or SACK
	lost    int           // bytes found to be lost
	newest  *transmission // that has arrived
	rtt     time.Duration
	stamped bool
	echo    uint32
}

// in reads a segment of the client. pass is false if netstack need not see it; lost is
// true if it tells of a loss.
func (f *flow) in(a ack, now time.Duration) (pass, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead || a.flags&flagRST != 0 || a.flags&flagACK == 0 {
		return true, false
	}
	if !f.acceptable(a) {
		return true, false // netstack will not take it either: old, a keepalive probe, or forged
	}
	if before(f.nxt, a.ack) {
		if before(f.queued, a.ack) {
			return true, false // netstack knows how to answer (RFC 9293, section 3.10.7.4)
		}
		// Of bytes that wait here: the client cannot have them.
		f.s.stats.refused.Add(1)
		return false, false
	}
	bare := a.payload == 0 && a.flags&flagFIN == 0
	if before(a.ack, f.una) {
		f.duplicated(a)
		if !bare {
			f.window = a.window // netstack takes it, old as it is
		}
		return !bare, false
	}
	n := news{now: now, stamped: a.stamped, echo: a.echo}
	forward := a.ack != f.una
	again := bare && !forward && a.window == f.window && f.una != f.nxt
	if forward {
		f.rack.sacked = 0
		f.ackTo(a.ack, &n)
	}
	f.sacked(a, &n)
	f.learn(a, &n, forward, again)
	f.kick(now)
	f.closed(a.window, now)
	f.arm(now)
	f.window = a.window
	return !again || a.window == 0, n.lost > 0
}

// acceptable says whether netstack may take a segment, by its sequence number: it lies
// within the largest window. Netstack may have closed its window since, and then takes not
// even the acknowledgement: see checkAfter.
func (f *flow) acceptable(a ack) bool {
	return !before(a.seq+uint32(a.payload), f.newest.ack) && int(int32(a.seq-f.newest.ack)) <= f.s.cfg.MaxWindow
}

// ackTo takes what is acknowledged out of the queue.
func (f *flow) ackTo(to uint32, n *news) {
	f.una = to
	for f.q.len() > 0 {
		p := f.q.at(0)
		if before(to, p.end()) {
			f.trim(p, int(to-p.seq), n)
			return
		}
		f.trim(p, p.size, n)
		f.release(p)
		f.q.pop()
		f.next--
	}
	f.idleFrom, f.pauses.check = n.now, n.now+checkAfter
}

// trim takes the first bytes of a packet as acknowledged.
func (f *flow) trim(p *packet, to int, n *news) {
	if to <= p.acked {
		return
	}
	p.acked = to
	k := 0
	for ; k < len(p.runs) && p.runs[k].from < to; k++ {
		r := p.runs[k]
		r.to = min(r.to, to)
		f.arrived(p, r, n)
		if p.runs[k].to > to {
			p.runs[k].from = to
			break
		}
	}
	p.runs = p.runs[:copy(p.runs, p.runs[k:])]
}

// arrived counts the bytes of a run that the client has.
func (f *flow) arrived(p *packet, r run, n *news) {
	switch r.state {
	case received:
		return
	case underWay:
		f.flight -= r.size()
	case lost:
	}
	p.open -= r.size()
	f.path.delivered += uint64(r.size())
	n.acked += r.size()
	t := r.tx
	if n.newest == nil || t.at >= n.newest.at {
		n.newest = t
	}
	end := p.seq + uint32(r.to)
	took := n.now - t.at
	if t.again {
		// Perhaps this is the answer to the first time (RFC 8985, section 6.2, step 2).
		if n.stamped && int32(n.echo-t.stamp) < 0 || took < f.model.least {
			return
		}
	} else {
		if n.rtt == 0 || took < n.rtt {
			n.rtt = took
		}
		if before(end, f.rack.top) {
			f.rack.reordered = true
		}
	}
	if before(f.rack.top, end) {
		f.rack.top = end
	}
	if t.at > f.rack.at || t.at == f.rack.at && before(f.rack.end, end) {
		f.rack.at, f.rack.end, f.rack.took = t.at, end, took
	}
}

// sacked takes the SACK blocks of a segment (RFC 2018). Blocks of bytes that were not
// sent, or that are acknowledged, say nothing. They are taken in the order of the data:
// what one segment tells about two blocks does not say which of them came first.
func (f *flow) sacked(a ack, n *news) {
	blocks := a.blocks[:a.sacks]
	if len(blocks) > 0 && !before(f.nxt, blocks[0].to) && f.duplicated(a) {
		blocks = blocks[1:]
	}
	slices.SortFunc(blocks, func(x, y block) int { return int(int32(x.from - y.from)) })
	for _, b := range blocks {
		if !before(b.from, b.to) || before(f.nxt, b.to) || !before(a.ack, b.from) {
			continue
		}
		f.rack.sacks = true
		for k := f.q.find(b.from); k < f.q.len(); k++ {
			p := f.q.at(k)
			if !before(p.seq, b.to) {
				break
			}
			if p.open > 0 {
				f.mark(p, int(int32(b.from-p.seq)), int(int32(b.to-p.seq)), n)
			}
		}
	}
}

// mark takes the bytes [from, to) of a packet as received.
func (f *flow) mark(p *packet, from, to int, n *news) {
	from, to = p.whole(from, to)
	from, to = max(from, p.acked), min(to, p.sent)
	if from >= to {
		return
	}
	i := p.split(from)
	p.split(to)
	for ; i < len(p.runs) && p.runs[i].to <= to; i++ {
		if p.runs[i].state == received {
			continue
		}
		f.arrived(p, p.runs[i], n)
		f.rack.sacked += p.runs[i].size()
		p.runs[i].state = received
	}
}

// duplicated says whether the first SACK block tells of bytes that came twice (RFC 2883):
// what we took for lost was only late, so that more patience is needed.
func (f *flow) duplicated(a ack) bool {
	if a.sacks == 0 {
		return false
	}
	b := a.blocks[0]
	twice := !before(a.ack, b.to)
	if a.sacks > 1 && !twice {
		o := a.blocks[1]
		twice = !before(b.from, o.from) && !before(o.to, b.to)
	}
	if !twice || !before(b.from, b.to) || b.to-b.from > wholePacket {
		return false
	}
	f.s.stats.spurious.Add(int64((int(b.to-b.from) + f.mss - 1) / f.mss))
	if tail := f.rack.tail; before(b.from, tail.from) || before(tail.to, b.to) {
		f.rack.late(f.model.round)
	}
	return true
}

// learn tells the model what the segment has told.
func (f *flow) learn(a ack, n *news, forward, again bool) {
	f.rack.count(f, forward, again && a.sacks == 0)
	if n.rtt > 0 {
		f.path.measure(n.rtt)
	}
	if forward {
		f.pauses.backoff = 0
	}
	n.lost = f.detect(n.now)
	s := sample{
		now: n.now, delivered: f.path.delivered, rtt: n.rtt, acked: n.acked, lost: n.lost,
		flight: f.flight, mss: f.mss,
	}
	if t := n.newest; t != nil {
		s.prior, s.limited = t.delivered, t.limited
		s.interval = max(t.at-t.firstAt, n.now-t.deliveredAt)
		f.path.firstAt, f.path.deliveredAt = t.at, n.now
	}
	if n.acked > 0 || n.lost > 0 {
		f.model.take(s)
	}
	if n.acked > 0 || forward {
		f.progress(n.now)
	}
}

// measure takes a round trip (RFC 6298, section 2).
func (p *path) measure(rtt time.Duration) {
	if p.smooth == 0 {
		p.smooth, p.vary = rtt, rtt/2
		return
	}
	p.vary += (max(p.smooth-rtt, rtt-p.smooth) - p.vary) / 4
	p.smooth += (rtt - p.smooth) / 8
}
