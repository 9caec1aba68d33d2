package service

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/spiffe"
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
		if why := spiffe.Open(socket, os.Getuid()); why != "" {
			s.log.Warn("the socket of a SPIFFE agent is not safe", zap.String("socket", socket), zap.String("why", why))
		}
	}
	for _, socket := range rt.Agents() {
		s.agents.At(socket).Wait(ctx)
	}
	rt.Attach(s.agents.At, time.Now())
}
