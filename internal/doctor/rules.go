package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun"
)

// Rules of other programs that come before ours. These programs need them, so no command
// here deletes one; our rules can begin before them (capture.preference).

// rules reports another program's rule before ours that takes captured packets elsewhere,
// where the guard drops them, if its table has a route for them.
func (d *doctor) rules() {
	if !d.steers() {
		return
	}
	c := &d.o.Config.Capture
	to := d.destinations()
	from := d.captured()
	if d.o.Config.CapturesOut() {
		from = append(from, "lo") // what the host sends itself, to the kernel's rules
	}
	for _, f := range families {
		list, err := netlink.RuleList(f.number)
		if err != nil {
			d.fail("rules", "", "list the ip %s rules: %v", f.flag, err)
			continue
		}
		for _, r := range list {
			if !d.before(&r) || !fits(&r, from, c.Mark) {
				continue
			}
			d.early("rules", f, &r, to, "captured packets", "which the guard then drops")
		}
	}
	if d.clean("rules") {
		d.good("rules", "no rule of somebody else takes captured packets before ours")
	}
}

// before says whether a rule is another program's and comes before ours.
func (d *doctor) before(r *netlink.Rule) bool {
	return r.Priority > 0 && r.Priority < d.o.Config.Capture.Preference && r.Protocol != tun.RuleProtocol && r.Table != unix.RT_TABLE_LOCAL
}

// early is the finding about a rule that comes before ours and matches packets to these
// destinations; nil means any destination.
func (d *doctor) early(check string, f family, r *netlink.Rule, to []netip.Prefix, what, then string) {
	whose := fmt.Sprintf("ip %s rule %d (table %d%s)", f.flag, r.Priority, r.Table, owner(r))
	advice := d.advice(r)
	takes, has := d.takes(f, r, to)
	switch {
	case takes:
		d.fail(check, "", "%s comes before ours (%d) and may take %s, %s: %s", whose, d.o.Config.Capture.Preference, what, then, advice)
	case has:
		d.warn(check, "", "%s comes before ours (%d); its table has no route for %s now, and if it gets one they are lost: %s", whose, d.o.Config.Capture.Preference, what, advice)
	}
}

// advice is the preference at which our rules come first.
func (d *doctor) advice(r *netlink.Rule) string {
	lowest := 1
	if d.o.Config.CapturesLocal() {
		lowest = tun.LocalPreferences + 1
	}
	// We have two rules: at the preference and the one after it.
	if p := r.Priority - 2; p >= lowest {
		return fmt.Sprintf("write `preference: %d`, or less, in section capture", p)
	}
	return fmt.Sprintf("its owner should give it a preference above %d", d.o.Config.Capture.Preference+1)
}

// owner names the program that is known to make such a rule.
func owner(r *netlink.Rule) string {
	switch {
	case r.Priority >= 5210 && r.Priority <= 5270 && (r.Table == 52 || r.Mark&^0xff0000 == 0 && r.Mark != 0):
		return ", Tailscale"
	case r.Table == 51820:
		return ", wg-quick"
	case r.Priority >= 512 && r.Priority <= 1536 && r.Mark == 0x80:
		return ", AWS VPC CNI"
	case r.Priority >= 1001 && r.Priority <= 3254 && r.Mark&^0x3f00 == 0 && r.Mark != 0:
		return ", mwan3"
	}
	return ""
}

// takes says whether a rule ends the lookup for packets to one of the destinations, and
// whether its table has any route. If the table cannot be read, it says yes.
func (d *doctor) takes(f family, r *netlink.Rule, to []netip.Prefix) (takes, has bool) {
	if r.Table == 0 || r.Goto > 0 { // goto, unreachable, prohibit, blackhole
		return true, true
	}
	routes, err := netlink.RouteListFiltered(f.number, &netlink.Route{Table: r.Table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return true, true
	}
	for _, route := range routes {
		if route.Type == unix.RTN_THROW || r.SuppressPrefixlen >= 0 && length(&route) <= r.SuppressPrefixlen {
			continue
		}
		has = true
		if meets(&route, to) {
			return true, true
		}
	}
	return false, has
}

func length(r *netlink.Route) int {
	if r.Dst == nil {
		return 0
	}
	ones, _ := r.Dst.Mask.Size()
	return ones
}

// meets says whether a route is for one of the destinations; for any destination, a
// default route is.
func meets(r *netlink.Route, to []netip.Prefix) bool {
	if length(r) == 0 {
		return true
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	if !ok {
		return true
	}
	dst := netip.PrefixFrom(addr.Unmap(), length(r))
	return slices.ContainsFunc(to, dst.Overlaps)
}

// destinations are the addresses in the rules of the policy. For destinations not given
// as addresses, only a default route is sure to match.
func (d *doctor) destinations() []netip.Prefix {
	var all []netip.Prefix
	for _, r := range d.o.Config.Policy.Rules {
		for _, to := range r.To {
			host := to
			if i := strings.LastIndexByte(to, ':'); i >= 0 {
				host = to[:i]
			}
			host = strings.NewReplacer("[", "", "]", "").Replace(host)
			if p, err := netip.ParsePrefix(host); err == nil {
				all = append(all, p.Masked())
			} else if a, err := netip.ParseAddr(host); err == nil {
				all = append(all, netip.PrefixFrom(a, a.BitLen()))
			} else { // a set, or any
				all = append(all, netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0))
			}
		}
	}
	return all
}

// fits says whether a rule may match a captured packet; in doubt it says yes.
func fits(r *netlink.Rule, interfaces []string, mark uint32) bool {
	if r.Invert {
		return true
	}
	if r.IifName != "" && !slices.Contains(interfaces, r.IifName) || r.OifName != "" {
		return false
	}
	if r.IPProto != 0 && r.IPProto != unix.IPPROTO_TCP {
		return false
	}
	mask := uint32(0xffffffff)
	if r.Mask != nil {
		mask = *r.Mask
	}
	return r.Mark == 0 || mark&mask == r.Mark
}
