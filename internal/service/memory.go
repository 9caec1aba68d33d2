package service

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/metrics"
)

// openMemory sets limits.memory for the process, or what the process that it takes over from
// leaves of it. What to do when memory is short is set only once the parts run (runMemory).
func (s *Service) openMemory() error {
	ceiling := s.rt.Config.Ceiling()
	if ceiling < memory.MinCeiling {
		s.log.Warn("memory has no bound: this machine's is not known, or too little", zap.Int64("three_quarters", ceiling))
		return nil
	}
	if s.lease != nil {
		ceiling -= s.lease.Terms.Ceiling
		if ceiling < memory.MinCeiling {
			return fmt.Errorf("memory lacks: the running gateway keeps %d MiB of limits.memory, and at least %d MiB are wanted for the new one", s.lease.Terms.Ceiling>>20, int64(memory.MinCeiling>>20))
		}
	}
	var err error
	s.memory, s.undoMemory, err = memory.Start(memory.Config{
		Ceiling: ceiling, Log: s.log,
		Actions: memory.Actions{Tighten: func(room int64) { s.setBufferRoom(s.memory.Stats().Ceiling, room) }, Shed: s.shed},
	})
	return err
}

// shareMemory says how much of total bytes this process keeps while another one takes over,
// and keeps to it from now on: a quarter, or twice what is in use where that is more, as long as
// the other one gets a quarter too. total is 0 if the other one has no bound.
func (s *Service) shareMemory(total int64) (int64, error) {
	if s.memory == nil || total == 0 {
		return 0, nil
	}
	debug.FreeOSMemory() // what is resident is no garbage then
	st := s.memory.Look()
	share, err := shareOf(total, st.Ceiling, st.InUse, st.Resident)
	if err != nil {
		return 0, err
	}
	s.setCeiling(share)
	return share, nil
}

// shareSlack is what a process takes besides what the levels of package memory count, in bytes:
// mostly the pages of its program.
const shareSlack = 48 << 20

// keeps is what a process wants that has so much in use and resident, so that nothing of its
// flows is refused or held up, all in bytes: at least, and better.
func keeps(inUse, resident int64) (least, better int64) {
	return max(memory.MinCeiling, inUse*3/2+shareSlack, resident*4/3), max(memory.MinCeiling, inUse*2+shareSlack, resident*3/2)
}

func shareOf(total, ceiling, inUse, resident int64) (int64, error) {
	least, better := keeps(inUse, resident)
	share := max(least, min(max(better, total/4), total-max(memory.MinCeiling, total/4)))
	share = min(share, ceiling)
	if share < least || total-share < memory.MinCeiling {
		return 0, fmt.Errorf("memory lacks for two processes: the flows of this one need %d MiB, a new one needs at least %d MiB, and limits.memory is %d MiB", least>>20, int64(memory.MinCeiling>>20), total>>20)
	}
	return share, nil
}

// shrinkMemory gives up what flows that have ended no longer need.
func (s *Service) shrinkMemory(total int64) {
	st := s.memory.Stats()
	_, share := keeps(st.InUse, st.Resident)
	if share = max(share, total/8); share < st.Ceiling*3/4 {
		s.setCeiling(share)
	}
}

// setCeiling sets another ceiling.
func (s *Service) setCeiling(ceiling int64) {
	if s.memory == nil || ceiling == s.memory.Stats().Ceiling || ceiling < memory.MinCeiling {
		return
	}
	if err := s.memory.SetCeiling(ceiling); err != nil {
		s.log.Error("the ceiling of memory stays", zap.Error(err))
		return
	}
	if s.memory.Level() == memory.Calm { // else Tighten has set it
		s.setBufferRoom(ceiling, 0)
	}
}

// warnMemory warns if the ceiling leaves too little: it looks at what is in use before there is
// any flow, with authorities and revocation lists loaded.
func (s *Service) warnMemory() {
	if s.memory == nil {
		return
	}
	if st := s.memory.Look(); st.Resident > st.Ceiling/2 {
		s.log.Warn("limits.memory leaves little for flows", zap.Int64("ceiling", st.Ceiling), zap.Int64("resident", st.Resident))
	}
}

// runMemory watches the memory until ctx ends.
func (s *Service) runMemory(ctx context.Context) error {
	var keeper sync.WaitGroup
	keeper.Go(func() { memory.Keep(ctx) })
	defer keeper.Wait()
	if s.memory == nil {
		<-ctx.Done()
		return nil
	}
	defer s.undoMemory()
	s.setBufferRoom(s.memory.Stats().Ceiling, 0)
	return s.memory.Run(ctx)
}

