// Package foreign looks at the nftables chains of other programs (Docker, ufw, firewalld,
// whoever) for what surely drops captured packets. A chain on the way may drop
// what goes from a captured interface into the TUN, or the answers: then every client waits
// for nothing. Whether it does is found by walking its rules with such a packet as far
// as it is known (packet.go, walk.go). What depends on something that is not known, an address
// for instance, is no finding: only what is certain is said.
//
// Reverse path filters are known. One that asks for the interface drops what comes from the
// TUN, for the way to its source, a destination, leads elsewhere; and one that asks with the
// packet's mark too drops what is captured, for the mark leads into the TUN.
package foreign

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// maxRules bounds how many rules of others are read, and maxSteps how many
// rules and expressions all walks of one look evaluate, a fifth of a second or so. Where
// there is more, a chain that is found to drop may let something else through.
const (
	maxRules = 20000
	maxSteps = 2_000_000
)

// Capture says which packets are captured, and where they go.
type Capture struct {
	TUN        string
	Interfaces []string // own names of the captured ones
	Ports      []uint16 // captured, of TCP, unless AllPorts
	AllPorts   bool
	IPv6       bool // this host forwards that
	Local      bool // what is delivered to this host itself is captured too
	// Mark of captured packets under Mask, which they have behind the chains of priority Steer
	// of the prerouting hook, and ReturnMark of answers to connections under a client's
	// address; 0: there are none.
	Mark, Mask, ReturnMark uint32
	Steer                  nftables.ChainPriority
	// Ours tells our own tables, which are left out.
	Ours func(*nftables.Table) bool
}

// Finding is a chain that surely drops captured packets, of the interface first found.
type Finding struct {
	Interface string
	Text      string
	Fix       string // shell commands in the words of whoever has set the chain
	Fatal     bool   // all of IPv4 is lost
}

// Reader has the sockets to read what is in nftables. It is not for two goroutines at once.
type Reader struct {
	conn  *nftables.Conn
	rules *ruleReader
}

// Open opens a reader in the network namespace of the calling thread; it stays there.
func Open() (*Reader, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	rules, err := openRules()
	if err != nil {
		_ = conn.CloseLasting()
		return nil, err
	}
	return &Reader{conn: conn, rules: rules}, nil
}

// Close gives the sockets back.
func (r *Reader) Close() {
	_ = r.conn.CloseLasting()
	r.rules.close()
}

// look is one look at the chains.
type look struct {
	*Reader
	*Capture
	nat    bool // others have rules for NAT
	chains []*nftables.Chain
	read   int // rules
	left   int // of maxSteps
	known  map[string][][]expr.Any
	sets   map[string]*setContent
}

// errTooMany rules of others.
var errTooMany = errors.New("too many rules")

// Losses names the chains that surely drop captured packets.
func (r *Reader) Losses(capture *Capture) ([]Finding, error) {
	chains, err := activeChains(r.conn)
	if err != nil {
		return nil, err
	}
	l := &look{Reader: r, Capture: capture, chains: chains, left: maxSteps,
		known: map[string][][]expr.Any{}, sets: map[string]*setContent{}}
	l.nat = l.mayNAT()
	var all []Finding
	for _, c := range chains {
		if !meets(c) || l.Ours(c.Table) {
			continue
		}
		for _, family := range familiesOf(c.Table.Family) {
			if family == unix.NFPROTO_IPV6 && !l.IPv6 {
				continue
			}
			t, err := l.chain(c, family)
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

// meets says whether captured packets that are forwarded come to a base chain, each of them.
// Those for NAT see the first packet of a connection alone, and change it.
func meets(c *nftables.Chain) bool {
	if c.Hooknum == nil || c.Type != nftables.ChainTypeFilter {
		return false
	}
	switch *c.Hooknum {
	case *nftables.ChainHookPrerouting, *nftables.ChainHookForward, *nftables.ChainHookPostrouting:
		return true
	}
	return false
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
func (l *look) mayNAT() bool {
	return slices.ContainsFunc(l.chains, func(c *nftables.Chain) bool {
		if c.Type != nftables.ChainTypeNAT || c.Hooknum == nil || l.Ours(c.Table) {
			return false
		}
		rules, err := l.rulesOf(c.Table, c.Name)
		return err != nil || len(rules) > 0
	})
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

// chain walks a base chain with what a client begins, and with the answers, by each
// captured interface and port. A chain that drops some of them may be meant so; it is
// fatal where it drops all, whatever NAT does.
func (l *look) chain(c *nftables.Chain, family byte) (*Finding, error) {
	ports := l.Ports
	switch {
	case l.AllPorts:
		ports = []uint16{0} // 0: not known
	case len(ports) > 8: // each is a walk; the 0 stands for the others
		ports = append(slices.Clone(ports[:8]), 0)
	}
	var first *loss
	all := true
	for _, ifc := range l.Interfaces {
		for _, port := range ports {
			lost, surely, err := l.lost(c, l.pair(c, family, ifc, port))
			if errors.Is(err, errTooMany) && first != nil {
				return l.finding(c, first, false), nil
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
		all = false
		var err error
		if first, _, err = l.lost(c, l.others(c, family, ports)); first == nil {
			return nil, err
		}
	}
	return l.finding(c, first, all), nil
}

// loss is a packet that a chain drops.
type loss struct {
	path
	wayBack bool // a look-up of the way back decided
}

// lost is the first of the packets that the chain drops if there is no
// NAT, or nil, and whether one is dropped with any NAT too.
func (l *look) lost(c *nftables.Chain, packets []path) (lost *loss, surely bool, err error) {
	for _, packet := range packets {
		is, wayBack, err := l.drops(c, &packet)
		if err != nil {
			return nil, false, err
		}
		if !is {
			continue
		}
		if lost == nil {
			lost = &loss{packet, wayBack}
		}
		if surely = !l.nat; l.nat {
			packet.nat = true
			if surely, _, err = l.drops(c, &packet); err != nil {
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

// drops says whether the chain surely drops the packet, and whether it looked the
// way back up for that.
func (l *look) drops(c *nftables.Chain, packet *path) (is, wayBack bool, err error) {
	w := &walk{from: l, packet: packet, table: c.Table, done: map[string]outcome{}, regs: map[uint32][]byte{}}
	got, err := w.base(c)
	return got == dropped, w.wayBack, err
}
