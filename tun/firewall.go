package tun

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/tun/foreign"
)

// Chains of other programs may drop captured packets (package foreign). Doctor checks
// them, and so does the running gateway.

// foreignEvery is the least time between two walks through the chains of others, and the
// time while they have a trouble. Otherwise the pause is foreignCost times the duration
// of the last walk, at most foreignMost.
const (
	foreignEvery = 5 * time.Second
	foreignCost  = 100
	foreignMost  = time.Minute
)

// foreignPause is the time to wait after a walk that took this long.
func foreignPause(took time.Duration, troubled bool) time.Duration {
	if troubled {
		return foreignEvery
	}
	return min(max(foreignEvery, foreignCost*took), foreignMost)
}

// lossesOf are the chains of others that surely drop captured packets, set their mark or take
// their pins away, and, as the last one, that there are more rules than are looked at (short).
// captured are the interfaces' own names; ipv6 says whether this host forwards IPv6.
func lossesOf(r *foreign.Reader, cfg *SteerConfig, captured []string, ipv6 bool) (all []Trouble, short bool, err error) {
	found, whole, err := r.Losses(captureOf(cfg, captured, ipv6))
	for _, f := range found {
		all = append(all, Trouble(f))
	}
	if short = err == nil && !whole; short {
		all = append(all, Trouble{Text: "the nftables chains of others have more rules than are looked at: whether they let captured packets pass is not known"})
	}
	return all, short, err
}

func captureOf(cfg *SteerConfig, captured []string, ipv6 bool) *foreign.Capture {
	capture := &foreign.Capture{
		TUN: cfg.TUN, Interfaces: captured, Ports: cfg.Ports, AllPorts: cfg.AllPorts, IPv6: ipv6, Local: cfg.Local,
		Mark: cfg.Mark, Mask: cfg.Mask, Steer: steerPriority, Ours: Ours,
		ByPort: len(portRanges(cfg))*len(cfg.Interfaces) <= maxPortRules,
	}
	if cfg.ClientSource {
		capture.ReturnMark, capture.SocketMark, capture.Zone = cfg.ReturnMark, cfg.SocketMark(), zonePriority
	}
	if cfg.Out != nil {
		capture.OwnMark = cfg.Out.OwnMark
	}
	if cfg.Twin != (Twin{}) {
		capture.CTMask = cfg.CTMask
		capture.Gateways = []foreign.Gateway{{Mark: cfg.Mark, Pin: cfg.pinned(cfg.Slot)}, {Mark: cfg.Twin.Mark, Pin: cfg.pinned(cfg.Slot ^ 1)}}
	}
	return capture
}

// refuseUnpinned refuses a second gateway where chains of others surely take away the pins of
// connections: held ones would be lost.
func (s *Steering) refuseUnpinned(captured []string) error {
	found, err := s.others.Unpinned(captureOf(&s.cfg, captured, isSet("ipv6/conf/all/forwarding")))
	if err != nil {
		return err
	}
	for _, f := range found {
		return errors.New(f.Text)
	}
	return nil
}

// CheckChains names the chains of others that surely drop captured packets, set their mark
// or take their pins away, in the network namespace of the caller.
func CheckChains(cfg SteerConfig) ([]Trouble, error) {
	r, err := foreign.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	all, _, err := lossesOf(r, &cfg, OwnNames(cfg.Interfaces...), isSet("ipv6/conf/all/forwarding"))
	return all, err
}

// watchForeign walks through the chains of others until ctx ends. It runs in a goroutine
// of its own and without the lock, because the chains may have many rules and repairs
// must not wait. It sends to kick if a walk found something else than the one before.
func (s *Steering) watchForeign(ctx context.Context, kick chan<- struct{}) {
	for {
		begin := time.Now()
		changed, troubled := s.lookAtForeign()
		if changed {
			select {
			case kick <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(foreignPause(time.Since(begin), troubled)):
		}
	}
}

// lookAtForeign walks through the chains of others once. It says whether it found
// something else than before, and whether it found anything.
func (s *Steering) lookAtForeign() (changed, troubled bool) {
	s.mu.Lock()
	cfg, own, ipv6 := s.cfg, slices.Clone(s.at.own), s.foreignIPv6
	s.mu.Unlock()
	found, short, err := lossesOf(s.others, &cfg, own, ipv6)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		// Somebody is changing the chains just now, or they have something we cannot
		// read.
		s.log.Debug("the chains of others cannot be read", zap.Error(err))
		return false, len(s.foreign) > 0
	}
	changed = !slices.Equal(found, s.foreign)
	s.foreign = found
	return changed, len(found) > 1 || len(found) == 1 && !short // a bound that is reached is no cause to look more often
}
