package tun

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// removeOwn removes the rules and routes that lead into the TUN of this gateway, and
// nothing that another one uses.
func (s *Steering) removeOwn() error {
	others := func(r *netlink.Rule) bool { return r.Table != s.cfg.Table }
	return s.removeRouting(others, func(r *netlink.Route) bool { return r.Table != s.cfg.Table })
}

// ofTwin says whether a rule or route is one of the gateway in the other slot, while that
// runs.
func (s *Steering) ofTwin(table int) bool { return s.beside && table == s.cfg.Twin.Table }

// ours says whether a rule is ours: it has our tag, or equals one of the rules that we
// want.
func (s *Steering) ours(r *netlink.Rule) bool {
	return r.Protocol == RuleProtocol || slices.ContainsFunc(s.wantedRules(r.Family), func(w *netlink.Rule) bool { return sameRule(r, w) })
}

// removeStale removes rules and routes of an earlier run that are not wanted now, because
// marks, tables or preferences were others.
func (s *Steering) removeStale() error {
	if !s.cfg.Local {
		if err := s.restoreLocal(); err != nil {
			return err
		}
	}
	return s.removeRouting(func(r *netlink.Rule) bool {
		return s.ofTwin(r.Table) || slices.ContainsFunc(s.wantedRules(r.Family), func(w *netlink.Rule) bool { return sameRule(r, w) })
	}, func(r *netlink.Route) bool {
		return s.ofTwin(r.Table) || slices.ContainsFunc(s.wantedRoutes(r.Family), func(w *netlink.Route) bool { return sameRoute(r, w) })
	})
}

// removeAll removes everything of ours. The guard goes last: until then captured traffic
// goes nowhere.
func (s *Steering) removeAll() error {
	if err := s.restoreLocal(); err != nil {
		return err
	}
	err := s.removeRouting(func(*netlink.Rule) bool { return false }, func(*netlink.Route) bool { return false })
	if err != nil {
		return err
	}
	s.turnGRO(s.gro, false)
	s.giveBackRedirects()
	s.gro = nil
	return s.removeTable()
}

// removeRouting removes our rules, but for those to keep, and our routes from
// our table and from the tables that our rules led to.
func (s *Steering) removeRouting(keepRule func(*netlink.Rule) bool, keepRoute func(*netlink.Route) bool) error {
	for _, family := range s.families() {
		rules, err := undisturbed(func() ([]netlink.Rule, error) { return s.rt.RuleList(family) })
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		tables := []int{s.cfg.Table}
		if !systemTable(s.cfg.ReturnTable) {
			tables = append(tables, s.cfg.ReturnTable)
		}
		var gone []*netlink.Rule
		for _, r := range rules {
			r.Family = family
			if !s.ours(&r) {
				continue
			}
			if !slices.Contains(tables, r.Table) {
				tables = append(tables, r.Table)
			}
			if !keepRule(&r) {
				gone = append(gone, &r)
			}
		}
		// Routes before rules: who is killed in between leaves the rules, by which the next
		// one finds the tables. The guard drops meanwhile.
		for _, table := range tables {
			if err := s.removeRoutes(family, table, keepRoute); err != nil {
				return err
			}
		}
		for _, r := range gone {
			if err := s.rt.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("delete %s: %w", describeRule(r), err)
			}
		}
	}
	return nil
}

func (s *Steering) removeRoutes(family, table int, keep func(*netlink.Route) bool) error {
	routes, err := s.tableRoutes(family, table)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Protocol != RuleProtocol || keep(&r) {
			continue
		}
		if err := s.rt.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete %s: %w", s.describeRoute(&r), err)
		}
	}
	return nil
}

// removeTUNRoutes removes the routes into the TUN and leaves the unreachable ones, so
// that clients get an error at once even while the device still exists.
func (s *Steering) removeTUNRoutes() error {
	for _, family := range s.families() {
		err := s.removeRoutes(family, s.cfg.Table, func(r *netlink.Route) bool { return r.Type == unix.RTN_UNREACHABLE })
		if err != nil {
			return err
		}
	}
	return nil
}
