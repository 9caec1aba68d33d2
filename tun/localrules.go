package tun

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Preferences of the ip rules for what is delivered to this host. The kernel asks the
// local table first, at
//  0. For our rules to come before it, the local table must be moved. It is moved as
//     little as possible, so that the rules of others stay behind it
//     (docs/architecture.md).
const (
	exceptPreference   = 1 // ExceptPorts: lookup local
	capturedPreference = 2 // marked as captured: lookup Table

	// LocalPreferences is the last of our preferences, which begin at 1. It has the rule
	// for everything, lookup local, which was at 0.
	LocalPreferences = 3
)

// localRules are the rules of one family, without the local table's own.
func (s *Steering) localRules(add func(pref int) *netlink.Rule) []*netlink.Rule {
	if !s.cfg.Local {
		return nil
	}
	var all []*netlink.Rule
	for _, r := range joinPorts(s.cfg.ExceptPorts) {
		except := add(exceptPreference)
		except.Table, except.IPProto, except.Dport = unix.RT_TABLE_LOCAL, unix.IPPROTO_TCP, r
		all = append(all, except)
	}
	marked := add(capturedPreference)
	marked.Mark, marked.Mask = s.cfg.Mark, &s.cfg.Mask
	all = append(all, marked)
	// As a second line of defence, rules by interface and port. Not where answers to this
	// host's own connections may have such ports.
	ranges := portRanges(&s.cfg)
	if s.aside || s.cfg.AllPorts || len(ranges)*len(s.cfg.Interfaces) > maxPortRules || slices.ContainsFunc(ranges, s.ephemeral) {
		return all
	}
	for _, ifc := range slices.Compact(slices.Sorted(slices.Values(s.ruleNames()))) {
		for _, r := range ranges {
			plain := add(capturedPreference)
			plain.IifName, plain.IPProto, plain.Dport = ifc, unix.IPPROTO_TCP, r
			// Only without a mark of ours: another gateway's mark is looked up behind it.
			plain.Mask = &s.cfg.Mask
			all = append(all, plain)
		}
	}
	return all
}

// ephemeral says whether the kernel may choose one of the ports for a connection
// of this host.
func (s *Steering) ephemeral(r *netlink.RulePortRange) bool {
	return r.Start <= s.ephemeralPorts[1] && r.End >= s.ephemeralPorts[0]
}

func ephemeralPorts() [2]uint16 {
	all := [2]uint16{32768, 60999}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &all[0], &all[1])
	}
	return all
}

// plainLocal says whether a rule asks the local table about every packet.
func plainLocal(r *netlink.Rule) bool {
	return r.Table == unix.RT_TABLE_LOCAL && r.IifName == "" && r.OifName == "" && r.Src == nil && r.Dst == nil && r.Mark == 0 &&
		(r.Mask == nil || *r.Mask == 0) && r.IPProto == 0 && r.Dport == nil && r.Sport == nil && r.UIDRange == nil &&
		!r.Invert && r.Tos == 0 && r.TunID == 0 && r.Goto <= 0
}

// localRule is the rule that asks the local table. It keeps the kernel's tag even where
// it was moved, because systemd-networkd removes rules with other tags.
func localRule(family, pref int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Protocol = family, pref, unix.RT_TABLE_LOCAL, unix.RTPROT_KERNEL
	return r
}

// ensureLocal moves the local table behind our rules and says what it did. At every
// moment some rule asks the local table. If somebody has moved it already (Cilium), it
// stays where it is.
func (s *Steering) ensureLocal(family int, have []netlink.Rule) ([]string, error) {
	if !s.cfg.Local {
		return nil, nil
	}
	var done []string
	at := func(pref func(int) bool) bool {
		return slices.ContainsFunc(have, func(r netlink.Rule) bool { return plainLocal(&r) && pref(r.Priority) })
	}
	first := at(func(p int) bool { return p == 0 })
	if first || !at(func(p int) bool { return p >= LocalPreferences }) {
		if !at(func(p int) bool { return p == LocalPreferences }) {
			r := localRule(family, LocalPreferences)
			if err := s.rt.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
				return done, fmt.Errorf("add %s: %w", describeRule(r), err)
			}
			done = append(done, describeRule(r))
		}
	}
	if !first {
		return done, nil
	}
	r := localRule(family, 0)
	r.Protocol = 0 // matches the rule whoever made it
	if err := s.rt.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
		return done, fmt.Errorf("delete %s: %w", describeRule(r), err)
	}
	return append(done, "removed "+describeRule(r)), nil
}

// restoreLocal moves the local table back to the front if it was moved.
func (s *Steering) restoreLocal() error {
	for _, family := range s.families() {
		have, err := undisturbed(func() ([]netlink.Rule, error) { return s.rt.RuleList(family) })
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		has := func(pref int) bool {
			return slices.ContainsFunc(have, func(r netlink.Rule) bool { return plainLocal(&r) && r.Priority == pref })
		}
		if !has(LocalPreferences) && slices.ContainsFunc(have, func(r netlink.Rule) bool { return plainLocal(&r) }) {
			continue
		}
		if r := localRule(family, 0); !has(0) {
			if err := s.rt.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("add %s: %w", describeRule(r), err)
			}
		}
		if r := localRule(family, LocalPreferences); has(LocalPreferences) {
			if err := s.rt.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("delete %s: %w", describeRule(r), err)
			}
		}
	}
	return nil
}

// refuseForeign is an error if moving the local table would put rules of others before it
// that were not before it until then.
func (s *Steering) refuseForeign() error {
	if !s.cfg.Local {
		return nil
	}
	var errs []error
	for _, family := range s.families() {
		have, err := undisturbed(func() ([]netlink.Rule, error) { return s.rt.RuleList(family) })
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		for _, r := range have {
			r.Family = family
			if r.Priority <= LocalPreferences && r.Protocol != RuleProtocol && !plainLocal(&r) {
				errs = append(errs, fmt.Errorf("%s of somebody else stands where sslgate puts the local table to capture what is delivered to this host: give it a preference above %d, or write `local: {in: false}` in section capture", describeRule(&r), LocalPreferences))
			}
		}
	}
	return errors.Join(errs...)
}
