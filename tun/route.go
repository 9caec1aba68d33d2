package tun

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RuleProtocol tags our rules (FRA_PROTOCOL) and routes (rtm_protocol), so that they are
// recognized whichever process left them. It is not assigned in linux/rtnetlink.h or
// iproute2's rt_protos.
const RuleProtocol = 155

// unreachableMetric is worse than the metric of any route made without one (IPv4: 0,
// IPv6: 1024), so that the unreachable route is used only while the TUN is missing.
const unreachableMetric = 4096

// maxPortRules bounds the rules without a mark, because every packet of the host is
// compared with each. If the captured port ranges times the interfaces are more, there
// are no such rules.
const maxPortRules = 64

func haveIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf/all")
	return err == nil
}

func (s *Steering) families() []int {
	if s.ipv6 {
		return []int{unix.AF_INET, unix.AF_INET6}
	}
	return []int{unix.AF_INET}
}

// wantedRules are the rules of one family: by mark, and as a second line of defence by
// interface and port.
func (s *Steering) wantedRules(family int) []*netlink.Rule {
	add := func(pref int) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table, r.Protocol = family, pref, s.cfg.Table, RuleProtocol
		return r
	}
	marked := add(s.cfg.Preference)
	marked.Mark, marked.Mask = s.cfg.Mark, &s.cfg.Mask
	all := []*netlink.Rule{marked}
	if s.cfg.ClientSource {
		// Before the port rules below, because an answer may go to a captured port.
		answers := add(s.cfg.Preference)
		answers.Mark, answers.Mask, answers.Table = s.cfg.ReturnMark, &s.cfg.Mask, s.cfg.ReturnTable
		all = append(all, answers)
	}
	all = append(all, s.localRules(add)...)
	ranges := portRanges(&s.cfg)
	if s.aside || len(ranges)*len(s.cfg.Interfaces) > maxPortRules { // aside: see removePlainOfTwin
		return all
	}
	for _, ifc := range slices.Compact(slices.Sorted(slices.Values(s.ruleNames()))) {
		for _, r := range ranges {
			plain := add(s.cfg.Preference + 1)
			plain.IifName, plain.IPProto, plain.Dport = ifc, unix.IPPROTO_TCP, r
			all = append(all, plain)
		}
	}
	return all
}

// ruleNames are the interfaces' own names: a rule by another name is lost when
// its interface is renamed.
func (s *Steering) ruleNames() []string {
	if s.at.own != nil {
		return s.at.own
	}
	return s.cfg.Interfaces
}

// portRanges joins adjacent captured ports to ranges; for AllPorts it is a single nil.
func portRanges(c *SteerConfig) []*netlink.RulePortRange {
	if c.AllPorts {
		return []*netlink.RulePortRange{nil}
	}
	return joinPorts(c.Ports)
}

// joinPorts makes ranges of sorted ports.
func joinPorts(ports []uint16) []*netlink.RulePortRange {
	var all []*netlink.RulePortRange
	for _, p := range ports {
		if n := len(all); n > 0 && int(all[n-1].End)+1 == int(p) {
			all[n-1].End = p
			continue
		}
		all = append(all, netlink.NewRulePortRange(p, p))
	}
	return all
}

// sameRule compares everything but the tag.
func sameRule(a, b *netlink.Rule) bool {
	ports := func(r *netlink.Rule) netlink.RulePortRange {
		if r.Dport == nil {
			return netlink.RulePortRange{}
		}
		return *r.Dport
	}
	// Without a mark the kernel reports no mask, or one that matches nothing but 0.
	mask := func(r *netlink.Rule) uint32 {
		switch {
		case r.Mark == 0 && (r.Mask == nil || *r.Mask == 0):
			return 0
		case r.Mask == nil:
			return 0xffffffff
		}
		return *r.Mask
	}
	plain := func(r *netlink.Rule) bool {
		return !r.Invert && r.Src == nil && r.Dst == nil && r.OifName == "" && r.Sport == nil && r.UIDRange == nil &&
			r.Tos == 0 && r.TunID == 0 && r.Goto <= 0
	}
	return a.Priority == b.Priority && a.Table == b.Table && a.Mark == b.Mark && mask(a) == mask(b) && a.IifName == b.IifName &&
		a.IPProto == b.IPProto && ports(a) == ports(b) && plain(a) && plain(b)
}

