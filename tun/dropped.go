package tun

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Every rule of ours that drops or rejects has a counter, and the reason as its comment
// (`nft list table inet sslgate` shows both). When the table is rewritten, the counters
// go on from their values.

// The reasons for which the guard drops. They are labels of a metric.
const (
	DropUncaptured     = "interface_not_captured"
	DropNotSteered     = "not_steered"
	DropFragment       = "fragment"
	DropPortChanged    = "destination_nat"
	DropSourceChanged  = "source_nat"
	DropQUIC           = "quic"
	DropProtocol       = "unknown_protocol"
	DropReversePath    = "reverse_path"
	DropClientAnswer   = "client_answer"
	DropLocal          = "local_delivery"
	DropOlder          = "older_connection"
	DropRedirect       = "redirect"
	DropLocalOut       = "local_out"
	uncapturedSet      = "uncaptured"
	uncapturedLocalSet = "uncaptured_local"
)

// An interface that is not captured but on which captured ports arrive is remembered for
// seenFor; maxSeen bounds how many are.
const (
	seenFor = 10 * time.Minute
	maxSeen = 64
)

// dropCause returns the usual cause of each reason, and what to do about it.
func dropCause(reason string) string {
	switch reason {
	case DropUncaptured:
		return "TCP to captured ports came in by an interface that is neither captured nor exempt: list it in capture.interfaces if clients come in there; if nobody should, nothing is to be done"
	case DropNotSteered:
		return "captured traffic did not go into the TUN: the gateway was not running, or an ip rule of somebody else came first (`sslgate doctor`)"
	case DropFragment:
		return "fragments that connection tracking did not put together: a notrack rule, a broken sender, or somebody who tries to hide a port"
	case DropPortChanged:
		return "a destination NAT of this host turned a captured port into one that is not captured: capture that port too"
	case DropSourceChanged:
		return "a source NAT of this host changed the client's address before the TUN: give the rule an outgoing interface (`sslgate doctor` names it)"
	case DropQUIC:
		return "UDP to captured ports was refused, so that clients fall back from QUIC to TCP (capture.quic)"
	case DropProtocol:
		return "an IP protocol, or a packet whose headers cannot be read, that is not forwarded uninspected: capture.protocols names those that may"
	case DropReversePath:
		return "new TCP from a captured port came in where the way back to its sender does not lead, or a client sent from an address of this host: a forged source, or asymmetric routing"
	case DropClientAnswer:
		return "answers to a connection under a client's address whose socket is gone"
	case DropLocal:
		return "connections to services of this host on captured ports, while no gateway captured them"
	case DropOlder:
		return "connections to services of this host that were there before the gateway; they were reset"
	case DropLocalOut:
		return "connections of programs of this host to captured ports did not go into the TUN: the gateway was not running, or a destination NAT of this host made a captured port of another one"
	case DropRedirect:
		return "ICMP redirects, which would lead clients, or this host, round the gateway: its own to captured interfaces, and those that neighbours send it or through it"
	}
	return ""
}

// DropReasons are all reasons for which the guard drops.
func DropReasons() []string {
	return []string{
		DropUncaptured, DropNotSteered, DropFragment, DropPortChanged, DropSourceChanged, DropQUIC, DropProtocol,
		DropReversePath, DropClientAnswer, DropLocal, DropOlder, DropRedirect, DropLocalOut,
	}
}

// Dropped is what the guard has dropped or rejected for one reason.
type Dropped struct {
	Reason  string // one of Drop...
	Packets uint64 // since the guard was first set
	Cause   string // the likely cause, and what to do
}

// Drops is what the guard of this host has counted and seen.
type Drops struct {
	// Counts has the reasons with at least one packet, sorted.
	Counts []Dropped
	// Uncaptured are the interfaces, neither captured nor exempt, on which connections
	// through this host to captured ports arrived within ten minutes; these were dropped.
	// UncapturedLocal are those on which connections to this host itself arrived; these
	// passed uninspected. Both are sorted.
	Uncaptured, UncapturedLocal []string
}

// Warnings describes the interfaces in sentences for the operator.
func (d *Drops) Warnings() []string {
	var all []string
	if len(d.Uncaptured) > 0 {
		all = append(all, fmt.Sprintf("captured ports arrive on %s, which is not captured: the guard drops them; list it in capture.interfaces if clients come in there; if nobody should, nothing is to be done", strings.Join(d.Uncaptured, ", ")))
	}
	if len(d.UncapturedLocal) > 0 {
		all = append(all, fmt.Sprintf("captured ports of this host itself arrive on %s, which is not captured: they are not inspected; list it in capture.interfaces, or in capture.exempt if that is meant", strings.Join(d.UncapturedLocal, ", ")))
	}
	return all
}

// drops adds a rule that counts and drops for this reason.
func (b *tableBuilder) drops(chain *nftables.Chain, reason string, parts ...[]expr.Any) {
	b.refuses(chain, reason, append(parts, drop())...)
}

