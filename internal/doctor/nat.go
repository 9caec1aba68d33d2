package doctor

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/sslgate/sslgate/tun"
	"github.com/sslgate/sslgate/tun/nftname"
)

// sourceNAT is a rule of the host that changes sources, and the base chain that leads to
// it.
type sourceNAT struct {
	rule *nftables.Rule
	base *nftables.Chain
	how  string // masquerade, snat, ...
}

func (n sourceNAT) String() string {
	return fmt.Sprintf("%s in chain %s of table %s %s, handle %d", n.how, n.rule.Chain.Name, nftname.Family(n.rule.Table.Family), n.rule.Table.Name, n.rule.Handle)
}

// nat reports source NAT of the host that may match captured packets. It would replace
// the client's address, on which policy and record depend, by the gateway's. The gateway
// prevents that, unless the rule comes first.
func (d *doctor) nat() {
	if !d.steers() {
		return
	}
	all, err := sourceNATs(d.o.Config.TUN.Name)
	if err != nil {
		return // nft reports it
	}
	var kept []string
	for _, n := range all {
		if *n.base.Priority > tun.KeepPriority {
			kept = append(kept, n.String())
			continue
		}
		d.fail("nat", "", "%s would change the source of captured packets, which the gateway then drops: its chain %s has priority %d, and must come after %d (srcnat is 100); or give the rule an outgoing interface",
			n, n.base.Name, *n.base.Priority, tun.KeepPriority)
	}
	switch {
	case !d.clean("nat"):
	case len(kept) > 0:
		d.good("nat", "source NAT of this host that names no outgoing interface is kept off captured packets: %s", strings.Join(kept, "; "))
	default:
		d.good("nat", "no source NAT of this host would take captured packets")
	}
}

// sourceNATs are the rules that may change the source of what leaves by the TUN: in the
// chains for source NAT and in the chains these lead to. Rules of iptables-nft are
// included.
func sourceNATs(tunName string) ([]sourceNAT, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, err
	}
	var all []sourceNAT
	for _, base := range chains {
		if base.Type != nftables.ChainTypeNAT || base.Hooknum == nil || *base.Hooknum != *nftables.ChainHookPostrouting || base.Priority == nil ||
			tun.Ours(base.Table) {
			continue
		}
		// Walk each chain once: there are no circles, but there may be many chains.
		todo, seen := []string{base.Name}, map[string]bool{}
		for len(todo) > 0 {
			name := todo[0]
			todo = todo[1:]
			if seen[name] {
				continue
			}
			seen[name] = true
			rules, err := conn.GetRules(base.Table, &nftables.Chain{Name: name, Table: base.Table})
			if err != nil {
				return nil, err
			}
			for _, r := range rules {
				if !mayLeaveBy(r.Exprs, tunName) {
					continue
				}
				how, next := action(r.Exprs)
				if how != "" {
					all = append(all, sourceNAT{rule: r, base: base, how: how})
				}
				if next != "" {
					todo = append(todo, next)
				}
			}
		}
	}
	return all, nil
}

// action says which source NAT a rule does, and which chain it leads to.
func action(exprs []expr.Any) (how, next string) {
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Masq:
			how = "masquerade"
		case *expr.NAT:
			if e.Type == expr.NATTypeSourceNAT {
				how = "snat"
			}
		case *expr.Target:
			if slices.Contains([]string{"MASQUERADE", "SNAT", "NETMAP"}, e.Name) {
				how = strings.ToLower(e.Name)
			}
		case *expr.Verdict:
			next = e.Chain
		}
	}
	return how, next
}

// mayLeaveBy says whether a rule may match what leaves by the interface; in doubt it says
// yes.
func mayLeaveBy(exprs []expr.Any, name string) bool {
	for i, e := range exprs[:max(0, len(exprs)-1)] {
		m, ok := e.(*expr.Meta)
		c, cmp := exprs[i+1].(*expr.Cmp)
		if !ok || !cmp || m.Key != expr.MetaKeyOIFNAME {
			continue
		}
		// For "eth+" of iptables the data has no final zero: it is a prefix.
		same := bytes.HasPrefix(append([]byte(name), 0), bytes.TrimRight(c.Data, "\x00"))
		if bytes.HasSuffix(c.Data, []byte{0}) {
			same = name == string(bytes.TrimRight(c.Data, "\x00"))
		}
		if same != (c.Op == expr.CmpOpEq) {
			return false
		}
	}
	return true
}

// redirects checks that this host does not tell clients of a shorter way past the
// gateway.
func (d *doctor) redirects() {
	if !d.steers() {
		return
	}
	guarded, err := guardSet()
	if err != nil {
		return // nft reports it
	}
	var on []string
	for _, name := range tun.SendsRedirects(d.captured()...) {
		on = append(on, "net/ipv4/conf/"+name+"/send_redirects=0")
	}
	switch {
	case len(on) == 0:
		d.good("redirects", "captured interfaces are sent no ICMP redirects")
	case guarded:
		d.good("redirects", "send_redirects is on, and the guard drops redirects to captured interfaces")
	default:
		d.warn("redirects", "sysctl -w "+strings.Join(on, " "),
			"send_redirects is on, and the guard is not set: clients that have a router beside this host on their link are told of it, and for minutes go round the gateway")
	}
}
