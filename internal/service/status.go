package service

import (
	"errors"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/tun"
)

// Status returns the state of the gateway.
func (s *Service) Status() admin.Status {
	turns := s.gateway.Handshakes()
	st, mem := s.stack.Stats(), s.memoryStatus()
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	if s.rt.Tickets != nil {
		keys = s.rt.Tickets.IDs
	}
	return admin.Status{
		TicketKeys: keys,
		Version:    s.opt.Version, Started: s.started.UTC(), Config: s.file, TUN: s.device.Name(), Offload: s.device.Offload(), Queues: stack.Queues(s.device), LocalOut: s.rt.Config.CapturesOut(),
		Policy: s.rt.Set.ID(), Snapshot: s.rt.Snapshot, CRLs: s.revocation.Digest(), Revocation: admin.RevocationOf(s.revocation.Stats()), Rules: len(s.rt.Config.Policy.Rules), Flows: s.gateway.Flows(), FlowsMax: s.rt.Config.Limits.Flows,
		Handshakes: turns.InFlight, Waiting: turns.Waiting, Refused: turns.Refused + turns.Expired,
		Draining: s.draining, Slot: s.slot.String(), HandedOver: s.over.stays.Load() || s.over.back.Load(), Awaits: s.over.awaits.Load(), Reloads: s.reloads, LastReload: s.last,
		SYNsPassed: st.SYNPassed, SYNsRefused: st.SYNReset + st.SYNDropped + st.SYNLimited, BadPackets: st.Bad.Total(),
		Repairs: s.repairs(), Dropped: s.dropped(), Shadow: admin.ShadowOf(s.gateway.Shadow()), Memory: mem, Fleet: s.fleetStatus(),
		Identities: identitySources(s.rt, time.Now()),
	}
}

// shadowOf starts the shadow policy of a configuration; nil if it has none.
func shadowOf(rt *config.Runtime) *policy.Shadow {
	if rt.Shadow == nil {
		return nil
	}
	return policy.NewShadow(rt.Shadow)
}

func (s *Service) repairs() uint64 {
	if s.steering == nil {
		return 0
	}
	return s.steering.Repairs()
}

// dropped returns what the guard has dropped.
func (s *Service) dropped() []admin.Dropped {
	if s.steering == nil {
		return []admin.Dropped{}
	}
	drops := s.steering.Drops()
	return admin.DroppedOf(drops.Counts)
}

// droppedBy returns the same for the metrics, by reason, with every reason there is.
func (s *Service) droppedBy() map[string]uint64 {
	if s.steering == nil {
		return nil
	}
	all := map[string]uint64{}
	for _, reason := range tun.DropReasons() {
		all[reason] = 0
	}
	for _, d := range s.dropped() {
		all[d.Reason] = d.Packets
	}
	return all
}

// steeringReadiness reports what keeps captured packets from the TUN, and interfaces where
// packets come in but are not captured.
func (s *Service) steeringReadiness(no func(kind admin.ReadyKind, format string, args ...any), warn func(format string, args ...any)) {
	if s.steering == nil {
		return
	}
	for _, t := range s.steering.Troubles() {
		if t.Fatal {
			no(admin.ReadyOwn, "%s", t)
		} else {
			warn("%s", t)
		}
	}
	drops := s.steering.Drops()
	for _, text := range drops.Warnings() {
		warn("%s", text)
	}
}

// EndFlow ends one live flow.
func (s *Service) EndFlow(id string) error {
	l := s.gateway.Lookup(id)
	if l == nil {
		return errors.New("no live flow has this id")
	}
	l.End(reason.EndOperator)
	return nil
}
