package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/nftname"
)

// tableName of our nft table, of family inet. Everything in it is ours.
const tableName = "sslgate"

// Ours says whether a table is sslgate's.
func Ours(t *nftables.Table) bool {
	return t.Name == tableName && t.Family == nftables.TableFamilyINet
}

// Priorities of our chains. Steering comes after the mangle chains of others (-150), so
// that our mark replaces theirs, and before destination NAT (-100), which changes ports.
// The guard comes before the filter chains of others (0), which may put a flow into a
// flowtable, past the guard.
const (
	steerPriority = -140
	guardPriority = -10
)

// writeTable replaces the table of our name by ours in one transaction: a packet meets
// either the old table or the new one. Without steer it writes only the guard.
func (s *Steering) writeTable(steer bool) error {
	err := s.tryTable(steer)
	if steer && !s.cfg.ClientSource && !s.noNAT && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP)) {
		s.noNAT = true
		if again := s.tryTable(steer); again != nil {
			s.noNAT = false
			return err
		}
		s.log.Warn("the kernel has no NAT for nftables: where a rule of this host would change the source of captured packets they are dropped",
			zap.String("fix", "modprobe -a nft_chain_nat nft_nat"))
		return nil
	}
	return err
}

func (s *Steering) tryTable(steer bool) error {
	at, err := s.lookAtInterfaces()
	if err != nil {
		return err
	}
	if _, err := s.listTable(); err != nil { // only for its counters
		s.log.Debug("the counters of the guard begin anew", zap.Error(err))
	}
	b := s.builder(s.nft)
	b.conn.AddTable(b.table) // so that there is one to delete
	b.conn.DelTable(b.table)
	b.conn.AddTable(b.table)
	if err := b.sets(&at); err != nil {
		return err
	}
	b.chainsOfTwo()
	b.steer(steer)
	if steer {
		b.mss()
		b.tooBig()
		b.keepSource(!s.noNAT)
		if s.cfg.ClientSource {
			b.source()
		}
		if s.cfg.Out != nil {
			b.out()
		}
	}
	if s.cfg.Out != nil {
		b.outGuard()
	}
	b.guard()
	b.noRedirects()
	b.outgoing()
	b.local()
	if err := b.conn.Flush(); err != nil {
		return fmt.Errorf("write the nft table inet %s: %w%s", tableName, err, nftHint(err))
	}
	s.at = at
	s.noteInterfaces()
	if s.written, err = s.listTable(); err != nil {
		return fmt.Errorf("read the nft table inet %s back: %w", tableName, err)
	}
	if !b.made(s.written) {
		s.written = "" // somebody changed it meanwhile: the next check writes it again
	}
	return nil
}

// tableBuffer gives the netlink socket room for the kernel's answers: to a whole table it
// sends all of them, an echo of each rule, before the first is read, and what does not fit
// makes an error of a table that was written (ENOBUFS). A rule takes about 2 KiB of 4 MiB.
func tableBuffer[C interface{ SetReadBuffer(int) error }](socket C) error {
	return socket.SetReadBuffer(4 << 20)
}

// removeTable deletes our table if there is one.
func (s *Steering) removeTable() error {
	t := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	s.nft.AddTable(t) // so that there is one to delete
	s.nft.DelTable(t)
	if err := s.nft.Flush(); err != nil {
		return fmt.Errorf("delete the nft table inet %s: %w%s", tableName, err, nftHint(err))
	}
	return nil
}

func nftHint(err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return ": CAP_NET_ADMIN is missing: run as root"
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.ENOENT):
		return ": the kernel lacks a part of nftables: `modprobe -a nf_tables nft_ct nft_fib_inet nft_reject_inet`, and for `source: client` `modprobe -a nft_socket nft_chain_nat nft_nat`"
	}
	return ""
}

// tableBuilder queues the parts of the table on conn.
type tableBuilder struct {
	cfg   *SteerConfig
	conn  *nftables.Conn
	table *nftables.Table

	ports, names, indexes, exempt, protocols, except, gro, redirects, owner, uncaptured, uncapturedLocal *nftables.Set

	outPorts, outUsers, outGroups, outExcept *nftables.Set // of SteerConfig.Out

	beside    bool            // the other gateway has connections that are pinned to it
	send, pin *nftables.Chain // lead packets into the TUN

	turned, quiet []string          // interfaces for groSet and redirectsSet
	counts        map[string]uint64 // drops so far, by reason; an entry is removed once a rule continues it
	missing       bool              // a captured interface does not exist

	lines int      // sets, chains and rules: listTable gives each a line
	full  []string // the lines of the sets
}

