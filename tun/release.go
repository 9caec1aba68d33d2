package tun

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Guard sets the guard alone, atomically in place of the previous table: from then on
// captured traffic goes nowhere. It is for the time before the first start, and needs
// neither the TUN nor the interfaces. It returns ErrRunning if a gateway runs, because
// that has set the guard already.
func Guard(cfg SteerConfig) error {
	s, err := newSteering(cfg, zap.NewNop())
	if err != nil {
		return err
	}
	defer s.closeSockets()
	if err := s.notRunning(); err != nil {
		return err
	}
	return s.writeTable(false)
}

// Release removes everything that Guard and Steer set, in whichever process: guard, rules
// and routes. Captured traffic then passes uninspected. It returns ErrRunning if a
// gateway runs, because that would put everything back.
func Release(cfg SteerConfig) error {
	s, err := newSteering(cfg, zap.NewNop())
	if err != nil {
		return err
	}
	defer s.closeSockets()
	if err := s.notRunning(); err != nil {
		return err
	}
	return s.removeAll()
}

// ErrRunning is returned by Guard and Release while a process has the TUN open.
var ErrRunning = errors.New("the gateway is running")

// notRunning looks for a gateway by its devices. One that was started with another
// configuration has its device named in the nft table.
func (s *Steering) notRunning() error {
	for _, name := range append([]string{s.cfg.TUN, s.cfg.Twin.TUN}, s.listNoted(ownerSet)...) {
		if err := s.notUsed(name); err != nil {
			return err
		}
	}
	return nil
}

// notUsed returns ErrRunning if a process has the TUN of this name open.
func (s *Steering) notUsed(name string) error {
	if name == "" {
		return nil
	}
	link, err := s.rt.LinkByName(name)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for device %s: %w", name, err)
	}
	// A TUN that is not persistent exists only while a process has it open. A persistent
	// one has a carrier while a process has it open.
	t, ok := link.(*netlink.Tuntap)
	if ok && (t.NonPersist || t.RawFlags&unix.IFF_LOWER_UP != 0) {
		return fmt.Errorf("%w: %s is in use%s", ErrRunning, name, holder(name))
	}
	return nil
}

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
