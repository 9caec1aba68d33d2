package tun

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
)

// This file finds the interfaces that a configuration means. An interface has its own
// name, which nftables, ip rules and /proc/sys use, and may have alternative names
// (ip-link(8), altname), which they do not know. And its packets may come in by another
// interface: a bridge port's by the bridge, a tagged frame by the VLAN. So names are
// looked up in the list of interfaces, at the start and after every change.

// interfaces are what the names of a SteerConfig mean now.
type interfaces struct {
	names   []string // captured: names as configured, and own names; sorted
	indexes []int    // captured; sorted
	named   []int    // the indexes that are configured, or were configured under an earlier name; sorted
	own     []string // own name for each of SteerConfig.Interfaces; the configured name if it does not exist
	exempt  []string // names as configured, and own names of those not captured; sorted
	missing bool     // one of SteerConfig.Interfaces does not exist
	notes   []string // sentences about interfaces that are captured although not named
}

func (a *interfaces) equal(b *interfaces) bool {
	return slices.Equal(a.names, b.names) && slices.Equal(a.indexes, b.indexes) && slices.Equal(a.own, b.own) &&
		slices.Equal(a.exempt, b.exempt) && a.missing == b.missing
}

// lookUp finds the interface with this own or alternative name; nil if there is none.
func lookUp(links []netlink.Link, name string) *netlink.LinkAttrs {
	for _, l := range links {
		if l.Attrs().Name == name {
			return l.Attrs()
		}
	}
	for _, l := range links {
		if slices.Contains(l.Attrs().AltNames, name) {
			return l.Attrs()
		}
	}
	return nil
}

// resolve finds what the names mean now. before are the indexes of interfaces that were
// named before: renamed ones stay captured.
func resolve(links []netlink.Link, cfg *SteerConfig, before []int) interfaces {
	var r interfaces
	taken := map[int]bool{} // captured indexes
	for _, name := range cfg.Interfaces {
		r.names = append(r.names, name)
		at := lookUp(links, name)
		if at == nil {
			r.missing = true
			r.own = append(r.own, name)
			continue
		}
		r.own = append(r.own, at.Name)
		if at.Name != name {
			r.names = append(r.names, at.Name)
			r.notes = append(r.notes, fmt.Sprintf("%s is another name of %s", name, at.Name))
		}
		taken[at.Index] = true
	}
	for _, l := range links {
		if at := l.Attrs(); slices.Contains(before, at.Index) {
			taken[at.Index] = true
		}
	}
	for index := range taken {
		r.named = append(r.named, index)
	}
	for _, name := range cfg.Exempt {
		r.exempt = append(r.exempt, name)
		// By name only: an index would stay exempt after the interface is renamed.
		if at := lookUp(links, name); at != nil && !taken[at.Index] {
			r.exempt = append(r.exempt, at.Name)
		}
	}
	r.spread(links, cfg, taken)
	for index := range taken {
		r.indexes = append(r.indexes, index)
	}
	slices.Sort(r.indexes)
	slices.Sort(r.named)
	for _, names := range []*[]string{&r.names, &r.exempt} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	return r
}

// spread adds to taken the interfaces on which packets of captured ones arrive, unless
// they are exempt.
func (a *interfaces) spread(links []netlink.Link, cfg *SteerConfig, taken map[int]bool) {
	for more := true; more; {
		more = false
		for _, l := range links {
			at := l.Attrs()
			if taken[at.Index] || at.Name == cfg.TUN || at.Name == cfg.Twin.TUN || at.Index == loopbackIndex || slices.Contains(a.exempt, at.Name) {
				continue
			}
			for _, from := range links {
				if c := from.Attrs(); taken[c.Index] && comesInBy(c, l) {
					taken[at.Index], more = true, true
					a.names = append(a.names, at.Name)
					a.notes = append(a.notes, fmt.Sprintf("packets of %s come in by %s (%s), which is captured too", c.Name, at.Name, l.Type()))
					break
				}
			}
		}
	}
}

// comesInBy says whether netfilter and routing may see packets that reach the interface c
// as coming in by l: its bridge, bond, team or VRF, or an interface stacked on it.
func comesInBy(c *netlink.LinkAttrs, l netlink.Link) bool {
	at := l.Attrs()
	if c.MasterIndex != 0 && c.MasterIndex == at.Index {
		return true
	}
	// Only stacked kinds count: the parent of a veth is its other end. If the parent is
	// in another namespace, its index is a number of that namespace.
	return at.ParentIndex != 0 && at.ParentIndex == c.Index && at.NetNsID < 0 && slices.Contains(stacked(), l.Type())
}

// stacked are the kinds of interfaces that take packets from another interface.
func stacked() []string {
	return []string{"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec", "hsr", "ipoib", "rmnet", "dsa"}
}

