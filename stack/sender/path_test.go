package sender

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// simPath is a simulated path with a client of our own at its end. The client does what a
// kernel does: it drops what has an old timestamp (PAWS), acknowledges every second segment
// and each one out of order, and says in SACK blocks what it has.
type simPath struct {
	r      *rig
	rand   *rand.Rand
	delay  time.Duration
	loss   float64 // of segments, and of acknowledgements
	late   float64 // that come up to a delay later
	twice  float64
	sack   bool
	events []event
	rate   float64       // bytes a second towards the client
	queue  time.Duration // that the narrowest place of the path keeps
	busy   time.Duration // until when it sends what it has
	full   int           // segments that found no room in the queue
	refill func()        // netstack sends more

	begin   uint32
	next    uint32 // that the client wants
	have    []block
	told    []block // in SACK blocks, the newest first (RFC 2018, section 4)
	recent  uint32  // timestamp
	unacked int     // segments
	delayed time.Duration
	taken   int // packets of r.sent that are on their way
}

type event struct {
	at  time.Duration
	pkt *wirePacket // to the client
	ack *simACK     // from it
}

type simACK struct {
	ack    uint32
	blocks []block
}

func (p *simPath) post(e event) {
	begin := p.r.at
	if e.pkt != nil {
		begin = max(begin, p.busy)
		if begin-p.r.at > p.queue {
			p.full++
			return
		}
		p.busy = begin + time.Duration(float64(len(e.pkt.data)+52)/p.rate*1e9)
		begin = p.busy
	}
	if p.rand.Float64() < p.loss {
		return
	}
	for n := 1; n > 0; n-- {
		e.at = begin + p.delay
		if p.rand.Float64() < p.late {
			e.at += time.Duration(p.rand.Int64N(int64(p.delay)))
		}
		i, _ := slices.BinarySearchFunc(p.events, e.at, func(o event, at time.Duration) int {
			if o.at <= at {
				return -1
			}
			return 1
		})
		p.events = slices.Insert(p.events, i, e)
		if p.rand.Float64() < p.twice {
			n++
		}
	}
}

// collect puts what was sent since the last time on its way.
func (p *simPath) collect() {
	for ; p.taken < len(p.r.sent); p.taken++ {
		p.post(event{pkt: &p.r.sent[p.taken]})
	}
}

func (p *simPath) receive(w *wirePacket) {
	for i, b := range w.data {
		if b != byte((w.seq+uint32(i))*7) {
			p.r.t.Fatalf("byte %d of segment %d is %d", i, w.seq, b)
		}
	}
	end := w.seq + uint32(len(w.data)) + uint32(w.flags&flagFIN)
	if int32(w.stamp-p.recent) < 0 { // RFC 7323, section 5.3: dropped, and acknowledged
		p.answer()
		return
	}
	if !before(p.next, w.seq) {
		p.recent = w.stamp
	}
	var dup []block
	switch {
	case !before(p.next, end):
		dup = []block{{w.seq, end}}
	case before(p.next, w.seq):
		p.have = merge(append(p.have, block{w.seq, end}))
		i := slices.IndexFunc(p.have, func(b block) bool { return !before(w.seq, b.from) && before(w.seq, b.to) })
		p.told = slices.DeleteFunc(p.told, func(b block) bool { return !before(b.from, p.have[i].from) && !before(p.have[i].to, b.to) })
		p.told = slices.Insert(p.told, 0, p.have[i])
		p.answer()
		return
	default:
		p.next = end
		for len(p.have) > 0 && !before(p.next, p.have[0].from) {
			if before(p.next, p.have[0].to) {
				p.next = p.have[0].to
			}
			p.have = p.have[1:]
		}
	}
	p.unacked++
	if len(dup) > 0 || len(p.have) > 0 || p.unacked >= 2 || w.flags&flagFIN != 0 {
		p.answer(dup...)
		return
	}
	p.delayed = p.r.at + 40*time.Millisecond
}

// merge joins blocks that touch, in order.
func merge(all []block) []block {
	slices.SortFunc(all, func(a, b block) int { return int(int32(a.from - b.from)) })
	out := all[:1]
	for _, b := range all[1:] {
		last := &out[len(out)-1]
		switch {
		case before(last.to, b.from):
			out = append(out, b)
		case before(last.to, b.to):
			last.to = b.to
		}
	}
	return slices.Clone(out)
}

func (p *simPath) answer(dup ...block) {
	p.unacked, p.delayed = 0, 0
	a := &simACK{ack: p.next}
	if p.sack {
		p.told = slices.DeleteFunc(p.told, func(b block) bool { return !before(p.next, b.to) })
		a.blocks = append(dup, p.told...)
		a.blocks = a.blocks[:min(len(a.blocks), 3)]
	}
	p.post(event{ack: a})
}

// run lets time pass until everything has arrived and is acknowledged.
func (p *simPath) run(limit time.Duration) {
	r := p.r
	for i := 0; r.at < limit; i++ {
		if p.refill != nil {
			p.refill()
		}
		p.collect()
		if i%100 == 0 { // it looks at all that is kept
			r.check()
		}
		if f := r.s.find(tuple); p.next == r.seq && (f == nil || f.q.len() == 0) {
			return
		}
		at := r.at + time.Millisecond
		if len(p.events) > 0 {
			at = min(at, max(p.events[0].at, r.at))
		}
		if p.delayed > 0 {
			at = min(at, max(p.delayed, r.at))
		}
		r.wait(at - r.at)
		p.collect()
		if p.delayed > 0 && p.delayed <= r.at {
			p.answer()
		}
		if len(p.events) == 0 || p.events[0].at > r.at {
			continue
		}
		e := p.events[0]
		p.events = p.events[1:]
		if e.pkt != nil {
			p.receive(e.pkt)
			continue
		}
		r.ack(e.ack.ack, e.ack.blocks...)
	}
	r.t.Fatalf("after %v %d of %d bytes have arrived: %+v", r.at, p.next-p.begin, r.seq-p.begin, r.s.Stats())
}

