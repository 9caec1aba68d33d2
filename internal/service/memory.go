package service

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/metrics"
)

// openMemory sets limits.memory for the process. What to do when memory is short is set only
// once the parts run (runMemory).
func (s *Service) openMemory() error {
	ceiling := s.rt.Config.Ceiling()
	if ceiling < memory.MinCeiling {
		s.log.Warn("memory has no bound: this machine's is not known, or too little", zap.Int64("three_quarters", ceiling))
		return nil
	}
	var err error
	s.memory, s.undoMemory, err = memory.Start(memory.Config{
		Ceiling: ceiling, Log: s.log,
		Actions: memory.Actions{Tighten: func(room int64) { s.setBufferRoom(ceiling, room) }, Shed: s.shed},
	})
	return err
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