// setBufferRoom divides room bytes among the buffers of flows; 0 means as much as the ceiling
// allows while memory is not short. A blocked flow keeps what is in its relay and record
// buffers, so these never get more than an eighth and a sixteenth of the ceiling.
func (s *Service) setBufferRoom(ceiling, room int64) {
	relay, records := ceiling/8, ceiling/16
	if room > 0 {
		relay, records = min(relay, room/4), min(records, room/8)
	}
	s.stack.SetBufferRoom(room)
	s.gateway.SetBufferRoom(relay)
	s.engine.SetBufferRoom(max(records, 1))
}

// flooded says whether no data may be taken in.
func (s *Service) flooded() bool { return s.memory != nil && s.memory.Flooded() }

// userTimeout is how long the stack keeps a client that acknowledges nothing. A closed window
// counts as that too, so it must be longer than limits.stall, which can tell the two apart and,
// as it is checked four times within that time, ends a flow after at most 1.5 times of it.
func userTimeout(stall time.Duration) time.Duration { return max(2*time.Minute, 2*stall) }

// shed frees memory: first what closed flows still hold, then by ending live
// ones.
func (s *Service) shed(need int64) (freed int64, flows int) {
	freed, flows = s.stack.DropLingering()
	if freed < need {
		more, n := s.gateway.Shed(need - freed)
		freed, flows = freed+more, flows+n
	}
	return freed, flows
}

// Estimated sizes of what is only counted, in bytes, from benchmarks of the packages that hold
// it. They are only for the operator to see; nothing is decided by them.
const (
	flowSize   = 8 << 10 // a live flow's record, ledger and facts
	recordSize = 3 << 10 // an audit record that waits
	chainSize  = 8 << 10 // a verified chain
	leafSize   = 3 << 10 // a certificate made on demand
)

// partsFor is how long a result of memoryParts is kept: it asks every flow, and the web page
// asks for a status each second.
const partsFor = 2 * time.Second

// partsCache keeps the last memoryParts.
type partsCache struct {
	mu    sync.Mutex
	parts map[string]uint64 // never changed
	until time.Time
}

// memoryParts says what the memory is used for.
func (s *Service) memoryParts() map[string]uint64 {
	s.parts.mu.Lock()
	defer s.parts.mu.Unlock()
	if now := time.Now(); now.After(s.parts.until) {
		s.parts.parts, s.parts.until = s.sumMemory(), now.Add(partsFor)
	}
	return s.parts.parts
}

func (s *Service) sumMemory() map[string]uint64 {
	heap, held := memory.Read(), s.stack.Held()
	parts := map[string]uint64{
		"heap_live": heap.Live, "heap_garbage": heap.Garbage, "heap_unused": heap.Unused, "stacks": heap.Stacks, "runtime": heap.Runtime,
		"socket_receive": uint64(held.Received), "socket_send": uint64(held.Sent), "socket_lingering": uint64(held.Lingering),
		"relay_buffers":  uint64(s.gateway.RelayBuffers()),
		"flows":          uint64(s.gateway.Flows()) * flowSize,
		"audit_queue":    uint64(s.records.Stats().Queued) * recordSize,
		"record_buffers": uint64(s.engine.RecordBuffers()),
		"chain_cache":    uint64(s.engine.CachedChains()) * chainSize,
	}
	for _, a := range s.revocation.Stats().Authorities {
		for _, l := range a.Lists {
			parts["crl"] += uint64(l.Bytes)
		}
	}
	for _, id := range s.runtime().Environment.Identities {
		if minted, ok := id.Source.(*identity.Minted); ok {
			if m, ok := minted.Minter().(interface{ Cached() int }); ok {
				parts["minted"] += uint64(m.Cached()) * leafSize
			}
		}
	}
	return parts
}

func (s *Service) memoryGauges() *metrics.Memory {
	if s.memory == nil {
		return nil
	}
	st := s.memory.Stats()
	return &metrics.Memory{
		Ceiling: st.Ceiling, Limit: st.Limit, InUse: st.InUse, Resident: st.Resident, Level: int(st.Level),
		Refused: st.Refused, Shed: st.Shed, ShedBytes: st.ShedBytes,
		Loaned: st.Lent, Unmeasured: st.Unmeasured, LoansRefused: st.LoansRefused, LoansRecalled: st.LoansRecalled,
	}
}

func (s *Service) memoryStatus() *admin.Memory {
	m := &admin.Memory{Parts: s.memoryParts()}
	for _, part := range []string{"socket_receive", "socket_send", "socket_lingering", "relay_buffers", "record_buffers", "flows"} {
		m.Held += m.Parts[part]
	}
	if s.memory != nil {
		st := s.memory.Stats()
		m.Ceiling, m.InUse, m.Resident, m.Level = st.Ceiling, st.InUse, st.Resident, st.Level.String()
		m.Refused, m.Shed = st.Refused, st.Shed
		m.Loaned, m.Unmeasured, m.LoansRefused, m.LoansRecalled = st.Lent, st.Unmeasured, st.LoansRefused, st.LoansRecalled
	}
	return m
}
