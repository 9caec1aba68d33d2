package foreign

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/nftname"
)

func (l *look) finding(c *nftables.Chain, lost *loss, all bool) *Finding {
	what := "IPv4"
	if lost.family == unix.NFPROTO_IPV6 {
		what = "IPv6"
	}
	some := ""
	if !all { // not all interfaces or ports, or not after NAT
		some = "some "
	}
	by := ""
	if lost.wayBack {
		by = ", by a reverse path filter"
	}
	which := "captured packets"
	if lost.answersUs() {
		which = "packets"
	}
	return &Finding{
		Interface: lost.iif,
		Text: fmt.Sprintf("%s are lost: chain %s of table %s %s drops %s%s %s%s",
			which, c.Name, nftname.Family(c.Table.Family), c.Table.Name, some, what, lost.what, by),
		Fix: l.fix(c, lost),
		// IPv6 alone is not fatal: on many hosts nobody uses forwarded IPv6.
		Fatal: all && lost.family == unix.NFPROTO_IPV4,
	}
}

// match is a packet that a fix accepts.
type match struct {
	iif, oif   string // "": any
	mark, mask uint32 // 0: any mark
	tcp        bool   // TCP alone
}

// matches are what fixes must accept for captured packets to pass a chain of this hook.
// If an interface is not known there by name, they accept as little as possible.
func (l *look) matches(c *nftables.Chain, lost *loss) []match {
	if lost.answersUs() {
		return []match{{mark: l.ReturnMark, mask: l.Mask}}
	}
	var all []match
	for _, ifc := range l.Interfaces {
		in, out := match{iif: ifc, oif: l.TUN}, match{iif: l.TUN, oif: ifc}
		switch *c.Hooknum {
		case *nftables.ChainHookPrerouting:
			in.oif, out.oif = "", ""
			if lost.iif == l.TUN { // clients' packets pass, only the answers are dropped
				return []match{out}
			}
			if in.tcp = true; lost.byMark { // the packet has its mark there
				in.mark, in.mask, in.tcp = l.Mark, l.Mask, false
			}
		case *nftables.ChainHookPostrouting:
			in.iif, out.iif, out.tcp = "", "", true
		}
		all = append(all, in, out)
	}
	// Where only one interface is known, several matches from or to the TUN are equal.
	seen := map[match]bool{}
	return slices.DeleteFunc(all, func(m match) bool {
		twice := seen[m]
		seen[m] = true
		return twice
	})
}

// nft is a rule of nft(8) that accepts the packets.
func (m match) nft() string {
	var words []string
	if m.iif != "" {
		words = append(words, "iifname "+m.iif)
	}
	if m.oif != "" {
		words = append(words, "oifname "+m.oif)
	}
	if m.tcp {
		words = append(words, "meta l4proto tcp")
	}
	if m.mark != 0 {
		words = append(words, fmt.Sprintf("meta mark and %#x == %#x", m.mask, m.mark))
	}
	return strings.Join(append(words, "accept"), " ")
}

// iptables is a rule of iptables(8) that accepts the packets.
func (m match) iptables() string {
	var words []string
	if m.iif != "" {
		words = append(words, "-i "+m.iif)
	}
	if m.oif != "" {
		words = append(words, "-o "+m.oif)
	}
	if m.tcp {
		words = append(words, "-p tcp")
	}
	if m.mark != 0 {
		words = append(words, fmt.Sprintf("-m mark --mark %#x/%#x", m.mark, m.mask))
	}
	return strings.Join(append(words, "-j ACCEPT"), " ")
}

// fix is the command that lets captured packets through, for the program that has set the
// chain.
func (l *look) fix(c *nftables.Chain, lost *loss) string {
	has := func(names ...string) bool {
		return slices.ContainsFunc(l.chains, func(o *nftables.Chain) bool {
			return slices.Contains(names, o.Name) && o.Table.Name == c.Table.Name && o.Table.Family == c.Table.Family
		})
	}
	tables := "iptables"
	if lost.family == unix.NFPROTO_IPV6 {
		tables = "ip6tables"
	}
	matches := l.matches(c, lost)
	var lines []string
	each := func(line func(match) string) {
		for _, m := range matches {
			lines = append(lines, line(m))
		}
	}
	firewalld := c.Table.Name == "firewalld" || has("PREROUTING_ZONES") // the latter with its backend iptables
	switch forward := *c.Hooknum == *nftables.ChainHookForward; {
	case firewalld && lost.wayBack && lost.family == unix.NFPROTO_IPV6:
		lines = []string{
			"sed -i 's/^IPv6_rpfilter=.*/IPv6_rpfilter=no/' /etc/firewalld/firewalld.conf",
			"firewall-cmd --reload",
		}
	case forward && has("DOCKER-USER"):
		each(func(m match) string { return tables + " -I DOCKER-USER " + m.iptables() })
	case forward && has("ufw-before-forward", "ufw6-before-forward"):
		each(func(m match) string { return "ufw route allow in on " + m.iif + " out on " + m.oif })
	case forward && c.Table.Name == "firewalld":
		lines = []string{
			"firewall-cmd --permanent --new-zone=sslgate",
			"firewall-cmd --permanent --zone=sslgate --add-interface=" + l.TUN,
			"firewall-cmd --permanent --new-policy=to-sslgate",
			"firewall-cmd --permanent --policy=to-sslgate --add-ingress-zone=ANY",
			"firewall-cmd --permanent --policy=to-sslgate --add-egress-zone=sslgate",
			"firewall-cmd --permanent --policy=to-sslgate --set-target=ACCEPT",
			"firewall-cmd --reload",
		}
	case c.Table.Family != nftables.TableFamilyINet && xtables(c):
		each(func(m match) string {
			table := ""
			if c.Table.Name != "filter" {
				table = " -t " + c.Table.Name
			}
			return tables + table + " -I " + c.Name + " " + m.iptables()
		})
	default:
		each(func(m match) string {
			return "nft insert rule " + nftname.Family(c.Table.Family) + " " + c.Table.Name + " " + c.Name + " " + m.nft()
		})
	}
	return strings.Join(lines, "; ")
}

// xtables says whether a chain has the names that iptables gives.
func xtables(c *nftables.Chain) bool {
	return slices.Contains([]string{"filter", "mangle", "raw", "security"}, c.Table.Name) &&
		slices.Contains([]string{"PREROUTING", "FORWARD", "POSTROUTING"}, c.Name)
}
