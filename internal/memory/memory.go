// Package memory keeps the process below a ceiling of resident memory.
//
// The garbage collector is told the ceiling, less what it cannot see
// (debug.SetMemoryLimit), and a Budget measures what is in use, many times a
// second when it is close. The nearer it comes, the more is done about it:
//
//	Calm    below half of the limit: nothing
//	Tight   from half: socket buffers get shares of what is left
//	Full    from three quarters: only clients that hold little are admitted
//	Over    from 85 %: the flows that hold the most are ended
//	Flood   resident memory near the ceiling: nothing that would be held is
//	        taken from the network either
//
// These measures follow what is in use, and none is immediate: ending flows may take a
// second when all processors are busy. The intake (Take) holds the ceiling meanwhile:
// before data is read for a client, Take is called, and waits while resident memory is
// over a line below the ceiling.
//
// What is in use is what the last garbage collection found alive, plus what cannot be
// collected. Garbage since then does not count, because there is always as much of it as
// there is room. When that figure is old and memory runs out, a collection is made.
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

// Level says how near the ceiling is. Each level includes the measures of those before
// it.
type Level int32

// The levels.
const (
	Calm  Level = iota
	Tight       // save buffers
	Full        // admit only clients that hold little
	Over        // end the flows that hold the most
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

// MinCeiling is the smallest ceiling in bytes that Start accepts: the program itself
// takes about 30 MiB of it.
const MinCeiling = 128 << 20

// FlowReserve is the memory in bytes that an admitted flow counts as until the next
// collection has measured it: stack, handshake, certificates and the first buffers.
const FlowReserve = 128 << 10

// Thresholds in percent of the limit. A level is left 5 points below where it is entered,
// so that levels do not flutter.
const (
	tightAt  = 50
	fullAt   = 75
	overAt   = 85
	leaveGap = 5
	// shedTo is where ending flows stops.
	shedTo = 65
)

// Config of a Budget. The fields besides Ceiling, Actions and Log are for tests.
type Config struct {
	// Ceiling of resident memory in bytes, at least MinCeiling.
	Ceiling int64
	// Actions are what a Budget does when memory is short.
	Actions Actions
	// Log gets the changes of level, at a bounded rate. Required.
	Log *zap.Logger

	measure func() (usage, error)
	collect func()
	free    func() // collects, and gives back to the system
	now     func() time.Time
}

// Actions are called by Run, one after the other. Nil ones are skipped.
type Actions struct {
	// Tighten gets the bytes that all buffers of flows together may take from now on; 0
	// removes the bound. It is called again when the room changes.
	Tighten func(room int64)
	// Shed ends flows that together hold at least need bytes. It returns how many bytes
	// they held and how many flows there were.
	Shed func(need int64) (freed int64, flows int)
}

// Budget is the memory of the process. Its methods may be called by any goroutine at any
// time.
type Budget struct {
	cfg     Config
	ceiling atomic.Int64 // Config.Ceiling, until SetCeiling
	limit   atomic.Int64 // of the garbage collector; the thresholds of the levels are parts of it

	level    atomic.Int32
	inUse    atomic.Int64 // at the last measurement
	resident atomic.Int64
	admitted atomic.Int64  // live flows that no collection has measured yet
	epoch    atomic.Uint64 // grows with each collection
	refused  atomic.Uint64
	shed     atomic.Uint64
	bytes    atomic.Uint64

	intake intake
	loans  loans

	say rate.Sometimes

	mu       sync.Mutex // guards the fields up to giveBack; not held during Actions and collections
	last     usage
	looked   time.Time // when last was measured
	cycles   uint64    // collections so far
	cycleAt  time.Time // when the last one was seen
	measured bool      // whether a collection was made since the last shedding
	giveBack bool      // whether the next collection must give memory back to the system

	// These belong to act.
	room    int64 // the last argument of Tighten
	freed   time.Time
	freeing time.Duration // how long that took
}

// Stats are the figures of a Budget.
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

// Start makes a Budget and sets the garbage collector's limit. undo restores the former
// limit.
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
	b = &Budget{cfg: c, measured: true, say: rate.Sometimes{Interval: logEvery}}
	b.ceiling.Store(c.Ceiling)
	b.limit.Store(limitOf(c.Ceiling, u.file))
	b.cycles, b.cycleAt = u.cycles, c.now()
	b.note(u, b.cycleAt)
	before := debug.SetMemoryLimit(b.limit.Load())
	return b, func() {
		debug.SetMemoryLimit(before)
		closeMeter()
	}, nil
}