func (s *Steering) builder(conn *nftables.Conn) *tableBuilder {
	return &tableBuilder{cfg: &s.cfg, conn: conn, beside: s.beside, turned: s.gro, quiet: s.redirects, counts: maps.Clone(s.counts), table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}}
}

// made says whether a listing can be that of the table just built: it has as many lines,
// and its sets have the captured interfaces, ports and so on.
func (b *tableBuilder) made(listing string) bool {
	for _, line := range b.full {
		if !strings.Contains(listing, line) {
			return false
		}
	}
	return strings.Count(listing, "\n") == b.lines+1
}

// setDef is a set to be made.
type setDef struct {
	at    **nftables.Set
	name  string
	kind  nftables.SetDatatype
	order binaryutil.ByteOrder
	keys  [][]byte
	// optional: the set is left out if it would be empty.
	optional bool
	// seen: rules add elements to the set, which expire.
	seen bool
}

// keys converts values to the bytes that nft compares.
func keys[T any](values []T, bytes func(T) []byte) [][]byte {
	all := make([][]byte, len(values))
	for i, v := range values {
		all[i] = bytes(v)
	}
	return all
}

func (b *tableBuilder) sets(at *interfaces) error {
	b.missing = at.missing
	port := func(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
	index := func(i int) []byte { return native32(uint32(i)) }
	number := func(p uint8) []byte { return []byte{p} }
	names := func(at **nftables.Set, name string, names []string) setDef {
		return setDef{at: at, name: name, kind: nftables.TypeIFName, order: binaryutil.NativeEndian, keys: keys(names, nftname.Interface)}
	}
	optional := func(d setDef) setDef { d.optional = true; return d }
	seen := func(d setDef) setDef { d.seen = true; return d }
	out := b.cfg.Out
	if out == nil {
		out = &Outgoing{}
	}
	for i, def := range []setDef{
		{at: &b.ports, name: "ports", kind: nftables.TypeInetService, order: binaryutil.BigEndian, keys: keys(b.cfg.Ports, port)},
		names(&b.names, "captured", at.names),
		{at: &b.indexes, name: "captured_index", kind: nftables.TypeIFIndex, order: binaryutil.NativeEndian, keys: keys(at.indexes, index)},
		names(&b.exempt, "exempt", at.exempt),
		{at: &b.protocols, name: "protocols", kind: nftables.TypeInetProto, order: binaryutil.NativeEndian, keys: keys(b.cfg.Protocols, number)},
		{at: &b.except, name: "except_ports", kind: nftables.TypeInetService, order: binaryutil.BigEndian, keys: keys(b.cfg.ExceptPorts, port)},
		optional(names(&b.gro, groSet, b.turned)),
		optional(names(&b.redirects, redirectsSet, b.quiet)),
		optional(setDef{at: &b.outPorts, name: "out_ports", kind: nftables.TypeInetService, order: binaryutil.BigEndian, keys: keys(out.Ports, port)}),
		optional(setDef{at: &b.outUsers, name: "out_users", kind: nftables.TypeUID, order: binaryutil.NativeEndian, keys: keys(out.Users, native32)}),
		optional(setDef{at: &b.outGroups, name: "out_groups", kind: nftables.TypeGID, order: binaryutil.NativeEndian, keys: keys(out.Groups, native32)}),
		optional(setDef{at: &b.outExcept, name: "out_except", kind: nftables.TypeUID, order: binaryutil.NativeEndian, keys: keys(out.ExceptUsers, native32)}),
		names(&b.owner, ownerSet, []string{b.cfg.TUN}),
		seen(names(&b.uncaptured, uncapturedSet, nil)),
		seen(names(&b.uncapturedLocal, uncapturedLocalSet, nil)),
	} {
		if def.optional && len(def.keys) == 0 {
			continue
		}
		// The ID is set because the library would take it from a global counter without a
		// lock.
		if err := b.set(uint32(i+1), &def); err != nil {
			return fmt.Errorf("nft set %s: %w", def.name, err)
		}
	}
	return nil
}

func (b *tableBuilder) set(id uint32, def *setDef) error {
	set := &nftables.Set{Table: b.table, ID: id, Name: def.name, KeyType: def.kind, KeyByteOrder: def.order}
	if def.seen {
		set.Dynamic, set.HasTimeout, set.Timeout, set.Size = true, true, seenFor, maxSeen
	}
	if err := b.conn.AddSet(set, nil); err != nil {
		return err
	}
	b.lines++
	b.full = append(b.full, setLine(def.name, def.keys))
	// At most 1000 elements of at most 40 bytes, because an attribute holds 65535 bytes.
	for keys := range slices.Chunk(def.keys, 1000) {
		elems := make([]nftables.SetElement, len(keys))
		for j, k := range keys {
			elems[j].Key = k
		}
		if err := b.conn.SetAddElements(set, elems); err != nil {
			return err
		}
	}
	*def.at = set
	return nil
}

// steer builds the chain that marks. It exists with the guard alone too, so that marked
// packets are dropped even if a DNAT changes their port.
func (b *tableBuilder) steer(running bool) {
	chain := b.base("steer", nftables.ChainHookPrerouting, steerPriority)
	mark := b.chain("mark")
	// Other programs' rules may save the whole mark with the connection and restore it.
	// Then answers get the mark of what they answer, which would lead back into the TUN.
	for _, device := range b.tuns() {
		b.rule(chain, name(expr.MetaKeyIIFNAME, device), b.setMark(0))
	}
	if running && b.cfg.ClientSource {
		b.markAnswers(chain)
	}
	if b.cfg.Out != nil {
		b.fromTUN(chain)
	}
	b.origin(chain)
	b.answersToUs(chain)
	b.labelDialled(chain)
	b.errorsAboutTaken(chain)
	b.ifCaptured(chain, mark)

	b.ownSource(mark)
	b.labelTaken(mark)
	b.rule(mark, b.tcp(), toChain(b.pin))
	b.rule(mark, b.icmpAboutCaptured(unix.NFPROTO_IPV4), toChain(b.send))
	b.rule(mark, b.icmpAboutCaptured(unix.NFPROTO_IPV6), toChain(b.send))
}

func (b *tableBuilder) base(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	return b.baseOf(nftables.ChainTypeFilter, name, hook, priority)
}

func (b *tableBuilder) baseOf(kind nftables.ChainType, name string, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	b.lines++
	return b.conn.AddChain(&nftables.Chain{
		Name: name, Table: b.table, Type: kind,
		Hooknum: hook, Priority: &priority, Policy: &policy,
	})
}

// chain adds a chain that others jump to.
func (b *tableBuilder) chain(name string) *nftables.Chain {
	b.lines++
	return b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table})
}

