package doctor

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// legacyWait bounds how long iptables-legacy-save may take; it may have to wait for the
// lock of another iptables.
const legacyWait = 5 * time.Second

// legacy reports a table filter of iptables-legacy (ip "ip") or ip6tables-legacy ("ip6")
// that may drop what is forwarded. nftables does not show such rules, so they are not
// walked. Who has looked at the table once has loaded it: a table without rules that
// accepts is no finding.
func (d *doctor) legacy(ip string) {
	if !slices.Contains(d.legacyTables(ip), "filter") {
		return
	}
	rules, known := d.legacyForward(ip)
	switch {
	case !known:
		d.warn("firewall", ip+"tables-legacy -S FORWARD", "%stables-legacy has a table filter, which doctor cannot read: its chain FORWARD must let packets from the captured interfaces to %s through, and back", ip, d.o.Config.TUN.Name)
	case len(rules) > 0:
		d.warn("firewall", ip+"tables-legacy -S FORWARD", "%stables-legacy filters what is forwarded, and doctor does not judge its rules (the first is `%s`): its chain FORWARD must let packets from the captured interfaces to %s through, and back", ip, rules[0], d.o.Config.TUN.Name)
	}
}

// legacyForward are the rules of the table's chain FORWARD and its policy where that
// drops, as iptables-legacy-save prints them. They are not known if the program is
// missing or prints no whole table; its exit code says nothing, for there are versions
// that fail after they have printed an empty one.
func (d *doctor) legacyForward(ip string) (rules []string, known bool) {
	ctx, cancel := context.WithTimeout(context.Background(), legacyWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, ip+"tables-legacy-save", "-t", "filter")
	cmd.WaitDelay = time.Second
	out, _ := cmd.Output()
	inFilter := false
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			inFilter = line == "*filter"
		case !inFilter:
		case line == "COMMIT":
			return rules, true
		case strings.HasPrefix(line, ":FORWARD ") && !strings.HasPrefix(line, ":FORWARD ACCEPT"), strings.HasPrefix(line, "-A FORWARD "):
			rules = append(rules, line)
		}
	}
	return nil, false
}
