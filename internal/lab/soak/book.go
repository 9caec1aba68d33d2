package soak

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab"
)

// key identifies a connection for the client and in the audit record. Ports of clients are
// reused, so several connections may have one key, one after the other.
type key struct{ client, destination netip.AddrPort }

func (k key) String() string { return k.client.String() + " -> " + k.destination.String() }

// want is the expected result of one connection, as its client reports it.
type want struct {
	key
	kind string
	// outcomes are the allowed results in the record: a reason, for a flow that was let
	// through followed by "/" and how it ended.
	outcomes []string
	begun    time.Time
	// id is the id in the client's request to an origin.
	id uint64
	// sent and got are the bytes that the client has written and read, without TLS. exact
	// says that the connection ended in order, so that all accounts must have the same
	// numbers.
	sent, got int64
	exact     bool

	// Of hand-overs (upgrades.go): what the client met, when it was done, and whether that
	// counts although a process was killed meanwhile.
	err    error
	ended  time.Time
	strict bool
}

// span is a time in which a killed process may have had flows.
type span struct{ from, to time.Time }

func (s *span) has(w *want) bool { return !w.ended.Before(s.from) && !w.begun.After(s.to) }

// record is an audit record with parsed times and addresses.
type record struct {
	audit.Parsed
	Time                time.Time
	Client, Destination netip.AddrPort
}

// parseRecord reads a line of the audit log.
func parseRecord(line []byte) (r record, err error) {
	parsed, err := audit.Parse(line)
	if err != nil {
		return r, err
	}
	r.Parsed = *parsed
	var errs [3]error
	r.Time, errs[0] = time.Parse(time.RFC3339Nano, r.Parsed.Time)
	r.Client, errs[1] = netip.ParseAddrPort(r.Parsed.Client)
	r.Destination, errs[2] = netip.ParseAddrPort(r.Parsed.Destination)
	return r, errors.Join(errs[:]...)
}

func (r *record) key() key {
	unmap := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
	return key{unmap(r.Client), unmap(r.Destination)}
}

func (r *record) outcome() string {
	if r.End == "" {
		return r.Reason
	}
	return r.Reason + "/" + r.End
}

// decided is the set of labels that sslgate_flows_total counts by.
type decided struct{ rule, verdict, reason string }

// maxProblems bounds the problems that are kept as text; the rest is only counted.
const maxProblems = 50

// book compares the four accounts. Its methods may be called by any goroutine.
type book struct {
	mu       sync.Mutex
	wants    map[key][]want
	records  map[key][]record
	origins  map[uint64]served
	problems []string
	more     int                  // problems beyond maxProblems
	tell     func(problem string) // called for each problem that is kept; nil: no call

	// Since the start:
	kinds      map[string]int64  // connections by clients
	begun      int64             // their sum
	written    int64             // records
	decisions  map[decided]int64 // by records
	up, down   int64             // bytes by records
	cutUp      int64             // bytes that flows that were cut off may have had beyond up
	cutDown    int64
	dialed     int64 // records of flows that reached a destination
	connected  int64 // those of them that were let through, with a TLS handshake where there is one
	steady     int64 // those of them whose destination is never restarted
	halfway    int64 // flows that were ended while they connected to such a destination: it may have seen them
	exactBytes int64 // bytes that clients have compared
	suppressed int64 // refused SYNs without a record of their own
	suppFlows  int64 // refused flows likewise

	syns      syns // of hand-overs
	disturbed []span
	drops     []span // in which the gateway's devices have dropped packets
	handOvers bool   // new processes probe themselves
	rebasing  bool
	uneven    int64            // records without a connection or the reverse, after kills
	failures  []string         // of connections outside of them, at most maxProblems
	failed1   int64            // their number
	apart     map[string]int64 // what /metrics lost with killed processes, by what is compared
	// halfwayLost is halfway when apart was taken.
	halfwayLost int64
}

func newBook() *book {
	return &book{
		wants: map[key][]want{}, records: map[key][]record{}, origins: map[uint64]served{},
		kinds: map[string]int64{}, decisions: map[decided]int64{}, syns: syns{seen: map[key][]onWire{}},
	}
}

func (b *book) complain(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note(format, args...)
}

