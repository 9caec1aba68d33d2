package tun

import (
	"slices"
	"time"

	"go.uber.org/zap"
)

// The settings that were checked before the start may change while the gateway runs:
// somebody switches forwarding off, sets a strict filter, installs a firewall. Then
// nothing is captured any more, and none of our own parts would report it. So Watch
// checks them again.

// Troubles are what keeps captured packets from the TUN, as Watch saw it last: at most a
// second ago, for chains of others usually five seconds (foreignPause).
func (s *Steering) Troubles() []Trouble {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.ingressTroubles(), s.troubles)
}

// noteHost checks the host. It logs once that a trouble has begun, and once that it is
// over; noteIngress logs the interfaces.
func (s *Steering) noteHost(now time.Time) {
	if !s.inNamespace() {
		return
	}
	s.foreignIPv6 = isSet("ipv6/conf/all/forwarding")
	if s.cfg.ClientSource && !now.Before(s.sourcesNext) {
		s.sources, s.sourcesNext = clientSourceTroubles(s.cfg.TUN), now.Add(foreignEvery)
	}
	found := slices.Concat(s.unrepaired, s.forwarding(), s.noteIPv6(), reversePathTroubles(s.at.own),
		deviceTroubles(s.cfg.TUN, s.cfg.Local), s.sources, s.foreign)
	for _, t := range found {
		if !slices.ContainsFunc(s.troubles, t.same) {
			s.log.Warn("captured traffic may be lost", zap.String("trouble", t.Text), zap.String("fix", t.Fix))
		}
	}
	for _, t := range s.troubles {
		if !slices.ContainsFunc(found, t.same) {
			s.log.Info("a trouble with captured traffic is over", zap.String("trouble", t.Text))
		}
	}
	s.troubles = found
}

// forwarding is what keeps IPv4 from being forwarded. Without captured interfaces there is
// nothing to forward: programs of this host alone are captured.
func (s *Steering) forwarding() []Trouble {
	if len(s.cfg.Interfaces) == 0 {
		return nil
	}
	return forwardingTroubles(s.at.own, s.cfg.TUN)
}

// noteIPv6 is the trouble with forwarding IPv6. It is fatal only if captured interfaces
// had IPv6 forwarded before. An address that somebody gives one later, for management,
// must not stop the gateway.
func (s *Steering) noteIPv6() []Trouble {
	all := forwarding6Troubles(s.at.own)
	if len(all) == 0 && isSet("ipv6/conf/all/forwarding") && len(ServesIPv6(s.at.own...)) > 0 {
		s.servedIPv6 = true
	}
	for i := range all {
		all[i].Fatal = s.servedIPv6
	}
	return all
}

// same says whether both are the same trouble, fatal or not.
func (t Trouble) same(o Trouble) bool { return t.Text == o.Text && t.Fix == o.Fix }

// ingressTroubles are the captured interfaces that are missing or down. An operator may
// remove an interface, so the gateway stays ready unless all of them are missing or down.
func (s *Steering) ingressTroubles() []Trouble {
	var all []Trouble
	for _, name := range s.cfg.Interfaces {
		t := Trouble{Interface: name}
		switch s.ingress[name] {
		case "missing":
			t.Text, t.Fix = "the captured interface "+name+" is missing: nothing comes in there", "ip -br link"
		case "down":
			t.Text, t.Fix = "the captured interface "+name+" is down: nothing comes in there", "ip link set dev "+name+" up"
		default:
			continue
		}
		all = append(all, t)
	}
	if len(all) == len(s.cfg.Interfaces) {
		for i := range all {
			all[i].Fatal = true
		}
	}
	return all
}