// ensureRouting adds the rules and routes that are missing and says which.
func (s *Steering) ensureRouting() ([]string, error) {
	var done []string
	for _, family := range s.families() {
		// Routes before rules: no rule leads to an empty table.
		routes, err := s.ensureRoutes(family)
		done = append(done, routes...)
		if err != nil {
			return done, err
		}
		have, err := undisturbed(func() ([]netlink.Rule, error) { return s.rt.RuleList(family) })
		if err != nil {
			return done, fmt.Errorf("list rules: %w", err)
		}
		for _, want := range s.wantedRules(family) {
			if slices.ContainsFunc(have, func(r netlink.Rule) bool { return sameRule(&r, want) }) {
				continue
			}
			if err := s.rt.RuleAdd(want); err != nil && !errors.Is(err, unix.EEXIST) {
				return done, fmt.Errorf("add %s: %w", describeRule(want), err)
			}
			done = append(done, describeRule(want))
		}
		moved, err := s.ensureLocal(family, have)
		done = append(done, moved...)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (s *Steering) wantedRoutes(family int) []*netlink.Route {
	dst := anywhere(family)
	out := &netlink.Route{Family: family, Dst: dst, Table: s.cfg.Table, Protocol: RuleProtocol, Type: unix.RTN_UNICAST, LinkIndex: s.tunIdx}
	if family == unix.AF_INET {
		out.Scope = unix.RT_SCOPE_LINK
	}
	none := &netlink.Route{Family: family, Dst: dst, Table: s.cfg.Table, Protocol: RuleProtocol, Type: unix.RTN_UNREACHABLE, Priority: unreachableMetric}
	if s.cfg.ClientSource {
		return []*netlink.Route{none, out, s.returnRoute(family)}
	}
	return []*netlink.Route{none, out}
}

func anywhere(family int) *net.IPNet {
	if family == unix.AF_INET6 {
		return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
}

func sameRoute(have, want *netlink.Route) bool {
	if have.Table != want.Table || have.Type != want.Type || have.Gw != nil || len(have.MultiPath) > 0 {
		return false
	}
	if ones, _ := want.Dst.Mask.Size(); ones == 0 && have.Dst != nil {
		if ones, _ := have.Dst.Mask.Size(); ones != 0 {
			return false
		}
	}
	if want.Type == unix.RTN_UNREACHABLE {
		return have.Priority == want.Priority
	}
	return have.LinkIndex == want.LinkIndex
}

func (s *Steering) ensureRoutes(family int) ([]string, error) {
	have, err := s.tableRoutes(family, s.cfg.Table)
	if err == nil && s.cfg.ClientSource {
		var more []netlink.Route
		more, err = s.tableRoutes(family, s.cfg.ReturnTable)
		have = append(have, more...)
	}
	if err != nil {
		return nil, err
	}
	var done []string
	for _, want := range s.wantedRoutes(family) {
		if slices.ContainsFunc(have, func(r netlink.Route) bool { return sameRoute(&r, want) }) {
			continue
		}
		err := s.rt.RouteReplace(want)
		if errors.Is(err, unix.EACCES) && family == unix.AF_INET6 {
			// disable_ipv6 is set on the TUN. The unreachable route is in place, so
			// captured IPv6 goes nowhere, and an error every second would be of no use.
			continue
		}
		if err != nil {
			return done, fmt.Errorf("add %s: %w%s", s.describeRoute(want), err, routeHint(err, want))
		}
		done = append(done, s.describeRoute(want))
	}
	return done, nil
}

// tableRoutes lists one table. The kernel selects it, so a main table of a million routes
// costs nothing.
func (s *Steering) tableRoutes(family, table int) ([]netlink.Route, error) {
	routes, err := undisturbed(func() ([]netlink.Route, error) {
		return s.routes.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	})
	if errors.Is(err, unix.ENOENT) { // no such table yet
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list routes of table %d: %w", table, err)
	}
	return routes, nil
}

func describeRule(r *netlink.Rule) string {
	how := "ip rule"
	if r.Family == unix.AF_INET6 {
		how = "ip -6 rule"
	}
	if r.Mark != 0 {
		mask := uint32(0xffffffff)
		if r.Mask != nil {
			mask = *r.Mask
		}
		return fmt.Sprintf("%s pref %d fwmark %#x/%#x lookup %d", how, r.Priority, r.Mark, mask, r.Table)
	}
	ports := ""
	if r.Dport != nil {
		ports = fmt.Sprintf(" dport %d-%d", r.Dport.Start, r.Dport.End)
	}
	from := ""
	if r.IifName != "" {
		from = " iif " + r.IifName
	}
	if r.IPProto != 0 {
		from += " ipproto tcp"
	}
	if r.Mask != nil && *r.Mask != 0 {
		from = fmt.Sprintf(" fwmark 0/%#x%s", *r.Mask, from)
	}
	return fmt.Sprintf("%s pref %d%s%s lookup %d", how, r.Priority, from, ports, r.Table)
}

func (s *Steering) describeRoute(r *netlink.Route) string {
	how := "ip route"
	if r.Family == unix.AF_INET6 {
		how = "ip -6 route"
	}
	if r.Type == unix.RTN_UNREACHABLE {
		return fmt.Sprintf("%s unreachable default metric %d table %d", how, r.Priority, r.Table)
	}
	if r.Type == unix.RTN_LOCAL {
		return fmt.Sprintf("%s local default dev lo table %d", how, r.Table)
	}
	return fmt.Sprintf("%s default dev %s table %d", how, s.cfg.TUN, r.Table)
}
