package doctor

import (
	"fmt"

	"github.com/sslgate/sslgate/tun"
)

// firewall checks that chains of other programs let captured packets through.
func (d *doctor) firewall() {
	if !d.steers() {
		return
	}
	c := d.o.Config
	for _, ip := range []string{"ip", "ip6"} {
		d.legacy(ip)
	}
	sc := tun.SteerConfig{
		TUN: c.TUN.Name, Interfaces: c.Capture.Interfaces, Ports: c.Capture.Ports.List, AllPorts: c.Capture.Ports.All,
		Local: c.CapturesLocal(), Mark: c.Capture.Mark, Mask: c.Capture.Mask, ClientSource: c.ClientSource(), ReturnMark: c.Dial.Mark,
		CTMask: c.Upgrade.CTMask,
	}
	if second, ok := c.Second(); ok {
		sc.Twin = tun.Twin(second)
	}
	if c.CapturesOut() {
		sc.Out = &tun.Outgoing{OwnMark: c.OwnMark()}
	}
	found, err := tun.CheckChains(sc)
	if err != nil {
		return // nft reports it
	}
	for _, t := range found {
		if t.Fatal {
			d.fail("firewall", t.Fix, "%s", t.Text)
		} else {
			d.warn("firewall", t.Fix, "%s", t.Text)
		}
	}
	flowtables, err := tun.CheckFlowtables(c.Capture.Interfaces...)
	if err != nil {
		d.warn("firewall", "", "%v: what is in a flowtable passes uninspected until it ends", err)
	}
	for _, t := range flowtables {
		d.warn("firewall", "", "%s", t.Text)
	}
	if d.clean("firewall") {
		d.good("firewall", "no chain of somebody else surely drops captured packets, sets their mark or takes their pins away")
	}
}

// drops reports what the guard has dropped, and why.
func (d *doctor) drops() {
	if !d.steers() {
		return
	}
	drops, set, err := tun.ReadDrops()
	if err != nil || !set {
		return // nft or guard reports it
	}
	for _, w := range drops.Warnings() {
		d.warn("drops", "", "%s", w)
	}
	var counts []string
	for _, c := range drops.Counts {
		text := fmt.Sprintf("the guard has dropped %s (%s): %s", packets(c.Packets), c.Reason, c.Cause)
		switch c.Reason {
		case tun.DropPortChanged, tun.DropSourceChanged: // a rule of this host must be corrected
			d.warn("drops", "", "%s", text)
		default:
			counts = append(counts, text)
		}
	}
	for _, text := range counts {
		d.good("drops", "%s", text)
	}
	if d.clean("drops") {
		d.good("drops", "the guard has dropped nothing")
	}
}

func packets(n uint64) string {
	if n == 1 {
		return "1 packet"
	}
	return fmt.Sprintf("%d packets", n)
}
