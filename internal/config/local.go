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
	f.word("capture.local", c.Local, "capture", "drop")
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
	if c.Local == "capture" && !f.Config.TUN.Attach {
		f.check(c.Preference < 1 || c.Preference > localPreferences, "capture.preference",
			"%d: 1 to %d are for what is delivered to this host: take a greater one, or `local: drop`", c.Preference, localPreferences)
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
	if c.Local == "drop" {
		what = "they are dropped (local: drop)"
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
func (c *Config) CapturesLocal() bool { return !c.TUN.Attach && c.Capture.Local == "capture" }

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
