// Package foreign checks the nftables chains of other programs (Docker, ufw, firewalld,
// any) for what surely drops captured packets. A chain may drop what goes from a captured
// interface into the TUN, or the answers: then every client waits for nothing. To find
// out, the package walks the chain's rules with such a packet, as far as its properties
// are known (packet.go, walk.go). Where a drop depends on something unknown, for instance
// an address, there is no finding: only what is certain is reported.
//
// Reverse path filters are understood. A filter that asks for the interface drops what
// comes from the TUN, because the way to its source, a destination, leads elsewhere. A
// filter that also asks with the packet's mark drops what is captured, because the mark
// leads into the TUN.
//
// Rules behind our marking that set the mark anew are found too (marks.go), and rules that
// take the pins away by which two gateways keep their connections apart (pins.go).
package foreign

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// maxRules bounds how many rules of others are read. maxSteps bounds how many rules and
// expressions all walks of one look evaluate, about a fifth of a second. Beyond these
// bounds a chain that is found to drop may let other packets through, and one that drops may
// not be found: a look says whether it came to its end.
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
	IPv6       bool // this host forwards IPv6
	Local      bool // packets to this host itself are captured too
	// Mark is the mark under Mask that captured packets have behind the prerouting chains
	// of priority Steer. ReturnMark is the mark of answers to connections under a
	// client's address; 0 if there are none.
	Mark, Mask, ReturnMark uint32
	Steer                  nftables.ChainPriority
	// SocketMark is the mark of the sockets of connections under a client's address, 0 if
	// there are none. The output chain of priority Zone gives them their zone by it.
	SocketMark uint32
	Zone       nftables.ChainPriority
	// OwnMark is the mark of sslgate's other sockets where connections of this host's
	// programs are captured; 0 where they are not.
	OwnMark uint32
	// CTMask has the bits of the connection's mark that say which of two gateways it belongs
	// to. Gateways are the two, as they mark and pin; nil if there can be one only.
	CTMask   uint32
	Gateways []Gateway
	// ByPort says that captured packets are routed into the TUN without their mark too,
	// by interface and port.
	ByPort bool
	// Ours says whether a table is our own; those are left out.
	Ours func(*nftables.Table) bool
}

// Finding is a chain that surely drops captured packets, or leads them elsewhere, with
// the interface for which it was found first.
type Finding struct {
	Interface string
	Text      string
	Fix       string // shell commands of the program that has set the chain
	Fatal     bool   // all of IPv4 is lost
}

// Reader has the sockets to read nftables. Only one goroutine at a time may use it.
type Reader struct {
	conn         *nftables.Conn
	rules        *ruleReader
	most, effort int // maxRules and maxSteps
}

// Open opens a reader in the network namespace of the calling thread; the reader stays in
// that namespace.
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
	return &Reader{conn: conn, rules: rules, most: maxRules, effort: maxSteps}, nil
}

// Close closes the sockets.
func (r *Reader) Close() {
	_ = r.conn.CloseLasting()
	r.rules.close()
}

// look is the state of one pass over the chains.
type look struct {
	*Reader
	*Capture
	nat    bool // others have rules for NAT
	chains []*nftables.Chain
	read   int  // rules so far
	left   int  // what is left of maxSteps
	pins   int  // the same, for walks that look for pins
	short  bool // a bound was reached
	known  map[string][]rule
	sets   map[string]*setContent
}

// errTooMany is returned when others have more rules than maxRules, or walks take more
// than maxSteps.
var errTooMany = errors.New("too many rules")

// Losses names the chains that surely drop captured packets, set their mark anew, or take
// their pins away. whole says that all rules were looked at: there were not more than the
// bounds allow.
func (r *Reader) Losses(capture *Capture) (found []Finding, whole bool, err error) {
	return r.look(capture, (*look).found)
}

// Unpinned names the chains that surely take away the pins of captured connections.
func (r *Reader) Unpinned(capture *Capture) ([]Finding, error) {
	found, _, err := r.look(capture, func(l *look, c *nftables.Chain) (*Finding, error) {
		if !l.mayUnpin(c) {
			return nil, nil
		}
		return l.first(c, []func(*nftables.Chain, byte) (*Finding, error){l.unpins})
	})
	return found, err
}