// refuses adds a rule for this reason. Its parts must hold a counter and the verdict.
func (b *tableBuilder) refuses(chain *nftables.Chain, reason string, parts ...[]expr.Any) {
	b.lines++
	exprs := concat(parts...)
	for _, e := range exprs {
		if c, ok := e.(*expr.Counter); ok {
			c.Packets = b.counts[reason] // the first rule of the reason carries it on
			delete(b.counts, reason)
		}
	}
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: chain, Exprs: exprs,
		UserData: userdata.AppendString(nil, userdata.TypeComment, reason)})
}

// see adds the interface by which a packet came in to the set. It does not match once the
// set is full, so it must be a rule of its own.
func see(set *nftables.Set) []expr.Any {
	return concat(load(expr.MetaKeyIIFNAME), []expr.Any{
		&expr.Dynset{SrcRegKey: 1, SetID: set.ID, SetName: set.Name, Operation: uint32(unix.NFT_DYNSET_OP_UPDATE), Timeout: seenFor},
	})
}

// count adds to counts the packets that a rule of ours has counted.
func count(counts map[string]uint64, r *nftables.Rule) {
	reason, ok := userdata.GetString(r.UserData, userdata.TypeComment)
	if !ok || dropCause(reason) == "" {
		return
	}
	for _, e := range r.Exprs {
		if c, ok := e.(*expr.Counter); ok {
			counts[reason] += c.Packets
		}
	}
}

func newDrops(counts map[string]uint64, seen map[string][]string) Drops {
	d := Drops{Uncaptured: seen[uncapturedSet], UncapturedLocal: seen[uncapturedLocalSet]}
	for reason, n := range counts {
		if n > 0 {
			d.Counts = append(d.Counts, Dropped{reason, n, dropCause(reason)})
		}
	}
	slices.SortFunc(d.Counts, func(a, b Dropped) int { return cmp.Compare(a.Reason, b.Reason) })
	return d
}

// Drops is what the guard has dropped, as Watch saw it last, at most a second ago.
func (s *Steering) Drops() Drops {
	s.mu.Lock()
	defer s.mu.Unlock()
	return newDrops(s.counts, s.seen)
}

// ReadDrops reads the drops from the guard of the caller's network namespace, whichever
// process has set it. False if there is no guard.
func ReadDrops() (Drops, bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return Drops{}, false, fmt.Errorf("open nftables: %w", err)
	}
	s := &Steering{nft: conn}
	text, err := s.listTable()
	if err != nil {
		return Drops{}, false, fmt.Errorf("read the nft table inet %s: %w", tableName, err)
	}
	return newDrops(s.counts, s.seen), text != "", nil
}

// interfaceNames are the keys of a set of type ifname that are valid interface names;
// sorted.
func interfaceNames(keys [][]byte) []string {
	var names []string
	for _, k := range keys {
		name := strings.TrimRight(string(k), "\x00")
		if checkName(name) == nil && len(names) < 4*maxInterfaces {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// logDropsEvery is the least time between two log lines about the same reason.
const logDropsEvery = 10 * time.Minute

// noteDrops logs that the guard has begun to drop for a reason that an operator can act
// on, and on which interfaces that are not captured the captured ports arrive.
func (s *Steering) noteDrops(now time.Time) {
	for reason, t := range s.told {
		if s.counts[reason] < t.packets { // somebody has reset the counter
			s.told[reason] = told{0, t.at}
		}
	}
	for _, d := range newDrops(s.counts, nil).Counts {
		if d.Packets == s.told[d.Reason].packets {
			continue
		}
		switch d.Reason {
		case DropQUIC, DropRedirect, DropOlder, DropClientAnswer:
			continue // these drops are what the configuration asks for
		}
		if last := s.told[d.Reason]; !last.at.IsZero() && now.Sub(last.at) < logDropsEvery {
			continue
		}
		s.log.Warn("the guard drops packets", zap.String("reason", d.Reason), zap.Uint64("packets", d.Packets-s.told[d.Reason].packets), zap.String("cause", d.Cause))
		s.told[d.Reason] = told{d.Packets, now}
	}
	seen := newDrops(nil, s.seen)
	warnings := seen.Warnings()
	for _, w := range warnings {
		if !slices.Contains(s.warned, w) {
			s.log.Warn("captured ports arrive where nothing is captured", zap.String("what", w))
		}
	}
	s.warned = warnings
}

// seedTold marks what an earlier process's guard has counted as logged already: the
// counters outlive the process.
func (s *Steering) seedTold() {
	for reason, n := range s.counts {
		s.told[reason] = told{packets: n}
	}
}

// told is what was logged about a reason.
type told struct {
	packets uint64
	at      time.Time
}

// readSet reads the names in a set of interfaces; none if it is not there.
func (s *Steering) readSet(t *nftables.Table, name string) ([]string, error) {
	set, err := s.nft.GetSetByName(t, name)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	elems, err := s.nft.GetSetElements(set)
	if err != nil {
		return nil, err
	}
	return interfaceNames(keysOf(elems)), nil
}

func keysOf(elems []nftables.SetElement) [][]byte {
	keys := make([][]byte, len(elems))
	for i, e := range elems {
		keys[i] = e.Key
	}
	return keys
}
