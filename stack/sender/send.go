package sender

import (
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// burst is how much is sent at once on a long path: what the path carries in this
	// time, but at least two segments.
	burst = time.Millisecond
	// catchUp is how late a pause may end, at least, so that the next ones are shorter for
	// it: a busy machine wakes us late, and what the path carries must not seem less.
	catchUp = 10 * time.Millisecond
	// cautious is how long after a loss a short path is not trusted to carry everything.
	cautious = 10 * time.Second
	// repairs bounds the packets that the goroutine which receives for all flows sends for
	// one acknowledgement.
	repairs = 8
)

// outgoing is what one call of send gives to the device, with a reference of its own.
type outgoing struct {
	pkt   *gstack.PacketBuffer
	parts []Part // none: the packet as netstack made it
}

// transmit sends what may be sent now: first what was lost, then what is new. It holds
// sending, so that packets leave in order, but f.mu only between the writes: who receives
// must not wait for the device.
func (f *flow) transmit(now time.Duration) {
	f.sending.Lock()
	defer f.sending.Unlock()
	for f.transmitOne(now) {
	}
}

// repair sends what was lost as soon as the client says so. The client acknowledges each
// segment behind a hole, so that thousands of acknowledgements may wait to be read by the
// goroutine that calls this, and the timers come after them. If somebody else sends now, he
// or the timers do this too.
func (f *flow) repair(now time.Duration) {
	if !f.sending.TryLock() {
		return
	}
	defer f.sending.Unlock()
	for range repairs {
		if !f.transmitOne(now) {
			return
		}
	}
}

func (f *flow) transmitOne(now time.Duration) (sent bool) {
	f.mu.Lock()
	o, ok := f.take(now)
	if !ok && !f.dead {
		f.arm(now)
	}
	f.mu.Unlock()
	if ok {
		f.write(o)
	}
	return ok
}

// write gives packets to the device. sending is held.
func (f *flow) write(o outgoing) {
	if len(o.parts) == 0 {
		f.s.cfg.Device.Whole(o.pkt)
	}
	for _, p := range o.parts {
		f.s.cfg.Device.Part(p)
	}
	if o.pkt != nil {
		o.pkt.DecRef()
	}
}

// free says that nothing is held back: the path is short and has lost nothing lately.
func (f *flow) free(now time.Duration) bool {
	return !f.model.pacing() && (f.rack.lossAt == 0 || now-f.rack.lossAt > cautious)
}

// take decides what goes out now.
func (f *flow) take(now time.Duration) (o outgoing, ok bool) {
	if f.dead {
		return o, false
	}
	p, from, to, again := f.pick()
	if p == nil {
		f.limited()
		return o, false
	}
	if !f.free(now) && f.full() {
		return o, false
	}
	if f.model.pacing() {
		if f.pauses.send > now {
			f.pauses.wait = f.pauses.send
			return o, false
		}
		if rate := f.model.pace(); rate > 0 {
			if most := max(int(rate*int64(burst)/int64(time.Second)), 2*p.mss); to-from > most {
				to = from + most/p.mss*p.mss
			}
			f.pauses.send = max(f.pauses.send, now-max(catchUp, f.model.least)) + time.Duration(int64(to-from)*int64(time.Second)/rate)
		}
	}
	return f.send(p, from, to, again, now), true
}

// kick is for who receives and must not send: it has the timers do so at once, if
// something may be sent.
func (f *flow) kick(now time.Duration) {
	if f.missing.empty() && f.next == f.q.len() || !f.free(now) && f.full() {
		return
	}
	f.pauses.wait = now
	if f.model.pacing() {
		f.pauses.wait = max(now, f.pauses.send)
	}
}

// full says whether enough is under way. Duplicates of a client without SACK each say
// that a segment has left the path.
func (f *flow) full() bool {
	return f.flight-f.rack.duplicates*f.mss >= f.model.window
}

// pick says what is to be sent next; p is nil if there is nothing.
func (f *flow) pick() (p *packet, from, to int, again bool) {
	for !f.missing.empty() {
		t := f.missing.first()
		for _, r := range t.p.runs {
			if r.state == lost && r.tx == t {
				return t.p, r.from, r.to, true
			}
		}
		f.missing.pop()
	}
	if f.next < f.q.len() {
		p = f.q.at(f.next)
		return p, p.sent, p.size, false
	}
	return nil, 0, 0, false
}

// limited records that the application, or the client's window, is the limit and not the
// path.
func (f *flow) limited() {
	if f.flight < f.model.window {
		f.path.limitedUntil = f.path.delivered + uint64(f.flight) + 1
	}
}

// send takes a part of a packet as sent now.
func (f *flow) send(p *packet, from, to int, again bool, now time.Duration) outgoing {
	if f.flight == 0 {
		f.path.firstAt, f.path.deliveredAt = now, now
	}
	t := &p.tx
	if again || from > 0 {
		t = new(transmission)
	}
	*t = transmission{
		p: p, at: now, from: from, to: to, again: again, stamp: f.newest.stamp(now),
		delivered: f.path.delivered, deliveredAt: f.path.deliveredAt, firstAt: f.path.firstAt,
		limited: f.path.delivered < f.path.limitedUntil,
	}
	f.rack.log.push(t)
	f.flight += to - from
	if again {
		i := p.split(from)
		p.split(to)
		p.runs[i].state, p.runs[i].tx = underWay, t
		f.s.stats.again.Add(int64((to - from + p.mss - 1) / p.mss))
	} else {
		p.runs = append(p.runs, run{from: from, to: to, tx: t})
		p.sent, p.open = to, p.open+to-from
		if to == p.size {
			f.next++
		}
		f.nxt = p.seq + uint32(to)
	}
	f.sent(again, now)
	o := outgoing{pkt: p.pkt.IncRef()}
	// A packet that has waited has an old timestamp. The client drops it if something with
	// a newer one has come meanwhile: an acknowledgement of netstack, or what was sent again
	// (PAWS, RFC 7323, section 5.3).
	if again || to-from < p.size || !p.asIs || f.newest.stamped && p.stamp != t.stamp {
		o.parts = f.parts(p, from, to, now)
	}
	return o
}

// parts are what the device sends for a part of a packet: one, or without offloads one
// for each segment.
func (f *flow) parts(p *packet, from, to int, now time.Duration) (parts []Part) {
	step := to - from
	if !f.s.cfg.Offload {
		step = min(step, p.mss)
	}
	for at, size := from, 0; at < to; at += size {
		size = min(step, to-at)
		if at+size == p.data {
			size = to - at // the FIN goes with the last data
		}
		parts = append(parts, Part{
			Head: f.newest.head(p, at, size, now, f.s.cfg.Offload), V6: f.v6,
			Pkt: p.pkt, At: at, Size: size - p.fin(at+size), MSS: p.mss,
		})
	}
	return parts
}