func (b *book) note(format string, args ...any) {
	if len(b.problems) >= maxProblems {
		b.more++
		return
	}
	p := fmt.Sprintf(format, args...)
	b.problems = append(b.problems, p)
	if b.tell != nil {
		b.tell(p)
	}
}

func (b *book) failed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.problems) + b.more
}

// client adds a finished connection.
func (b *book) client(w want) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wants[w.key] = append(b.wants[w.key], w)
	b.kinds[w.kind]++
	b.begun++
	if w.exact {
		b.exactBytes += w.sent + w.got
	}
}

// served adds what an origin has seen.
func (b *book) served(id uint64, s served) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.origins[id]; ok {
		b.note("an origin was reached twice by connection %d", id)
	}
	b.origins[id] = s
}

// record adds a line of the audit log.
func (b *book) record(r record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := r.key()
	b.records[k] = append(b.records[k], r)
	b.written++
	if b.probes(k) {
		b.uneven++
	}
	b.decisions[decided{orDefault(r.Rule), r.Verdict, r.Reason}]++
	b.up += r.BytesUp
	b.down += r.BytesDown
	b.suppressed += r.Suppressed
	b.suppFlows += r.SuppressedFlows
	if r.Dialed != "" {
		b.dialed++
		if r.Verdict == "allowed" && r.Setup > 0 {
			b.connected++
		}
		if r.Rule != restartedRule {
			b.steady++
		}
	} else if r.Verdict == "allowed" && r.Rule != restartedRule {
		b.halfway++
	}
}

// orDefault is the metrics' name for no rule.
func orDefault(rule string) string {
	if rule == "" {
		return "default"
	}
	return rule
}

// even says whether there are as many records as connections.
func (b *book) even() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	extra := 0
	for k, wants := range b.wants {
		extra += b.resent(k, wants) - b.lost(k, wants)
	}
	return b.written == b.begun+b.uneven+int64(extra)
}

// resent is how many records of a key are of SYNs that were refused, and sent again because the
// gateway had not even read the first one within a second (RFC 6298, section 2): the way, or the
// machine, was slow. If it had, its answer was lost, which is a problem.
func (b *book) resent(k key, wants []want) int {
	const rto, slack = time.Second, 100 * time.Millisecond
	n := 0
	for _, w := range wants {
		inTime := func(r record) bool { return !r.Time.Before(w.begun) && r.Time.Sub(w.begun) < rto-slack }
		if refusedAtSYN(k.destination.Port()) && !slices.ContainsFunc(b.records[k], inTime) {
			n += int(w.ended.Sub(w.begun) / rto) // the first of them come each second (Linux, tcp_syn_linear_timeouts)
		}
	}
	return max(0, min(n, len(b.records[k])-len(wants)))
}

// lost is how many connections of a key have no record because they were never made: the ACK of
// a client that then sends nothing but a RST was lost.
func (b *book) lost(k key, wants []want) int {
	n := 0
	for i := range wants {
		if b.resets(&wants[i]) {
			n++
		}
	}
	return max(0, min(n, len(wants)-len(b.records[k])))
}

// dropped notes when packets were dropped where a queue was full.
func (b *book) dropped(s span) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drops = append(b.drops, s)
}

// resets says whether a client has sent nothing but a RST behind its ACK, and one of the two may
// be lost: a queue was full meanwhile. Nobody sends them again.
func (b *book) resets(w *want) bool {
	return slices.Contains(w.outcomes, "hello_reset") && slices.ContainsFunc(b.drops, func(s span) bool { return s.has(w) })
}

