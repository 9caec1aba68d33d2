package tun

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Chains of others in the forward hook (Docker, ufw, firewalld, whoever) may drop what
// goes from a captured interface into the TUN, or the answers: then every client waits
// for nothing. Whether they do is found by walking their rules with such a packet as far
// as it is known (nftwalk.go). What depends on something that is not known, an address for
// instance, is no finding: only what is certain is said.

// maxForeignRules bounds how many rules of others are read, and maxForeignSteps how many
// rules and expressions all walks of one look evaluate, a fifth of a second or so. Where
// there is more, a chain that is found to drop may let something else through.
const (
	maxForeignRules = 20000
	maxForeignSteps = 2_000_000
)

// foreignPath is one look at the chains.
type foreignPath struct {
	conn   *nftables.Conn
	reader *ruleReader
	cfg    *SteerConfig
	own    []string // own names of the captured interfaces
	ipv6   bool
	nat    bool // others have rules for NAT
	chains []*nftables.Chain
	read   int // rules
	left   int // of maxForeignSteps
	rules  map[string][][]expr.Any
	sets   map[string]*setContent
}

// errTooMany rules of others.
var errTooMany = errors.New("too many rules")

// forwardTroubles names the chains that surely drop captured packets. captured are own
// names; ipv6 says whether this host forwards that.
func forwardTroubles(conn *nftables.Conn, reader *ruleReader, cfg *SteerConfig, captured []string, ipv6 bool) ([]Trouble, error) {
	chains, err := activeChains(conn)
	if err != nil {
		return nil, err
	}
	p := &foreignPath{conn: conn, reader: reader, cfg: cfg, own: captured, ipv6: ipv6, chains: chains, left: maxForeignSteps,
		rules: map[string][][]expr.Any{}, sets: map[string]*setContent{}}
	p.nat = p.mayNAT()
	var all []Trouble
	for _, c := range chains {
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || Ours(c.Table) {
			continue
		}
		for _, family := range familiesOf(c.Table.Family) {
			if family == unix.NFPROTO_IPV6 && !p.ipv6 {
				continue
			}
			t, err := p.look(c, family)
			if err != nil && !errors.Is(err, errTooMany) {
				return nil, err
			}
			if t != nil {
				all = append(all, *t)
				break
			}
		}
	}
	return all, nil
}

// activeChains are all but those of dormant tables (NFT_TABLE_F_DORMANT of
// linux/netfilter/nf_tables.h), which no packet meets.
func activeChains(conn *nftables.Conn) ([]*nftables.Chain, error) {
	// The flags come in network order, and the library takes them as they are.
	const dormant = unix.NFT_TABLE_F_DORMANT | unix.NFT_TABLE_F_DORMANT<<24
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list the tables of nftables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the chains of nftables: %w", err)
	}
	return slices.DeleteFunc(chains, func(c *nftables.Chain) bool {
		return slices.ContainsFunc(tables, func(t *nftables.Table) bool {
			return t.Name == c.Table.Name && t.Family == c.Table.Family && t.Flags&dormant != 0
		})
	}), nil
}

// mayNAT says whether somebody else has rules for NAT. Those that cannot be read count.
func (p *foreignPath) mayNAT() bool {
	return slices.ContainsFunc(p.chains, func(c *nftables.Chain) bool {
		if c.Type != nftables.ChainTypeNAT || c.Hooknum == nil || Ours(c.Table) {
			return false
		}
		rules, err := p.rulesOf(c.Table, c.Name)
		return err != nil || len(rules) > 0
	})
}

// CheckForwardPolicy is forwardTroubles of the caller's network namespace.
func CheckForwardPolicy(cfg SteerConfig) ([]Trouble, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	reader, err := openRules()
	if err != nil {
		return nil, err
	}
	defer reader.close()
	return forwardTroubles(conn, reader, &cfg, OwnNames(cfg.Interfaces...), isSet("ipv6/conf/all/forwarding"))
}

// Ours says whether a table is sslgate's.
func Ours(t *nftables.Table) bool {
	return t.Name == tableName && t.Family == nftables.TableFamilyINet
}

// familiesOf packets that come to a table.
func familiesOf(f nftables.TableFamily) []byte {
	switch f {
	case nftables.TableFamilyIPv4:
		return []byte{unix.NFPROTO_IPV4}
	case nftables.TableFamilyIPv6:
		return []byte{unix.NFPROTO_IPV6}
	case nftables.TableFamilyINet:
		return []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}
	}
	return nil
}

// look walks a base chain with what a client begins, and with the answers, by each
// captured interface and port. A chain that drops some of them may be meant so; it is
// fatal where it drops all, whatever NAT does.
func (p *foreignPath) look(c *nftables.Chain, family byte) (*Trouble, error) {
	ports := p.cfg.Ports
	switch {
	case p.cfg.AllPorts:
		ports = []uint16{0} // 0: not known
	case len(ports) > 8: // each is a walk; the 0 stands for the others
		ports = append(slices.Clone(ports[:8]), 0)
	}
	var first *path
	all := true
	for _, ifc := range p.own {
		for _, port := range ports {
			lost, surely, err := p.lost(c, family, ifc, port)
			if errors.Is(err, errTooMany) && first != nil {
				return p.trouble(c, family, first, false), nil
			}
			if err != nil {
				return nil, err
			}
			if first == nil {
				first = lost
			}
			all = all && surely
		}
	}
	if first == nil {
		return nil, nil
	}
	return p.trouble(c, family, first, all), nil
}

