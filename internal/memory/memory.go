// Package memory keeps the process below a ceiling of resident memory.
//
// The garbage collector is told the ceiling, less what it cannot see
// (debug.SetMemoryLimit), and a Budget measures what is in use, many times a
// second where it is close. The nearer it comes, the more is done about it:
//
//	Calm    below half of the limit: nothing
//	Tight   from half: socket buffers get shares of what is left
//	Full    from three quarters: only clients that hold little are admitted
//	Over    from 85 %: the flows that hold the most are ended
//	Flood   resident memory in the last half of the reserve: nothing that
//	        would be held is taken from the network either
//
// What is in use is what the last garbage collection found alive, and what
// cannot be collected; not the garbage since, of which there is always as much
// as there is room. Where that is old and memory runs out, a collection is
// made.
package memory

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Level says how near the ceiling is. Each includes those before it.
type Level int32

// The levels.
const (
	Calm  Level = iota
	Tight       // save buffers
	Full        // admit only who holds little
	Over        // end what holds the most
	Flood       // take nothing in
)

func (l Level) String() string {
	switch l {
	case Calm:
		return "calm"
	case Tight:
		return "tight"
	case Full:
		return "full"
	case Over:
		return "over"
	case Flood:
		return "flood"
	}
	return fmt.Sprintf("level %d", int32(l))
}

// MinCeiling is the smallest ceiling in bytes that Start takes: the program
// itself is about 30 MiB of it.
const MinCeiling = 128 << 20

// FlowReserve is what an admitted flow is counted with until the next
// collection has measured it, in bytes: stack, handshake, certificates and the
// first buffers.
const FlowReserve = 128 << 10

// Thresholds as parts of the limit, in percent. A level is left 5 points below
// where it is entered, so that it does not flutter.
const (
	tightAt  = 50
	fullAt   = 75
	overAt   = 85
	leaveGap = 5
	// shedTo is where ending flows stops.
	shedTo = 65
)

const (
	// Between two looks at what is in use lies the time in which the room that
	// is left could be filled at fillRate, within these bounds. A look costs
	// about 10 µs.
	minInterval = 10 * time.Millisecond
	maxInterval = 250 * time.Millisecond
	fillRate    = 4 << 30 // bytes a second

	// collectEvery bounds the collections made here; the runtime makes its own.
	collectEvery = time.Second
	// logEvery bounds the log's lines.
	logEvery = 10 * time.Second
)

// Config of a Budget. All but Ceiling, Actions and Log are for tests.
type Config struct {
	// Ceiling of resident memory in bytes, at least MinCeiling.
	Ceiling int64
	// Actions are what a Budget does about it.
	Actions Actions
	// Log says when levels change, at a bounded rate. Required.
	Log *zap.Logger

	measure func() (usage, error)
	collect func()
	now     func() time.Time
}

// Actions are called by Run, one after the other. Nil ones are left out.
type Actions struct {
	// Tighten is told how many bytes all buffers of flows together may take
	// from now on; 0 takes the bound back. Called again as the room changes.
	Tighten func(room int64)
	// Shed ends flows that hold at least need bytes together and returns what
	// they held, and how many there were.
	Shed func(need int64) (freed int64, flows int)
}

// Budget is the memory of the process. Its methods may be called by anyone at
// any time.
type Budget struct {
	cfg   Config
	limit int64 // for the garbage collector; also what the levels are parts of

	level    atomic.Int32
	inUse    atomic.Int64 // of the last look
	resident atomic.Int64
	admitted atomic.Int64  // live flows that no collection has measured yet
	epoch    atomic.Uint64 // grows with each one that has
	refused  atomic.Uint64
	shed     atomic.Uint64
	bytes    atomic.Uint64

	say rate.Sometimes

	// Run's own.
	cycles   uint64    // collections so far
	cycleAt  time.Time // when the last one was seen
	room     int64     // as Tighten was last told
	measured bool      // whether the last collection came after the last shedding
}

// Stats is how a Budget stands.
type Stats struct {
	Ceiling, Limit  int64 // bytes
	InUse, Resident int64 // bytes
	Level           Level
	Refused         uint64 // flows not admitted
	Shed            uint64 // flows ended
	ShedBytes       uint64 // bytes those held
}

// Start makes a Budget and tells the garbage collector its limit. Undo puts the
// former limit back.
func Start(c Config) (b *Budget, undo func(), err error) {
	if c.Ceiling < MinCeiling {
		return nil, nil, fmt.Errorf("memory: a ceiling of %d bytes is below the least, %d", c.Ceiling, int64(MinCeiling))
	}
	if c.Log == nil {
		return nil, nil, errors.New("memory: a log is required")
	}
	closeMeter := func() {}
	if c.measure == nil {
		m, err := newMeter()
		if err != nil {
			return nil, nil, fmt.Errorf("memory: %w", err)
		}
		c.measure, closeMeter = m.read, m.close
	}
	if c.collect == nil {
		c.collect = runtime.GC
	}
	if c.now == nil {
		c.now = time.Now
	}
	u, err := c.measure()
	if err != nil {
		closeMeter()
		return nil, nil, fmt.Errorf("memory: %w", err)
	}
	b = &Budget{cfg: c, limit: limitOf(c.Ceiling, u.file), measured: true, say: rate.Sometimes{Interval: logEvery}}
	b.cycles, b.cycleAt = u.cycles, c.now()
	before := debug.SetMemoryLimit(b.limit)
	return b, func() {
		debug.SetMemoryLimit(before)
		closeMeter()
	}, nil
}