// settle compares the accounts of every connection once no connection is active, and forgets
// them.
func (b *book) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, wants := range b.wants {
		records := b.records[k]
		slices.SortFunc(wants, func(a, b want) int { return a.begun.Compare(b.begun) })
		slices.SortFunc(records, func(a, b record) int { return a.Time.Compare(b.Time) })
		lost := int64(0)
		for i, w := range wants {
			if b.excused(&w) {
				delete(b.origins, w.id)
				continue
			}
			if i >= len(records) {
				if b.resets(&w) {
					lost++
					continue
				}
				b.note("%s %s: a client's connection has no audit record", w.kind, k)
				continue
			}
			b.compare(&w, &records[i])
		}
		b.uneven -= lost
		if n := b.resent(k, wants); len(records) > len(wants)+n {
			b.note("%s: an audit record of a connection that no client made: %s; %s; on the wire: %s", k, told(records), metBy(wants), b.syns.of(k))
		} else {
			b.uneven += int64(n)
		}
		delete(b.records, k)
	}
	for k, records := range b.records {
		if b.probes(k) {
			continue
		}
		b.note("%s: %d audit records (%s) of a connection that no client made", k, len(records), records[0].outcome())
	}
	for id, s := range b.origins {
		b.note("an origin was reached by connection %d (%d bytes in, %d out), which no client made", id, s.in, s.out)
	}
	clear(b.wants)
	clear(b.records)
	clear(b.origins)
}

// told are records of one key, for a problem's text.
func told(records []record) string {
	var all []string
	for _, r := range records {
		all = append(all, fmt.Sprintf("%s %s (%s)", r.Time.Format(clock), r.ID, r.outcome()))
	}
	return strings.Join(all, ", ")
}

// metBy are the connections of one key, for a problem's text.
func metBy(wants []want) string {
	var all []string
	for _, w := range wants {
		all = append(all, fmt.Sprintf("%s from %s to %s", w.kind, w.begun.UTC().Format(clock), w.ended.UTC().Format(clock)))
	}
	return strings.Join(all, ", ")
}

// clock is the time of day in a problem's text.
const clock = "15:04:05.000"

// excused says whether nothing is asked of a connection: a killed process may have had it, or
// it has failed, which is counted.
func (b *book) excused(w *want) bool {
	if !w.strict && slices.ContainsFunc(b.disturbed, func(s span) bool { return s.has(w) }) {
		return true
	}
	if w.err == nil {
		return false
	}
	b.failed1++
	if len(b.failures) < maxProblems {
		b.failures = append(b.failures, fmt.Sprintf("%s %s %s: %v", w.begun.Format("15:04:05.000"), w.kind, w.key, w.err))
	}
	return true
}

// probes says whether a connection is one that a new process made to itself.
func (b *book) probes(k key) bool {
	return k.client.Addr() != lab.ClientAddr(k.client.Addr().Is6()) && b.handOvers
}

// compare compares the three accounts of one connection.
func (b *book) compare(w *want, r *record) {
	wrong := func(format string, args ...any) {
		b.note("%s %s: %s", w.kind, w.key, fmt.Sprintf(format, args...))
	}
	switch {
	case slices.Contains(w.outcomes, r.outcome()):
	case r.outcome() == "hello_timeout" && b.resets(w):
	default:
		wrong("the audit record %s of %s, in %v, says %q (%s), want %s; on the wire: %s", r.ID, r.Time.Format(clock), time.Duration(r.Duration)*time.Microsecond,
			r.outcome(), strings.TrimSpace(r.Detail+" "+r.EndDetail), strings.Join(w.outcomes, " or "), b.syns.of(w.key))
	}
	s, reached := b.origins[w.id]
	delete(b.origins, w.id)
	switch {
	case r.Verdict != "allowed":
		if reached || r.BytesUp != 0 || r.BytesDown != 0 {
			wrong("refused, and still %d bytes up and %d down, origin reached: %v", r.BytesUp, r.BytesDown, reached)
		}
	case w.exact:
		if !reached || w.sent != r.BytesUp || r.BytesUp != s.in || w.got != r.BytesDown || r.BytesDown != s.out {
			wrong("bytes up: client %d, record %d, origin %d; down: origin %d, record %d, client %d",
				w.sent, r.BytesUp, s.in, s.out, r.BytesDown, w.got)
		}
	default: // cut off: it says what was acknowledged until then, /metrics what was sent
		b.cutUp += max(w.sent-r.BytesUp, 0)
		b.cutDown += max(s.out-r.BytesDown, 0)
		if w.sent < r.BytesUp || reached && s.out < r.BytesDown {
			wrong("cut off, bytes up: client %d, record %d, origin %d; down: origin %d, record %d, client %d",
				w.sent, r.BytesUp, s.in, s.out, r.BytesDown, w.got)
		}
	}
}
