package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// The time between two measurements is the time in which the remaining room could be
	// filled at fillRate, within these bounds. A measurement takes about 10 µs.
	minInterval = 10 * time.Millisecond
	maxInterval = 250 * time.Millisecond
	fillRate    = 4 << 30 // bytes a second

	// collectEvery bounds the collections made here; the runtime makes its own.
	collectEvery = time.Second
	// freeEvery is the least time between collections that give memory back while the
	// intake is closed. The pause is also at least freeShare times what the last one
	// took.
	freeEvery = 200 * time.Millisecond
	freeShare = 4
	// logEvery bounds the log's lines.
	logEvery = 10 * time.Second
)

// Run watches until ctx ends. Measuring and acting are separate goroutines, because an
// action may take long.
func (b *Budget) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var actor sync.WaitGroup
	wake := make(chan struct{}, 1)
	failed := make(chan error, 1)
	actor.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-wake:
			}
			if err := b.act(); err != nil {
				failed <- err
				return
			}
		}
	})
	defer b.openIntake() // nobody measures any more
	defer actor.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("memory: %w", err)
		case <-timer.C:
		}
		wait, err := b.look()
		if err != nil {
			return fmt.Errorf("memory: %w", err)
		}
		select {
		case wake <- struct{}{}:
		default:
		}
		timer.Reset(wait)
	}
}

// look measures, and returns the time until the next measurement.
func (b *Budget) look() (time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.observe(); err != nil {
		return 0, err
	}
	u := b.last
	room := max(b.ceiling.Load()-max(u.resident, u.total+u.file), 0)
	return min(max(time.Duration(float64(room)/fillRate*float64(time.Second)), minInterval), maxInterval), nil
}

// observe measures. The caller holds b.mu.
func (b *Budget) observe() error {
	u, err := b.cfg.measure()
	if err != nil {
		return err
	}
	now := b.cfg.now()
	if u.cycles != b.cycles {
		b.collection(u, now)
	}
	b.note(u, now)
	b.change(b.judge(u))
	return nil
}

// note stores a measurement, and lets in as much as there is room for.
func (b *Budget) note(u usage, now time.Time) {
	b.last, b.looked = u, now
	b.inUse.Store(u.inUse())
	b.resident.Store(u.resident)
	b.intake.refill(stopLine(b.ceiling.Load())-max(u.resident, u.total), now)
}

// collection records that a collection was made, so all flows are in its figures. The
// caller holds b.mu.
func (b *Budget) collection(u usage, at time.Time) {
	b.cycles, b.cycleAt = u.cycles, at
	b.epoch.Add(1)
	b.admitted.Store(0)
	b.loans.mu.Lock()
	b.loans.unmeasured = 0
	b.loans.mu.Unlock()
}

// percent is the percentage of the limit that is in use or reserved.
func (b *Budget) percent(u usage) int64 {
	return (u.inUse() + b.admitted.Load()*FlowReserve) * 100 / b.limit.Load()
}

// judge returns the level for a measurement.
func (b *Budget) judge(u usage) Level {
	now := Level(b.level.Load())
	percent := b.percent(u)
	reach := func(l Level, at int64) bool {
		if now >= l {
			at -= leaveGap
		}
		return percent >= at
	}
	if u.resident >= floodLine(b.ceiling.Load()) {
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

// collectNow makes a collection if one is due.
func (b *Budget) collectNow() error {
	b.mu.Lock()
	u, age, measured, giveBack := b.last, b.cfg.now().Sub(b.cycleAt), b.measured, b.giveBack
	b.mu.Unlock()
	// Near the limit only a collection can tell garbage from memory in use.
	near := u.total*100 >= b.limit.Load()*overAt || b.percent(u) >= fullAt
	switch now := b.cfg.now(); {
	case giveBack, u.resident >= stopLine(b.ceiling.Load()) && now.Sub(b.freed) >= max(freeEvery, freeShare*b.freeing):
		b.cfg.free()
		b.freed = b.cfg.now()
		b.freeing = b.freed.Sub(now)
	case near && age >= collectEvery, !measured:
		b.cfg.collect()
	default:
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.measured = true
	b.giveBack = b.giveBack && !giveBack
	return b.observe()
}

// act does what the level asks for.
func (b *Budget) act() error {
	if err := b.collectNow(); err != nil {
		return err
	}
	l := b.Level()
	if tighten := b.cfg.Actions.Tighten; tighten != nil {
		room := int64(0)
		if l >= Tight {
			// Half of the room up to the level Full, because flows need more than their
			// buffers.
			room = max((b.limit.Load()*fullAt/100-b.inUse.Load())/2, 1)
		}
		// Not for every small change, because it reaches every flow.
		if room == 0 != (b.room == 0) || room*4 < b.room*3 || room*3 > b.room*4 {
			b.room = room
			tighten(room)
		}
	}
	if l < Over {
		b.noShortage()
	} else if b.recall() {
		return nil // measure first what the loans give back
	}
	if l >= Over && b.cfg.Actions.Shed != nil {
		need := b.inUse.Load() - b.limit.Load()*shedTo/100
		if need <= 0 {
			return nil // Flood is caused by garbage or memory that the kernel still counts
		}
		// Nothing is read for clients meanwhile: the flows to be ended are the busiest
		// ones, and what they hold is known only when they rest.
		b.close(true)
		freed, flows := b.cfg.Actions.Shed(need)
		b.close(false)
		b.shed.Add(uint64(flows))
		b.bytes.Add(uint64(freed))
		// Only the next collection shows what was freed.
		b.mu.Lock()
		b.measured = flows == 0
		b.mu.Unlock()
	}
	return nil
}
