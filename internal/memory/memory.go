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
//	Flood   resident memory near the ceiling: nothing that would be held is
//	        taken from the network either
//
// That follows what is in use, and nothing of it is immediate: ending flows may
// take a second where all processors are busy. What makes the ceiling hold
// meanwhile is the intake (Take): who reads data for a client asks first, and
// waits while resident memory is over a line below the ceiling.
//
// What is in use is what the last garbage collection found alive, and what
// cannot be collected; not the garbage since, of which there is always as much
// as there is room. Where that is old and memory runs out, a collection is
// made.
package memory

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
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
	free    func() // collects, and gives back to the system
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

	intake intake
	loans  loans

	say rate.Sometimes

	mu       sync.Mutex // guards what follows; all but Actions and collections
	last     usage
	looked   time.Time // when that was
	cycles   uint64    // collections so far
	cycleAt  time.Time // when the last one was seen
	measured bool      // whether the last collection came after the last shedding
	giveBack bool      // and whether the next one is to give memory back to the system

	// act's own.
	room    int64 // as Tighten was last told
	freed   time.Time
	freeing time.Duration // what that took
}

// Stats is how a Budget stands.
type Stats struct {
	Ceiling, Limit  int64 // bytes
	InUse, Resident int64 // bytes
	Level           Level
	Refused         uint64 // flows not admitted
	Shed            uint64 // flows ended
	ShedBytes       uint64 // bytes those held
	Lent            int64  // bytes, for what is being loaded
	Unmeasured      int64  // bytes lent since the last collection, given back or not: not in InUse yet
	LoansRefused    uint64
	LoansRecalled   uint64 // called back before a flow was ended
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
	if c.free == nil {
		c.free = debug.FreeOSMemory
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
	b.note(u, b.cycleAt)
	before := debug.SetMemoryLimit(b.limit)
	return b, func() {
		debug.SetMemoryLimit(before)
		closeMeter()
	}, nil
}

// limitOf is the ceiling less the program's own pages (file), and less five
// 32nds: what the collector needs to stop growth, for its limit is soft, and
// room between its limit and the line of the intake.
func limitOf(ceiling, file int64) int64 {
	return ceiling - file - ceiling/32*5
}

// stopLine is the resident memory at which nothing more is read for clients,
// floodLine that at which nothing is taken of what they send.
func stopLine(ceiling int64) int64  { return ceiling - ceiling/8 }
func floodLine(ceiling int64) int64 { return ceiling - ceiling/32*3 }

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
	b.intake.credit.Add(-FlowReserve)
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

// Look measures, and returns how it stands.
func (b *Budget) Look() Stats {
	b.mu.Lock()
	_ = b.observe() // Run meets the same error, and says it
	b.mu.Unlock()
	return b.Stats()
}

// Stats returns how it stands.
func (b *Budget) Stats() Stats {
	b.loans.mu.Lock()
	o := &b.loans
	lent, unmeasured, refused, recalled := o.lent, o.unmeasured, o.refused, o.recalled
	b.loans.mu.Unlock()
	return Stats{
		Ceiling: b.cfg.Ceiling, Limit: b.limit, InUse: b.inUse.Load(), Resident: b.resident.Load(),
		Level: b.Level(), Refused: b.refused.Load(), Shed: b.shed.Load(), ShedBytes: b.bytes.Load(),
		Lent: lent, Unmeasured: unmeasured, LoansRefused: refused, LoansRecalled: recalled,
	}
}