// limitOf is the ceiling less the program's own pages (file), and less an
// eighth: what the collector needs to stop growth, for its limit is soft.
func limitOf(ceiling, file int64) int64 {
	return ceiling - file - ceiling/8
}

// Run watches until ctx ends.
func (b *Budget) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wait, err := b.look()
		if err != nil {
			return fmt.Errorf("memory: %w", err)
		}
		timer.Reset(wait)
	}
}

// look measures, does what there is to do, and says when to look again.
func (b *Budget) look() (time.Duration, error) {
	u, err := b.cfg.measure()
	if err != nil {
		return 0, err
	}
	now := b.cfg.now()
	if u.cycles != b.cycles {
		b.collection(u, now)
	}
	// Much garbage, or much in use? Only a collection can tell.
	near := u.total*100 >= b.limit*overAt || b.percent(u) >= fullAt
	if near && now.Sub(b.cycleAt) >= collectEvery || !b.measured {
		b.cfg.collect()
		if u, err = b.cfg.measure(); err != nil {
			return 0, err
		}
		b.collection(u, b.cfg.now())
	}
	b.inUse.Store(u.inUse())
	b.resident.Store(u.resident)
	level := b.judge(u)
	b.change(level)
	b.act(level)
	room := max(b.cfg.Ceiling-max(u.resident, u.total+u.file), 0)
	return min(max(time.Duration(float64(room)/fillRate*float64(time.Second)), minInterval), maxInterval), nil
}

// collection notes that one was made: all flows are in its figures.
func (b *Budget) collection(u usage, at time.Time) {
	b.cycles, b.cycleAt, b.measured = u.cycles, at, true
	b.epoch.Add(1)
	b.admitted.Store(0)
}

// percent of the limit that is in use or promised.
func (b *Budget) percent(u usage) int64 {
	return (u.inUse() + b.admitted.Load()*FlowReserve) * 100 / b.limit
}

// judge says which level a measurement means.
func (b *Budget) judge(u usage) Level {
	now := Level(b.level.Load())
	percent := b.percent(u)
	reach := func(l Level, at int64) bool {
		if now >= l {
			at -= leaveGap
		}
		return percent >= at
	}
	// The last half of the reserve.
	if u.resident >= b.cfg.Ceiling-b.cfg.Ceiling/16 {
		return Flood
	}
	switch {
	case reach(Over, overAt):
		return Over
	case reach(Full, fullAt):
		return Full
	case reach(Tight, tightAt):
		return Tight
	}
	return Calm
}

func (b *Budget) change(to Level) {
	from := Level(b.level.Swap(int32(to)))
	if max(from, to) < Full || from == to {
		return
	}
	b.say.Do(func() {
		say := b.cfg.Log.Warn
		if to < Full {
			say = b.cfg.Log.Info
		}
		s := b.Stats()
		say("memory", zap.Stringer("level", to), zap.Int64("in_use", s.InUse), zap.Int64("resident", s.Resident),
			zap.Int64("ceiling", s.Ceiling), zap.Uint64("refused", s.Refused), zap.Uint64("ended", s.Shed))
	})
}

// act does what a level asks for.
func (b *Budget) act(l Level) {
	if tighten := b.cfg.Actions.Tighten; tighten != nil {
		room := int64(0)
		if l >= Tight {
			// Half of what is left until nothing is admitted: the flows grow by
			// more than their buffers.
			room = max((b.limit*fullAt/100-b.inUse.Load())/2, 1)
		}
		// Not for every little change: every flow is told.
		if room == 0 != (b.room == 0) || room*4 < b.room*3 || room*3 > b.room*4 {
			b.room = room
			tighten(room)
		}
	}
	if l >= Over && b.cfg.Actions.Shed != nil {
		need := b.inUse.Load() - b.limit*shedTo/100
		if need <= 0 {
			return // Flood, by garbage or by what the kernel still counts
		}
		freed, flows := b.cfg.Actions.Shed(need)
		b.shed.Add(uint64(flows))
		b.bytes.Add(uint64(freed))
		// What was freed shows in the next collection only.
		b.measured = flows == 0
	}
}

// Admit asks for room for a flow that is there: leave must be called when it
// ends. small is a client that holds little beside others. It is cheap and
// never blocks.
func (b *Budget) Admit(small bool) (leave func(), ok bool) {
	if b.Refusing(small) || (b.inUse.Load()+b.admitted.Load()*FlowReserve)*100 >= b.limit*overAt {
		b.refused.Add(1)
		return nil, false
	}
	// Two at the same moment may both find the last room: the reserve has it.
	epoch := b.epoch.Load()
	b.admitted.Add(1)
	return func() {
		if b.epoch.Load() == epoch { // not in a measurement yet
			b.admitted.Add(-1)
		}
	}, true
}

// Refusing says that no flow would be admitted. A SYN is asked about with it,
// and reserves nothing: its sender may not exist.
func (b *Budget) Refusing(small bool) bool {
	l := b.Level()
	return l > Full || l == Full && !small
}

// Level is how near the ceiling is.
func (b *Budget) Level() Level { return Level(b.level.Load()) }

// Flooded says that nothing more may be taken in.
func (b *Budget) Flooded() bool { return b.Level() >= Flood }

// Stats returns how it stands.
func (b *Budget) Stats() Stats {
	return Stats{
		Ceiling: b.cfg.Ceiling, Limit: b.limit, InUse: b.inUse.Load(), Resident: b.resident.Load(),
		Level: b.Level(), Refused: b.refused.Load(), Shed: b.shed.Load(), ShedBytes: b.bytes.Load(),
	}
}