func (b *tableBuilder) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	b.lines++
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: chain, Exprs: concat(parts...)})
}

// ifCaptured jumps to the chain to if the packet came in by a captured interface,
// compared by name and by index.
func (b *tableBuilder) ifCaptured(from, to *nftables.Chain) {
	jump := []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: to.Name}}
	b.rule(from, load(expr.MetaKeyIIFNAME), in(b.names), jump)
	b.rule(from, load(expr.MetaKeyIIF), in(b.indexes), jump)
}

// tcp matches TCP to a captured port. In IPv6 the kernel has skipped the extension
// headers (ipv6_find_hdr).
func (b *tableBuilder) tcp() []expr.Any {
	if b.cfg.AllPorts {
		return proto(unix.IPPROTO_TCP)
	}
	return concat(proto(unix.IPPROTO_TCP), port(2), in(b.ports))
}

// icmpAboutCaptured matches ICMP errors from a client's side about packets of a captured
// connection: connection tracking relates the error to a connection, and the packet
// quoted in it is one of ours, TCP *from* a captured port. Our packets have no IP options
// and no extension headers, so the quoted TCP header is at a fixed place behind the 8
// bytes of the ICMP error.
func (b *tableBuilder) icmpAboutCaptured(of byte) []expr.Any {
	icmp := byte(unix.IPPROTO_ICMP)
	if of == unix.NFPROTO_IPV6 {
		icmp = unix.IPPROTO_ICMPV6
	}
	return concat(
		family(of),
		proto(icmp),
		ct(expr.CtKeySTATE), masked(native32(expr.CtStateBitRELATED)),
		b.quoted(of, 0),
	)
}

// quoted matches an ICMP error whose quoted packet is TCP with a captured port: the
// source port with offset 0, the destination port with offset 2.
func (b *tableBuilder) quoted(family byte, offset uint32) []expr.Any {
	quotedProto, quotedTCP := uint32(8+9), uint32(8+20)
	if family == unix.NFPROTO_IPV6 {
		quotedProto, quotedTCP = 8+6, 8+40
	}
	m := concat(transport(quotedProto, 1), equal([]byte{unix.IPPROTO_TCP}))
	if !b.cfg.AllPorts {
		m = concat(m, transport(quotedTCP+offset, 2), in(b.ports))
	}
	return m
}
