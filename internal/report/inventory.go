// Package report makes inventories of audit records: which cryptography clients and
// destinations speak, which certificates were seen, and who would fail under a profile. It
// reads any number of records in bounded memory.
package report

import (
	"net/netip"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/times"
)

// Inventory is what was seen in records.
type Inventory struct {
	flows       int64
	undated     int64  // flows whose time cannot be read
	first, last string // RFC 3339 in UTC, as records have it
	verdicts    counts
	actions     counts
	reasons     counts // of refused and failed flows
	would       int64  // flows that an observed rule would have refused

	toClient, toDestination leg
	passing                 leg    // of bypassed flows, read as they went by
	asked                   int64  // of them, flows in which the server asked for a certificate
	alerts                  counts // of them, that ended the handshake in the clear
	offers                  offers
	judges                  *judges
	time                    timeline
	clients                 *table[netip.Addr, client]
	certificates            *table[certificateKey, certificate]
	series                  audit.Series
	scratch                 record
}

// leg is what was negotiated on one side.
type leg struct {
	flows                                int64
	versions, suites, groups, alpn, keys counts
	pairs                                counts // of version and suite, with pairSeparator between
	resumed, retried                     int64
}

// offers is what clients offered, whatever came of it.
type offers struct {
	hellos, mlkem int64
	newest, ja4   counts
	fails         []profileFails
}

type profileFails struct {
	flows   int64
	reasons counts
}

// client is one address.
type client struct {
	flows, refused, failed, would int64
	hellos, withoutMLKEM          int64
	first, last                   string
	fails                         uint64 // bit i: profile i, by at least one hello
	versions, ja4, names          few
}

// certificateKey tells certificates apart (RFC 5280, section 4.1.2.2), and those of CAs
// that use a serial number twice.
type certificateKey struct{ issuer, serial, spki, role string }

type certificate struct {
	subject, key, notBefore, notAfter, authority string
	sans                                         []string
	flows, proven                                int64
	first, last                                  string
	places, clients                              few
}

// New is an empty inventory.
func New() *Inventory {
	return newInventory(bounds{maxClients, maxCertificates, maxJudged, tableBytes})
}

func newInventory(b bounds) *Inventory {
	j := newJudges(b.judged)
	return &Inventory{
		judges: j, offers: offers{fails: make([]profileFails, len(j.profiles))},
		clients: newTable[netip.Addr, client](b.clients, b.bytes), certificates: newTable[certificateKey, certificate](b.certificates, b.bytes+b.bytes/2),
	}
}

// Add adds one line of an audit log. The error says what is wrong with it, with its column.
func (v *Inventory) Add(line []byte) error {
	r := &v.scratch
	if err := parse(line, r); err != nil {
		return err
	}
	if v.series.Add(r.ID, r.Seq, r.Time) {
		return nil
	}
	v.flows++
	if !stamped(r.Time) {
		v.undated++
		r.Time = ""
	}
	v.first, v.last = earlier(v.first, r.Time), max(v.last, r.Time)
	v.verdicts.add(r.Verdict)
	v.actions.add(r.Action)
	if r.Verdict != reason.Allowed.String() {
		v.reasons.add(r.Reason)
	}
	if r.Would != "" {
		v.would++
	}
	v.toClient.add(r.ClientLeg, r.Peer)
	v.toDestination.add(r.DestinationLeg, r.DestinationPeer)
	judged := v.judges.of(r.Hello)
	v.offer(r, judged)
	v.client(r, judged)
	v.certificate(r, r.Peer, roleClient)
	v.certificate(r, r.DestinationPeer, roleDestination)
	v.seen(r)
	v.time.add(r)
	return nil
}

// stamped says whether a text has the form of a record's time, "2026-11-01T08:00:00.000000Z"
// with any fraction or none: such texts are in the order of their times.
func stamped(s string) bool {
	const form, most = "0000-00-00T00:00:00", 30
	if len(s) <= len(form) || len(s) > most || s[len(s)-1] != 'Z' {
		return false
	}
	for i := range len(form) {
		if c := s[i]; form[i] == '0' && (c < '0' || c > '9') || form[i] != '0' && c != form[i] {
			return false
		}
	}
	fraction := s[len(form) : len(s)-1]
	return fraction == "" || fraction[0] == '.' && strings.Trim(fraction[1:], "0123456789") == ""
}

// earlier is the first of two times, "" being none.
func earlier(a, b string) string {
	if a == "" || b != "" && b < a {
		return b
	}
	return a
}

// seen adds what was read of a bypassed flow.
func (v *Inventory) seen(r *record) {
	s := r.Seen
	if s == nil {
		return
	}
	if s.Version != "" {
		v.passing.add(&audit.ParsedLeg{Version: s.Version, Suite: s.Suite, Group: s.Group, ALPN: s.ALPN, Resumed: s.Resumed, HelloRetry: s.HelloRetry}, s.Destination)
	}
	if s.Asked {
		v.asked++
	}
	v.alerts.add(s.Alert)
	v.certificate(r, s.Client, roleClient)
	v.certificate(r, s.Destination, roleDestination)
}

