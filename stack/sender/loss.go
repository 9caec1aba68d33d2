package sender

import (
	"slices"
	"time"
)

// rack finds losses by time (RFC 8985): what was sent before something that has arrived,
// and has not arrived a while later, is lost.
type rack struct {
	log    log           // transmissions in the order of time
	at     time.Duration // when the newest was sent of what has arrived
	end    uint32        // behind its last byte
	took   time.Duration // its round trip
	top    uint32        // behind the highest byte that has arrived
	sacked int           // bytes received by SACK since una was moved by an acknowledgement

	sacks      bool // the client sends SACK blocks
	duplicates int  // of the same acknowledgement, of a client that does not
	recovering bool // something was lost, and not all that was under way then is acknowledged
	recover    uint32
	reordered  bool          // this path changes the order
	factor     int           // of the patience for it
	factorAt   uint64        // the round in which it was changed
	lossAt     time.Duration // when something was lost last
	tail       block         // the last tail loss probe
}

const (
	duplicateThreshold = 3                      // RFC 5681, section 3.2
	leastTimeout       = 200 * time.Millisecond // as Linux has it (TCP_RTO_MIN)
	firstTimeout       = time.Second            // RFC 6298, section 2
	mostTimeout        = 30 * time.Second
	// ackDelay is how long a client may keep an acknowledgement back: Linux 40 ms, and a
	// busy machine is late.
	ackDelay     = 50 * time.Millisecond
	mostFactor   = 16
	factorRounds = 64 // without a duplicate, and the patience is as before
	windowProbes = 6
)

// late makes the patience longer: something came twice (RFC 8985, section 6.2, step 4).
func (r *rack) late(round uint64) {
	r.reordered = true
	if round != r.factorAt {
		r.factor, r.factorAt = min(r.factor+1, mostFactor), round
	}
}

// patience is how much longer than a round trip something may be under way.
func (f *flow) patience() time.Duration {
	r := &f.rack
	if !r.reordered && (r.recovering || r.sacked >= duplicateThreshold*f.mss) {
		return 0
	}
	if r.factor > 1 && f.model.round-r.factorAt > factorRounds {
		r.factor = 1
	}
	return min(time.Duration(r.factor)*f.model.least/4, f.path.smooth)
}

// detect finds what is lost and returns how many bytes that is.
func (f *flow) detect(now time.Duration) (bytes int) {
	r := &f.rack
	f.pauses.reorder = 0
	for !r.log.empty() && !r.log.first().open() {
		r.log.pop()
	}
	if !r.sacks {
		return 0 // what has arrived behind a hole is not known
	}
	for !r.log.empty() {
		t := r.log.first()
		if !t.open() {
			r.log.pop()
			continue
		}
		if t.at > r.at {
			break
		}
		due := t.at + r.took + f.patience()
		rest := false
		for i := range t.p.runs {
			u := &t.p.runs[i]
			if u.tx != t || u.state != underWay {
				continue
			}
			if t.at == r.at && before(r.end, t.p.seq+uint32(u.to)) {
				rest = true // sent after what has arrived
				break
			}
			if due > now {
				f.pauses.reorder = due
				return bytes
			}
			bytes += u.size()
			f.lose(t.p, i)
		}
		if rest {
			break
		}
		r.log.pop()
	}
	return bytes
}

// open says whether a part of a transmission is under way.
func (t *transmission) open() bool {
	for _, r := range t.p.runs {
		if r.tx == t && r.state == underWay {
			return true
		}
	}
	return false
}

// lose takes a run as lost.
func (f *flow) lose(p *packet, i int) {
	u := &p.runs[i]
	if u.state == underWay {
		f.flight -= u.size()
	}
	u.state = lost
	f.missing.push(u.tx)
	f.rack.lossAt = f.s.now()
	if r := &f.rack; !r.recovering {
		r.recovering, r.recover = true, f.nxt
	}
}

// count counts the duplicates of an acknowledgement where the client has no SACK (RFC
// 6582): the third says that the first segment is lost, and so does an acknowledgement of
// only a part of what was under way then.
func (r *rack) count(f *flow, forward, again bool) {
	switch {
	case forward:
		if r.recovering && !before(f.una, r.recover) {
			r.recovering = false
		}
		partial := r.recovering && !r.sacks && r.duplicates > 0
		r.duplicates = 0
		if partial {
			r.duplicates = 1
			f.loseFirst()
		}
	case again && !r.sacks:
		if r.duplicates++; r.duplicates == duplicateThreshold && !r.recovering {
			f.loseFirst()
		}
	}
}