// lost is the packet by this interface and port that the chain drops if there is no
// NAT, or nil, and whether one is dropped with any NAT too.
func (p *foreignPath) lost(c *nftables.Chain, family byte, ifc string, port uint16) (lost *path, surely bool, err error) {
	in := path{family: family, iif: ifc, oif: p.cfg.TUN, dport: port, state: expr.CtStateBitNEW}
	back := path{family: family, iif: p.cfg.TUN, oif: ifc, sport: port, state: expr.CtStateBitESTABLISHED, reply: true}
	for _, packet := range []path{in, back} {
		is, err := p.drops(c, packet)
		if err != nil {
			return nil, false, err
		}
		if !is {
			continue
		}
		if lost == nil {
			lost = &packet
		}
		if surely = !p.nat; p.nat {
			packet.nat = true
			if surely, err = p.drops(c, packet); err != nil {
				return lost, false, ignoreTooMany(err)
			}
		}
		if surely {
			break
		}
	}
	return lost, surely, nil
}

// ignoreTooMany: what is not walked to its end is not sure, and no error.
func ignoreTooMany(err error) error {
	if errors.Is(err, errTooMany) {
		return nil
	}
	return err
}

// drops says whether the chain surely drops the packet.
func (p *foreignPath) drops(c *nftables.Chain, packet path) (bool, error) {
	w := &walk{from: p, packet: &packet, table: c.Table, done: map[string]outcome{}, regs: map[uint32][]byte{}}
	got, err := w.base(c)
	return got == dropped, err
}

func (p *foreignPath) trouble(c *nftables.Chain, family byte, packet *path, all bool) *Trouble {
	what := "IPv4"
	if family == unix.NFPROTO_IPV6 {
		what = "IPv6"
	}
	some := ""
	if !all { // some interfaces or ports, or but for what has been through a NAT
		some = "some "
	}
	return &Trouble{
		Interface: packet.iif,
		Text: fmt.Sprintf("captured packets are lost: chain %s of table %s %s drops %s%s from %s to %s",
			c.Name, FamilyName(c.Table.Family), c.Table.Name, some, what, packet.iif, packet.oif),
		Fix: p.fix(c, family),
		// Many hosts forward no IPv6 that anybody uses.
		Fatal: all && family == unix.NFPROTO_IPV4,
	}
}

// FamilyName is the word of nft(8) for a table's family.
func FamilyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyBridge:
		return "bridge"
	case nftables.TableFamilyARP:
		return "arp"
	case nftables.TableFamilyNetdev:
		return "netdev"
	}
	return fmt.Sprint(f)
}

// fix is the command that lets captured packets through, in the words of whoever has
// set the chain.
func (p *foreignPath) fix(c *nftables.Chain, family byte) string {
	has := func(name string) bool {
		return slices.ContainsFunc(p.chains, func(o *nftables.Chain) bool {
			return o.Name == name && o.Table.Name == c.Table.Name && o.Table.Family == c.Table.Family
		})
	}
	tables := "iptables"
	if family == unix.NFPROTO_IPV6 {
		tables = "ip6tables"
	}
	tun := p.cfg.TUN
	var lines []string
	each := func(format string) {
		for _, ifc := range p.own {
			for _, d := range [][2]string{{ifc, tun}, {tun, ifc}} {
				lines = append(lines, fmt.Sprintf(format, d[0], d[1]))
			}
		}
	}
	switch {
	case has("DOCKER-USER"):
		each(tables + " -I DOCKER-USER -i %s -o %s -j ACCEPT")
	case has("ufw-before-forward"), has("ufw6-before-forward"):
		each("ufw route allow in on %s out on %s")
	case c.Table.Name == "firewalld":
		lines = []string{
			"firewall-cmd --permanent --new-zone=sslgate",
			"firewall-cmd --permanent --zone=sslgate --add-interface=" + tun,
			"firewall-cmd --permanent --new-policy=to-sslgate",
			"firewall-cmd --permanent --policy=to-sslgate --add-ingress-zone=ANY",
			"firewall-cmd --permanent --policy=to-sslgate --add-egress-zone=sslgate",
			"firewall-cmd --permanent --policy=to-sslgate --set-target=ACCEPT",
			"firewall-cmd --reload",
		}
	case c.Table.Name == "filter" && c.Name == "FORWARD" && c.Table.Family != nftables.TableFamilyINet:
		each(tables + " -I FORWARD -i %s -o %s -j ACCEPT")
	default:
		each("nft insert rule " + FamilyName(c.Table.Family) + " " + c.Table.Name + " " + c.Name + " iifname %s oifname %s accept")
	}
	return strings.Join(lines, "; ")
}
