package config

import (
	"net/netip"
	"slices"
	"strings"
)

// localPreferences are the preferences of ip rules that capturing what is delivered
// to the host itself takes (package tun): 1 to this.
const localPreferences = 3

// exceptPorts is the path of a list that may be empty: it has to be said that there
// is none.
const exceptPorts = "capture.except_ports"

// checkLocal checks what capture says of the host itself.
func (f *File) checkLocal(c *Capture) {
	f.checkOut(c)
	for i, p := range c.ExceptPorts {
		f.check(p >= 1 && p <= 65535, indexPath(exceptPorts, i), "%d is no TCP port: 1 to 65535", p)
	}
	const path = exceptPorts
	switch {
	case c.Ports.All && !f.Config.TUN.Attach && len(c.ExceptPorts) == 0:
		f.check(f.has(path), path, `is missing: with ports "all" this host's own services are captured too, SSH among them; name those to leave out, such as [22], or write [] for none`)
	case !c.Ports.All && f.has(path) && f.has("capture.ports"):
		f.check(false, path, "is for ports \"all\" alone: what capture.ports does not list is not captured anyway")
	}
	if c.Local.In && !f.Config.TUN.Attach {
		f.check(c.Preference < 1 || c.Preference > localPreferences, "capture.preference",
			"%d: 1 to %d are for what is delivered to this host: take a greater one, or `local: {in: false}`", c.Preference, localPreferences)
	}
	f.checkListeners(c)
}

// checkListeners warns where admin.metrics is on a captured port: who comes in by a
// captured interface meets the policy there. admin.http is on the loopback.
func (f *File) checkListeners(c *Capture) {
	const path = "admin.metrics.listen"
	p, err := netip.ParseAddrPort(f.Config.Admin.Metrics.Listen)
	if err != nil || f.Config.TUN.Attach || p.Addr().IsLoopback() || !c.Captures(p.Port()) {
		return
	}
	what := "the policy decides about them, and a rule has to lead there"
	if !c.Local.In {
		what = "they are dropped (local: {in: false})"
	}
	f.findings = append(f.findings, f.Warning(path, "is on a captured port: scrapes that come in by "+strings.Join(c.Interfaces, ", ")+" are captured like all else there: "+what+"; take another port, or list it in capture.except_ports where ports is \"all\""))
}

// Captures says whether connections to a port of this host are captured.
func (c *Capture) Captures(port uint16) bool {
	if c.Ports.All {
		return !slices.Contains(c.ExceptPorts, int(port))
	}
	return slices.Contains(c.Ports.List, port)
}

// CapturesLocal says whether what is delivered to this host itself is captured.
func (c *Config) CapturesLocal() bool { return !c.TUN.Attach && c.Capture.Local.In }

// CapturesOut says whether connections of programs of this host are captured.
func (c *Config) CapturesOut() bool { return !c.TUN.Attach && c.Capture.Local.Out != nil }

// OwnMark is the firewall mark of sslgate's own sockets where connections of programs of
// this host are captured; 0 where capture.mask has no number left.
func (c *Config) OwnMark() uint32 {
	if c.Capture.Local.Out == nil {
		return 0
	}
	if m := c.Capture.Local.Out.Mark; m != 0 {
		return m
	}
	second, _ := c.Second()
	return c.freeMark(second.Mark)
}

// OutTo are the networks of capture.local.out.to.
func (o *LocalOut) OutTo() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range o.To {
		if p, err := prefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// prefix reads an address or a network.
func prefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Prefix(a.BitLen())
	}
	return netip.ParsePrefix(text)
}

// The bounds of the lists of capture.local.out.
const (
	maxOutUsers = 1000
	maxOutTo    = 64
)

func (f *File) checkOut(c *Capture) {
	const path = "capture.local.out"
	o := c.Local.Out
	if o == nil {
		return
	}
	if f.Config.TUN.Attach {
		f.check(false, path, "with tun.attach somebody else routes into the device, and sslgate captures nothing of this host's programs: take this out, or attach")
		return
	}
	for _, list := range []struct {
		key     string
		numbers []int
		most    int64
	}{{"users", o.Users, 1<<32 - 2}, {"groups", o.Groups, 1<<32 - 2}, {"except_users", o.ExceptUsers, 1<<32 - 2}, {"ports", o.Ports, 65535}} {
		at := path + "." + list.key
		f.check(len(list.numbers) <= maxOutUsers || list.key == "ports", at, "%d entries: at most %d", len(list.numbers), maxOutUsers)
		seen := map[int]bool{}
		for i, n := range list.numbers {
			p := indexPath(at, i)
			switch {
			case n < 0 || int64(n) > list.most || n == 0 && list.key == "ports":
				f.check(false, p, "%d is out of range: at most %d", n, list.most)
			case seen[n]:
				f.check(false, p, "%d is listed twice", n)
			case list.key == "ports":
				f.check(c.Ports.Contains(uint16(n)), p, "port %d is not in capture.ports, and nobody would take what is led there", n)
			}
			seen[n] = true
		}
	}
	for i, n := range o.ExceptUsers {
		f.check(!slices.Contains(o.Users, n), indexPath(path+".except_users", i), "%d is in users too: it is captured or not", n)
	}
	f.check(len(o.To) <= maxOutTo, path+".to", "%d entries: at most %d, each costs a rule", len(o.To), maxOutTo)
	for i, text := range o.To {
		p, err := prefix(text)
		at := indexPath(path+".to", i)
		switch {
		case err != nil:
			f.check(false, at, "%s is no address and no network such as 10.0.0.0/8", quote(text))
		case p.Addr().Is4In6() || p.Addr().Zone() != "":
			f.check(false, at, "%s: write the address without a zone, and IPv4 as such", quote(text))
		default:
			f.check(p == p.Masked(), at, "%s has bits behind its length: write %s", text, p.Masked())
		}
	}
	f.checkOwnMark(path, &f.Config)
}

// checkOwnMark checks the mark of sslgate's own sockets.
func (f *File) checkOwnMark(path string, c *Config) {
	mark := c.OwnMark()
	if c.Capture.Local.Out.Mark == 0 {
		f.check(mark != 0, path, "capture.mask, %#x, has no number left for the mark of sslgate's own sockets, by which its connections are told from those of programs: widen it, such as %#x", c.Capture.Mask, uint32(DefaultMask))
		return
	}
	at := path + ".mark"
	f.withinMask(at, mark)
	second, two := c.Second()
	f.check(mark != c.Capture.Mark && mark != c.Dial.Mark && mark != c.DialSocketMark() && (!two || mark != second.Mark), at,
		"%#x is capture.mark, dial.mark, the one after dial.mark or upgrade.mark", mark)
}

// LocalExcept are the ports of this host itself that are not captured.
func (c *Capture) LocalExcept() []uint16 {
	if !c.Ports.All {
		return nil
	}
	var all []uint16
	for _, p := range c.ExceptPorts {
		all = append(all, uint16(p))
	}
	return all
}