// SetCeiling sets another ceiling in bytes, at least MinCeiling. A lower one than what is
// resident is reached only by what Run does about it, so garbage is given back first.
func (b *Budget) SetCeiling(ceiling int64) error {
	if ceiling < MinCeiling {
		return fmt.Errorf("memory: a ceiling of %d bytes is below the least, %d", ceiling, int64(MinCeiling))
	}
	if b.resident.Load() >= stopLine(ceiling) {
		b.cfg.free()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ceiling.Store(ceiling)
	b.limit.Store(limitOf(ceiling, b.last.file))
	debug.SetMemoryLimit(b.limit.Load())
	if err := b.observe(); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	return nil
}

// limitOf is the ceiling less the program's own pages (file) and less five 32nds of the
// ceiling: the collector's limit is soft, so it needs room to stop growth, and there must
// be room between its limit and the line of the intake.
func limitOf(ceiling, file int64) int64 { return ceiling - file - margin(ceiling, 5) }

// stopLine is the resident memory in bytes at which nothing more is read for clients,
// floodLine that at which no data of clients is accepted.
func stopLine(ceiling int64) int64  { return ceiling - margin(ceiling, 4) }
func floodLine(ceiling int64) int64 { return ceiling - margin(ceiling, 3) }

// margin is so many 32nds of the ceiling in bytes, but at least as much as of 256 MiB: on a
// busy machine who measures may wait tens of milliseconds for a processor, in which clients
// send and the collector lets grow as much below a small ceiling as below a large one.
func margin(ceiling, parts int64) int64 { return max(ceiling, 256<<20) / 32 * parts }

// Admit asks for room for a flow that exists; leave must be called when the flow ends.
// small says that the client holds little compared with others. Admit is cheap and never
// blocks.
func (b *Budget) Admit(small bool) (leave func(), ok bool) {
	if b.Refusing(small) || (b.inUse.Load()+b.admitted.Load()*FlowReserve)*100 >= b.limit.Load()*overAt {
		b.refused.Add(1)
		return nil, false
	}
	// Two flows at the same moment may both get the last room: FlowReserve is large
	// enough for that.
	epoch := b.epoch.Load()
	b.admitted.Add(1)
	b.intake.credit.Add(-FlowReserve)
	return func() {
		if b.epoch.Load() == epoch { // no collection has measured it yet
			b.admitted.Add(-1)
		}
	}, true
}

// Refusing says that no flow would be admitted. It is called for a SYN, and reserves
// nothing, because the sender may not exist.
func (b *Budget) Refusing(small bool) bool {
	l := b.Level()
	return l > Full || l == Full && !small
}

// Level is how near the ceiling is.
func (b *Budget) Level() Level { return Level(b.level.Load()) }

// Look measures and returns the figures.
func (b *Budget) Look() Stats {
	b.mu.Lock()
	_ = b.observe() // Run meets the same error and returns it
	b.mu.Unlock()
	return b.Stats()
}

// Stats returns the figures of the last measurement.
func (b *Budget) Stats() Stats {
	b.loans.mu.Lock()
	o := &b.loans
	lent, unmeasured, refused, recalled := o.lent, o.unmeasured, o.refused, o.recalled
	b.loans.mu.Unlock()
	return Stats{
		Ceiling: b.ceiling.Load(), Limit: b.limit.Load(), InUse: b.inUse.Load(), Resident: b.resident.Load(),
		Level: b.Level(), Refused: b.refused.Load(), Shed: b.shed.Load(), ShedBytes: b.bytes.Load(),
		Lent: lent, Unmeasured: unmeasured, LoansRefused: refused, LoansRecalled: recalled,
	}
}
