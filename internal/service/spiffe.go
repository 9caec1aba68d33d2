package service

import (
	"context"
	"time"

	"github.com/sslgate/sslgate/internal/config"
)

// agentsFor bounds how long a start or a reload waits for agents that were never asked before: one
// that is there answers within milliseconds.
const agentsFor = 3 * time.Second

// attend hands the agents of the SPIFFE Workload API over to a configuration that is not in force
// yet, and waits some time for those that are asked for the first time: so a start, a reload and a
// process that takes over begin with what the agents say, if they say anything.
func (s *Service) attend(ctx context.Context, rt *config.Runtime) {
	ctx, cancel := context.WithTimeout(ctx, agentsFor)
	defer cancel()
	for _, socket := range rt.Agents() {
		s.agents.At(socket) // all are asked at the same time
	}
	for _, socket := range rt.Agents() {
		s.agents.At(socket).Wait(ctx)
	}
	rt.Attach(s.agents.At, time.Now())
}
