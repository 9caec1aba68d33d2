package doctor

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun"
)

// source checks that answers to connections under a client's address come back to the
// gateway. They may come in by any interface.
func (d *doctor) source() {
	if !d.steers() || !d.o.Config.ClientSource() {
		return
	}
	for _, t := range tun.ClientSourceTroubles(d.o.Config.TUN.Name) {
		d.fail("source", t.Fix, "%s", t.Text)
	}
	c := d.o.Config
	for _, f := range families {
		list, err := netlink.RuleList(f.number)
		if err != nil {
			return // rules reports it
		}
		for _, r := range list {
			if !d.before(&r) || r.IifName == "lo" ||
				!fits(&r, []string{r.IifName}, c.Dial.Mark) || fits(&r, d.captured(), c.Capture.Mark) { // rules reports those
				continue
			}
			d.early("source", f, &r, nil, "answers to connections under a client's address", "which then do not come back")
		}
		d.answersRoutes(f.number, f.flag)
	}
	if d.clean("source") {
		d.good("source", "answers to connections under a client's address come back to the gateway")
	}
}

func (d *doctor) answersRoutes(family int, flag string) {
	table := d.o.Config.Dial.Table
	list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return // routes reports it
	}
	for _, r := range slices.DeleteFunc(list, func(r netlink.Route) bool { return r.Protocol == tun.RuleProtocol || r.Type == unix.RTN_LOCAL }) {
		d.fail("source", fmt.Sprintf("ip %s route del %s table %d proto %d", flag, routeDst(&r), table, int(r.Protocol)),
			"the route %s in our table %d of answers is not ours: answers to it leave for the client", routeDst(&r), table)
	}
}

func routeDst(r *netlink.Route) string {
	if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
		return r.Dst.String()
	}
	return "default"
}