// loseFirst takes the first segment as lost.
func (f *flow) loseFirst() {
	if f.q.len() == 0 {
		return
	}
	p := f.q.at(0)
	if len(p.runs) == 0 || p.runs[0].state != underWay {
		return
	}
	p.split(min(p.acked+p.mss, p.size))
	f.lose(p, 0)
}

// timeoutAfter is the retransmission timeout (RFC 6298, section 2).
func (f *flow) timeoutAfter() time.Duration {
	t := firstTimeout
	if f.path.smooth > 0 {
		t = max(f.path.smooth+4*f.path.vary, f.path.smooth+leastTimeout)
	}
	return min(t<<min(f.pauses.backoff, 10), mostTimeout)
}

// sent sets the timers after something was sent.
func (f *flow) sent(again bool, now time.Duration) {
	w := &f.pauses
	if w.timeout == 0 {
		w.timeout = now + f.timeoutAfter()
	}
	if !again && !f.rack.recovering && w.backoff == 0 && f.path.smooth > 0 {
		w.probe = now + 2*f.path.smooth + ackDelay
	}
}

// progress sets the timers after something has arrived.
func (f *flow) progress(now time.Duration) {
	w := &f.pauses
	w.timeout, w.probe = 0, 0
	if f.una == f.nxt {
		return
	}
	w.timeout = now + f.timeoutAfter()
	if !f.rack.recovering && f.path.smooth > 0 {
		w.probe = now + 2*f.path.smooth + ackDelay
	}
}

// probeTail sends the last segment again, or a new one, so that the client says what it
// has (RFC 8985, section 7.3). An acknowledgement then tells of the losses before it.
func (f *flow) probeTail(now time.Duration) []outgoing {
	f.pauses.timeout = now + f.timeoutAfter()
	if f.next < f.q.len() {
		p := f.q.at(f.next)
		o := f.send(p, p.sent, min(p.sent+p.mss, p.size), false, now)
		f.pauses.probe = 0
		return []outgoing{o}
	}
	k := f.q.len() - 1
	for k >= 0 && f.q.at(k).open == 0 {
		k--
	}
	if k < 0 {
		return nil
	}
	p := f.q.at(k)
	for _, r := range slices.Backward(p.runs) {
		if r.state == received {
			continue
		}
		from := max(r.from, (r.to-1)/p.mss*p.mss)
		if r.state == underWay {
			f.flight -= r.to - from
		}
		f.s.stats.probes.Add(1)
		f.rack.tail = block{p.seq + uint32(from), p.seq + uint32(r.to)}
		return []outgoing{f.send(p, from, r.to, true, now)}
	}
	return nil
}

// timeout takes all that is under way as lost, and what the client has only said to have
// if it does not acknowledge it (RFC 2018, section 8).
func (f *flow) timeout(now time.Duration) {
	if f.q.len() == 0 || f.una == f.nxt {
		return
	}
	f.s.stats.timeouts.Add(1)
	f.pauses.backoff++
	f.pauses.probe, f.pauses.reorder = 0, 0
	f.missing, f.rack.log = log{}, log{}
	f.rack.duplicates, f.rack.sacked = 0, 0
	f.rack.recovering = false
	first := f.q.at(0)
	reneged := len(first.runs) > 0 && first.runs[0].state == received
	for _, p := range f.q.live() {
		for i := range p.runs {
			if p.runs[i].state == received {
				if !reneged {
					continue
				}
				p.open += p.runs[i].size()
			}
			f.lose(p, i)
		}
	}
	f.flight = 0
	f.model.restart(f.mss)
	f.pauses.send = 0
	f.pauses.timeout = now + f.timeoutAfter()
}

// closed watches the client's window. If it is closed, netstack asks for it only after
// its own timeout, which is long, so we ask before: the update may have been lost.
func (f *flow) closed(window uint16, now time.Duration) {
	w := &f.pauses
	switch {
	case window != 0:
		w.window, w.asked = 0, 0
	case w.asked == 0 && w.window == 0:
		w.window = now + f.timeoutAfter()
	}
}

// probeWindow asks for the window, with longer and longer pauses.
func (f *flow) probeWindow(now time.Duration) outgoing {
	w := &f.pauses
	if w.asked++; w.asked < windowProbes {
		w.window = now + f.timeoutAfter()<<w.asked
	}
	return outgoing{parts: []Part{{Head: f.newest.probe(f.head, f.headIP, f.una, now), V6: f.v6, MSS: f.mss}}}
}
