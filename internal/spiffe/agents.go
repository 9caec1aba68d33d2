package spiffe

import (
	"context"
	"slices"
	"sync"
)

// Agents are those that are asked, by socket. What they have said outlives a reload. It is safe
// for many goroutines.
type Agents struct {
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	changed chan struct{}
	run     sync.WaitGroup

	mu  sync.Mutex
	all map[string]*attended
}

// attended is an agent whose goroutine runs.
type attended struct {
	*Agent
	stop context.CancelFunc
}

// NewAgents makes a set without any. The caller must Close it.
func NewAgents() *Agents {
	ctx, stop := context.WithCancel(context.Background())
	return &Agents{ctx: ctx, stop: stop, changed: make(chan struct{}, 1), all: map[string]*attended{}}
}

// Changed has a value after an agent has answered or failed.
func (s *Agents) Changed() <-chan struct{} { return s.changed }

// At is the agent behind a socket, an absolute path. It is asked from the first call on.
func (s *Agents) At(socket string) *Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.all[socket]; a != nil {
		return a.Agent
	}
	ctx, stop := context.WithCancel(s.ctx)
	a := &attended{Agent: newAgent(socket, s.tell), stop: stop}
	s.all[socket] = a
	s.run.Go(func() { a.run(ctx) })
	return a.Agent
}

func (s *Agents) tell() {
	select {
	case s.changed <- struct{}{}:
	default: // there is one that nobody has seen yet
	}
}

// Keep forgets all agents but those behind the sockets.
func (s *Agents) Keep(sockets []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for socket, a := range s.all {
		if !slices.Contains(sockets, socket) {
			a.stop()
			delete(s.all, socket)
		}
	}
}

// Close ends all questions, and waits until they have ended.
func (s *Agents) Close() {
	s.stop()
	s.run.Wait()
}