// Trouble is something about interfaces or the host that keeps a configuration from doing
// what it says.
type Trouble struct {
	Interface string
	Text      string
	Fix       string // a shell command, or ""
	// Fatal: the gateway does not start with the trouble, and is not ready while it
	// lasts.
	Fatal bool
}

// CheckInterfaces checks the captured and exempt interfaces as they are now, in the
// network namespace of the caller.
func CheckInterfaces(captured, exempt []string, tun string) ([]Trouble, error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	cfg := &SteerConfig{TUN: tun, Interfaces: captured, Exempt: exempt}
	return append(troubles(links, cfg), bridgeTroubles(links, cfg, unseenFamilies)...), nil
}

func troubles(links []netlink.Link, cfg *SteerConfig) []Trouble {
	var all []Trouble
	meant := map[int]string{} // index, the captured name
	for _, name := range cfg.Interfaces {
		at := lookUp(links, name)
		if at == nil {
			continue
		}
		switch was, twice := meant[at.Index]; {
		case at.Name == cfg.TUN, at.Name == cfg.Twin.TUN:
			all = append(all, Trouble{name, fmt.Sprintf("%s is another name of the TUN itself", name), "", true})
		case at.Index == loopbackIndex:
			all = append(all, Trouble{name, fmt.Sprintf("%s is another name of lo, which carries the gateway's own connections", name), "", true})
		case twice:
			all = append(all, Trouble{name, fmt.Sprintf("%s and %s are one interface, %s: take one of them out of capture.interfaces", was, name, at.Name), "", true})
		}
		meant[at.Index] = name
		all = append(all, ofMaster(links, name, at)...)
	}
	for _, name := range cfg.Exempt {
		if at := lookUp(links, name); at != nil && meant[at.Index] != "" {
			all = append(all, Trouble{name, fmt.Sprintf("%s is another name of %s, which is captured as %s: it is captured or exempt", name, at.Name, meant[at.Index]), "", true})
		}
	}
	r := resolve(links, cfg, nil)
	for _, note := range r.notes {
		if strings.HasPrefix(note, "packets of ") && len(all) == 0 {
			all = append(all, Trouble{Text: note + ": list it in capture.interfaces, or in capture.exempt if what comes in there may pass uninspected"})
		}
	}
	return all
}

// ofMaster are the troubles of a captured interface that belongs to another one, or is a
// VRF.
func ofMaster(links []netlink.Link, name string, at *netlink.LinkAttrs) []Trouble {
	for _, l := range links {
		m := l.Attrs()
		switch {
		case m.Index == at.Index && l.Type() == "vrf", m.Index == at.MasterIndex && l.Type() == "vrf":
			return []Trouble{{name, fmt.Sprintf("%s is the VRF %s, or in it: its rule comes before ours and takes captured packets to its own table; sslgate does not capture there", name, m.Name),
				"ip link set dev " + at.Name + " nomaster", true}}
		case m.Index == at.MasterIndex && at.MasterIndex != 0:
			return []Trouble{{name, fmt.Sprintf("%s belongs to the %s %s, by which its packets come in: capture that, or take it out", name, l.Type(), m.Name),
				"ip link set dev " + at.Name + " nomaster", true}}
		}
	}
	return nil
}

// OwnNames replaces alternative names by the interfaces' own names, in the network
// namespace of the caller. A name without an interface stays as it is.
func OwnNames(names ...string) []string {
	own := slices.Clone(names)
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return own
	}
	for i, name := range own {
		if at := lookUp(links, name); at != nil {
			own[i] = at.Name
		}
	}
	return own
}

// lookAtInterfaces resolves the names for the interfaces as they are now.
func (s *Steering) lookAtInterfaces() (interfaces, error) {
	links, err := undisturbed(s.rt.LinkList)
	if err != nil {
		return interfaces{}, fmt.Errorf("list interfaces: %w", err)
	}
	return resolve(links, &s.cfg, s.at.named), nil
}

// noteInterfaces logs once which interfaces are captured although not named.
func (s *Steering) noteInterfaces() {
	for _, note := range s.at.notes {
		if !slices.Contains(s.noted, note) {
			s.noted = append(s.noted, note)
			s.log.Warn("more is captured than is named", zap.String("what", note), zap.Strings("interfaces", s.cfg.Interfaces))
		}
	}
	s.noted = slices.DeleteFunc(s.noted, func(n string) bool { return !slices.Contains(s.at.notes, n) })
}

// refuseInterfaces is the error of a first start with fatal Troubles.
func (s *Steering) refuseInterfaces() error {
	links, err := undisturbed(s.rt.LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, t := range troubles(links, &s.cfg) {
		if !t.Fatal {
			continue
		}
		errs = append(errs, t.err())
	}
	return errors.Join(errs...)
}