func (r *Reader) look(capture *Capture, at func(*look, *nftables.Chain) (*Finding, error)) (all []Finding, whole bool, err error) {
	chains, err := activeChains(r.conn)
	if err != nil {
		return nil, false, err
	}
	l := &look{Reader: r, Capture: capture, chains: chains, left: r.effort, pins: r.effort,
		known: map[string][]rule{}, sets: map[string]*setContent{}}
	l.nat = l.mayNAT()
	for _, c := range chains {
		if l.Ours(c.Table) {
			continue
		}
		found, err := at(l, c)
		if err != nil && !errors.Is(err, errTooMany) {
			return nil, false, err
		}
		if found != nil {
			all = append(all, *found)
		}
	}
	return all, !l.short, nil
}

// found is the first finding about a chain, if there is one.
func (l *look) found(c *nftables.Chain) (*Finding, error) {
	looks := []func(*nftables.Chain, byte) (*Finding, error){}
	if meets(c) {
		looks = append(looks, l.chain)
	}
	if l.marks(c) {
		looks = append(looks, l.remarks)
	}
	if sends(c) {
		looks = append(looks, l.sentMarks)
	}
	if l.mayUnpin(c) {
		looks = append(looks, l.unpins)
	}
	return l.first(c, looks)
}

// first is the first finding of these looks at a chain.
func (l *look) first(c *nftables.Chain, looks []func(*nftables.Chain, byte) (*Finding, error)) (*Finding, error) {
	for _, family := range familiesOf(c.Table.Family) {
		if family == unix.NFPROTO_IPV6 && !l.IPv6 {
			continue
		}
		for _, look := range looks {
			if found, err := look(c, family); found != nil || err != nil && !errors.Is(err, errTooMany) {
				return found, err
			}
		}
	}
	return nil, nil
}

// meets says whether every forwarded captured packet comes to a base chain. NAT chains
// see only the first packet of a connection, and change it.
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

// activeChains are all chains but those of dormant tables (NFT_TABLE_F_DORMANT of
// linux/netfilter/nf_tables.h), which no packet meets.
func activeChains(conn *nftables.Conn) ([]*nftables.Chain, error) {
	// The flags come in network order, and the library does not convert them.
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

// mayNAT says whether another program has NAT rules. Rules that cannot be read count.
func (l *look) mayNAT() bool {
	return slices.ContainsFunc(l.chains, func(c *nftables.Chain) bool {
		if c.Type != nftables.ChainTypeNAT || c.Hooknum == nil || l.Ours(c.Table) {
			return false
		}
		rules, err := l.rulesOf(c.Table, c.Name)
		return err != nil || len(rules) > 0
	})
}

// familiesOf returns the families of the packets that come to a table.
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

// chain walks a base chain with a client's first packet and with the answers, for each
// captured interface and port. A chain that drops some of them may be meant to. It is
// fatal if it drops all, whatever NAT does.
func (l *look) chain(c *nftables.Chain, family byte) (*Finding, error) {
	ports := l.walked()
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

// walked are the ports whose packets are walked; 0 is a port that is not known.
func (l *look) walked() []uint16 {
	switch {
	case l.AllPorts:
		return []uint16{0}
	case len(l.Ports) > 8: // each port is a walk; the 0 stands for the other ports
		return append(slices.Clone(l.Ports[:8]), 0)
	}
	return l.Ports
}

// loss is a packet that a chain drops.
type loss struct {
	path
	wayBack bool // a look-up of the way back decided it
}

// lost is the first of the packets that the chain drops if there is no NAT, or nil.
// surely says whether one is dropped whatever NAT does.
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

// ignoreTooMany makes errTooMany no error: a walk that was cut short only means that the
// result is not sure.
func ignoreTooMany(err error) error {
	if errors.Is(err, errTooMany) {
		return nil
	}
	return err
}

// drops says whether the chain surely drops the packet, and whether that depended on
// looking up the way back.
func (l *look) drops(c *nftables.Chain, packet *path) (is, wayBack bool, err error) {
	w := l.walk(c, packet)
	got, err := w.base(c)
	return got == dropped, w.wayBack, err
}