func (l *leg) add(p *audit.ParsedLeg, peer *audit.ParsedPeer) {
	if p == nil {
		return
	}
	l.flows++
	l.versions.add(p.Version)
	l.suites.add(p.Suite)
	l.pairs.add(p.Version + pairSeparator + p.Suite)
	group := p.Group
	if group == "" && p.Version != plaintext && !p.Resumed {
		group = "none (RSA key transport)"
	}
	l.groups.add(group)
	l.alpn.add(p.ALPN)
	if p.Resumed {
		l.resumed++
	}
	if p.HelloRetry {
		l.retried++
	}
	if peer != nil {
		l.keys.add(peer.Key)
	}
}

const pairSeparator = "|"

// plaintext is the version of a leg without TLS.
const plaintext = "plaintext"

func (v *Inventory) offer(r *record, judged *judgement) {
	if r.Hello == nil || !judged.known {
		return
	}
	o := &v.offers
	o.hellos++
	o.newest.add(judged.newest)
	o.ja4.add(r.Hello.JA4)
	if judged.mlkem {
		o.mlkem++
	}
	for i, code := range judged.fails {
		if code != "" {
			o.fails[i].flows++
			o.fails[i].reasons.add(string(code))
		}
	}
}

func (v *Inventory) client(r *record, judged *judgement) {
	at, err := netip.ParseAddrPort(r.Client)
	if err != nil || at.Addr().Zone() != "" { // a zone is text
		return
	}
	c, _ := v.clients.at(at.Addr().Unmap(), entryBytes)
	if c == nil {
		return
	}
	c.first = earlier(c.first, r.Time)
	c.last = max(c.last, r.Time)
	c.flows++
	switch r.Verdict {
	case reason.Refused.String():
		c.refused++
	case reason.Failed.String():
		c.failed++
	}
	if r.Would != "" {
		c.would++
	}
	if l := r.ClientLeg; l != nil {
		v.clients.grow(&c.versions, shorter(l.Version))
	}
	if s := r.Seen; s != nil {
		v.clients.grow(&c.versions, shorter(s.Version))
	}
	if r.Peer != nil && r.Peer.Proven {
		v.clients.grow(&c.names, shorter(r.Peer.Subject))
	}
	if r.Hello == nil || !judged.known {
		return
	}
	c.hellos++
	if !judged.mlkem {
		c.withoutMLKEM++
	}
	v.clients.grow(&c.ja4, shorter(r.Hello.JA4))
	for i, code := range judged.fails {
		if code != "" {
			c.fails |= 1 << i
		}
	}
}

// shorter is the beginning of a text, which does not keep the rest of its line alive.
func shorter(s string) string {
	if len(s) <= nameBytes {
		return s
	}
	return strings.Clone(s[:nameBytes])
}

// The roles of a certificate.
const (
	roleClient      = "client"
	roleDestination = "destination"
)

func (v *Inventory) certificate(r *record, p *audit.ParsedPeer, role string) {
	if p == nil {
		return
	}
	k := certificateKey{p.Issuer, p.Serial, p.SPKI, role}
	size := entryBytes + len(p.Issuer) + len(p.Serial) + len(p.SPKI) + len(p.Subject) + len(p.Key) + len(p.NotBefore) + len(p.NotAfter) + len(p.Authority)
	sans := p.SANs[:min(len(p.SANs), listed)]
	for _, s := range sans {
		size += len(s) + textBytes
	}
	c, isNew := v.certificates.at(k, size)
	if c == nil {
		return
	}
	if isNew {
		c.subject, c.key, c.notBefore, c.notAfter, c.authority = p.Subject, p.Key, p.NotBefore, p.NotAfter, p.Authority
		c.sans = sans
		if len(p.SANs) > len(sans) {
			c.sans = append(c.sans[:len(c.sans):len(c.sans)], "and others")
		}
	}
	c.flows++
	if p.Proven {
		c.proven++
	}
	c.first, c.last = earlier(c.first, r.Time), max(c.last, r.Time)
	v.certificates.grow(&c.places, shorter(place(r)))
	if at, err := netip.ParseAddrPort(r.Client); err == nil && at.Addr().Zone() == "" {
		v.certificates.grow(&c.clients, at.Addr().Unmap().String())
	}
}

// place is where a flow went: its server name and its destination.
func place(r *record) string {
	if r.SNI == "" {
		return r.Destination
	}
	return r.SNI + ", " + r.Destination
}

// days is how many whole days from now until a time in a record; ok is false for no time.
func days(now time.Time, text string) (int, bool) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, false
	}
	return times.WholeDays(now, at), true
}