// Over paths that lose, reorder and duplicate, in both directions, every byte arrives, and
// in a time that the path explains: the rate is never that of a sender that waits for
// timeouts.
func TestPaths(t *testing.T) {
	const mbit = 1e6 / 8
	for _, c := range []struct {
		delay            time.Duration
		loss, late, dups float64
		rate             float64
		most             time.Duration // for 1 MB
	}{
		{50 * time.Microsecond, 0, 0, 0, 1000 * mbit, 500 * time.Millisecond},
		{50 * time.Microsecond, 0.005, 0, 0, 1000 * mbit, 400 * time.Millisecond},
		{10 * time.Millisecond, 0, 0, 0, 100 * mbit, 400 * time.Millisecond},
		{10 * time.Millisecond, 0.01, 0, 0, 100 * mbit, 500 * time.Millisecond},
		{10 * time.Millisecond, 0, 0.1, 0, 100 * mbit, 500 * time.Millisecond},
		{10 * time.Millisecond, 0.01, 0.05, 0.02, 100 * mbit, 500 * time.Millisecond},
		{40 * time.Millisecond, 0.01, 0.02, 0.02, 20 * mbit, 2 * time.Second},
		{40 * time.Millisecond, 0.1, 0, 0, 20 * mbit, 2500 * time.Millisecond},
	} {
		for _, gso := range []bool{false, true} {
			for _, sack := range []bool{true, false} {
				name := fmt.Sprintf("delay=%v/loss=%g/late=%g/twice=%g/gso=%t/sack=%t", c.delay, c.loss, c.late, c.dups, gso, sack)
				t.Run(name, func(t *testing.T) {
					for seed := range uint64(2) {
						r := newRig(t, 1<<32-100_000, gso)
						r.window = 50_000
						r.warm(2 * c.delay)
						p := &simPath{
							r: r, rand: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // a test that can be repeated
							delay: c.delay, loss: c.loss, late: c.late, twice: c.dups, sack: sack, rate: c.rate,
							queue: max(2*c.delay, 5*time.Millisecond), begin: r.seq, next: r.seq, taken: len(r.sent),
						}
						const size = 1_000_000
						for left := size; left > 0; {
							n := min(left, mss)
							if gso {
								n = min(left, 40*mss)
							}
							r.send(n)
							left -= n
						}
						r.out(0, flagACK|flagFIN)
						start := r.at
						most := c.most
						if !sack {
							most *= 50 // one loss is mended a round trip
						}
						p.run(start + most)
						if testing.Verbose() {
							t.Logf("seed %d: %v, full %d, %+v", seed, r.at-start, p.full, r.s.Stats())
						}
					}
				})
			}
		}
	}
}

// Losses among the first segments do not make a flow slow: it finds out what the path
// carries in a few round trips all the same, not in a quarter more every eight of them.
func TestStartsThroughLosses(t *testing.T) {
	const size, buffer, rate = 8_000_000, 4 << 20, 500e6 / 8
	var all time.Duration
	const seeds = 12
	for seed := range uint64(seeds) {
		r := newRig(t, 1<<32-100_000, true)
		r.window = 50_000
		p := &simPath{
			r: r, rand: rand.New(rand.NewPCG(seed, 7)), //nolint:gosec // a test that can be repeated
			delay: 10 * time.Millisecond, loss: 0.02, sack: true, rate: rate, queue: 40 * time.Millisecond,
			begin: r.seq, next: r.seq,
		}
		left := size
		p.refill = func() {
			una := r.seq
			if f := r.s.find(tuple); f != nil {
				una = f.una
			}
			for left > 0 && int(r.seq-una) < buffer {
				r.send(min(left, 40*mss))
				left -= min(left, 40*mss)
			}
		}
		start := r.at
		p.run(start + 10*time.Second)
		all += r.at - start
		t.Logf("seed %d: %v, %+v", seed, r.at-start, r.s.Stats())
	}
	if mean := all / seeds; mean > 800*time.Millisecond {
		t.Errorf("%v on average for what the path carries in %v", mean, time.Duration(size/rate*float64(time.Second)))
	}
}

// What a flow can use of a send buffer is known once its path is, and follows it.
func TestRoom(t *testing.T) {
	r := newRig(t, 1, true)
	r.window = 60_000
	if n := r.s.Room(tuple); n != 0 {
		t.Errorf("%d bytes for a flow that is not there", n)
	}
	const rate = 100e6 / 8
	p := &simPath{
		r: r, rand: rand.New(rand.NewPCG(1, 1)), //nolint:gosec // a test that can be repeated
		delay: 20 * time.Millisecond, sack: true, rate: rate, queue: 40 * time.Millisecond, begin: r.seq, next: r.seq,
	}
	r.warm(40 * time.Millisecond)
	p.next, p.taken = r.seq, len(r.sent)
	for range 100 {
		r.send(40 * mss)
	}
	p.run(r.at + 10*time.Second)
	const holds = rate * 0.040
	if n := float64(r.s.Room(tuple)); n < 6*holds || n > 10*holds {
		t.Errorf("%.0f bytes of room where the path holds %.0f", n, holds)
	}
}
