package handshake

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// TicketRule allows clients to resume a session (RFC 5077; RFC 8446, section
// 4.6.1), which skips steps 3, 5 and 6. So that this cannot outrun policy, a
// ticket is sealed under a name that has Binding in it, and with it what of
// the Params decides about clients: versions, suites and groups, authorities,
// demand for a certificate, epoch, and the SNI. A ticket that was made under
// anything else does not open, and a full handshake follows. What was verified
// then is verified again on resumption, and CheckPeer is asked again.
type TicketRule struct {
	// Binding names the rule and the policy. It must differ where a client
	// that one of two rules lets through might be refused by the other.
	Binding []byte
	// Lifetime of a session since its full handshake, which resuming does not
	// prolong. Zero means one hour; at most MaxTicketLifetime.
	Lifetime time.Duration
	// Keys seal the tickets. Required.
	Keys *TicketKeys
}

// MaxTicketLifetime bounds every session: a day is enough to spare a client
// its handshakes, and a stolen ticket key opens no older one.
const MaxTicketLifetime = 24 * time.Hour

const defaultTicketLifetime = time.Hour

// maxTicket is the largest ticket in bytes that is made. It holds the client's
// chain; sessions of clients with a larger one are not resumed.
const maxTicket = 16 << 10

func (r *TicketRule) lifetime() time.Duration {
	switch {
	case r.Lifetime <= 0:
		return defaultTicketLifetime
	case r.Lifetime > MaxTicketLifetime:
		return MaxTicketLifetime
	}
	return r.Lifetime
}

// origin is what a ticket remembers of the full handshake, in an entry of
// tls.SessionState.Extra.
type origin struct {
	name   [8]byte   // of the session, random
	born   time.Time // of the full handshake, in seconds
	until  time.Time // the earliest end of the client's verified chain; in seconds
	leaf   [32]byte  // SHA-256 of the client's certificate, zero if it showed none
	scheme uint16    // of the client's proof of possession, 0 if it showed none
	group  uint16    // of the key exchange, 0 for RSA key transport

	sealed []byte // the ticket it was opened from; not part of it
}

// originSize is the length of an origin behind its prefix, in bytes.
const originSize = 8 + 8 + 8 + 32 + 2 + 2

// originPrefix marks our entry among those of others, as crypto/tls asks for.
const originPrefix = "sslgate session 2:"

func (o *origin) bytes() []byte {
	b := append([]byte(originPrefix), o.name[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(o.born.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(o.until.Unix()))
	b = append(b, o.leaf[:]...)
	b = binary.BigEndian.AppendUint16(b, o.scheme)
	return binary.BigEndian.AppendUint16(b, o.group)
}

func parseOrigin(extra [][]byte) (*origin, bool) {
	for _, b := range extra {
		rest, ok := cutPrefix(b, originPrefix)
		if !ok || len(rest) != originSize {
			continue
		}
		return &origin{
			name:   [8]byte(rest),
			born:   time.Unix(int64(binary.BigEndian.Uint64(rest[8:])), 0),
			until:  time.Unix(int64(binary.BigEndian.Uint64(rest[16:])), 0),
			leaf:   [32]byte(rest[24:]),
			scheme: binary.BigEndian.Uint16(rest[56:]),
			group:  binary.BigEndian.Uint16(rest[58:]),
		}, true
	}
	return nil, false
}

func cutPrefix(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return nil, false
	}
	return b[len(prefix):], true
}

// String names the session in records.
func (o *origin) String() string { return hex.EncodeToString(o.name[:]) }

// ticketBinding is the name a ticket is sealed under.
func (p *Params) ticketBinding(serverName string) []byte {
	h := sha256.New()
	demands := p.demands(0)
	_, _ = fmt.Fprintf(h, "sslgate ticket 1\n%x\n%x\n%d %q\n", p.Ticket.Binding, demands, p.ClientAuth, serverName) // a hash takes everything
	return h.Sum(nil)
}

// resumable says whether this handshake may use tickets at all. Without
// extended_master_secret a TLS 1.2 session can be spliced (RFC 7627, section
// 1), so it is not resumed.
func (g *leg) resumable(version uint16) bool {
	r := g.p.Ticket
	return r != nil && r.Keys != nil && !g.p.Observe && g.hello != nil &&
		(version >= versionTLS13 || g.hello.ExtendedMasterSecret)
}

// tickets makes crypto/tls use ours.
func (g *leg) tickets(c *tls.Config) {
	binding := g.p.ticketBinding(g.hello.ServerName)
	c.SessionTicketsDisabled = false
	// Never used, as both hooks are set; only keeps crypto/tls from making keys.
	c.SetSessionTicketKeys([][32]byte{{1}})
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		g.conn.tap.goOn()
		ticket, err := g.wrap(&cs, ss, binding)
		if err == nil && (cs.Version >= versionTLS13 || !cs.DidResume) {
			g.conn.out.expect(cs.Version, len(ticket))
		}
		return ticket, err
	}
	c.UnwrapSession = func(ticket []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
		ss := g.unwrap(ticket, binding)
		return ss, nil // nil leads to a full handshake
	}
}

// wrap makes the ticket of a session. It leaves when the session is granted
// (ticketgate.go), but for one: in TLS 1.2 a resumed client waits for a ticket
// and the server's Finished before it sends its own, so it gets the very ticket
// back that it came with.
func (g *leg) wrap(cs *tls.ConnectionState, ss *tls.SessionState, binding []byte) ([]byte, error) {
	o := g.origin
	if cs.DidResume && o != nil && cs.Version < versionTLS13 {
		return o.sealed, nil
	}
	if !cs.DidResume || o == nil {
		var err error
		if o, err = g.newOrigin(cs); err != nil {
			return nil, err
		}
	}
	ss.Extra = append(ss.Extra, o.bytes())
	state, err := ss.Bytes()
	if err != nil {
		return nil, err
	}
	if len(state) > maxTicket || len(cs.PeerCertificates) > 0 && o.scheme == 0 {
		// An error would end the handshake, and none at all is not possible
		// in TLS 1.3: a ticket that never opens. Of a client whose proof was
		// not read there is none either.
		return g.p.Ticket.Keys.junk()
	}
	return g.p.Ticket.Keys.seal(state, binding, g.p.now())
}

// unwrap opens a ticket; nil leads to a full handshake. crypto/tls may still
// decline what is returned; then DidResume stays false.
func (g *leg) unwrap(ticket, binding []byte) *tls.SessionState {
	g.origin = nil
	state := g.p.Ticket.Keys.open(ticket, binding, g.p.now())
	if state == nil {
		return nil
	}
	ss, err := tls.ParseSessionState(state)
	if err != nil {
		return nil
	}
	o, ok := parseOrigin(ss.Extra)
	now := g.p.now()
	if !ok || now.After(o.born.Add(g.p.Ticket.lifetime())) || now.Before(o.born.Add(-time.Second)) || !now.Before(o.until) || !g.p.inheritable(o) {
		return nil
	}
	o.sealed = bytes.Clone(ticket)
	g.origin = o
	ss.Extra = nil
	return ss
}

// inheritable says whether what the full handshake used lies within the profile
// as it is now. Version and CipherSuite are judged by verifyClient.
func (p *Params) inheritable(o *origin) bool {
	pr := &p.Profile
	switch {
	case o.leaf != [32]byte{} && (o.scheme == 0 || brokenScheme(o.scheme)),
		o.scheme != 0 && pr.Signatures != nil && !slices.Contains(pr.Signatures, o.scheme),
		o.group != 0 && !slices.Contains(pr.Groups, o.group):
		return false
	}
	return true
}

func (g *leg) newOrigin(cs *tls.ConnectionState) (*origin, error) {
	o := &origin{born: g.p.now(), until: g.p.now().Add(MaxTicketLifetime), group: uint16(cs.CurveID)}
	name, err := g.p.Ticket.Keys.random(len(o.name))
	if err != nil {
		return nil, err
	}
	o.name = [8]byte(name)
	if g.peer != nil {
		for _, c := range g.peer.Chain {
			if c.NotAfter.Before(o.until) {
				o.until = c.NotAfter
			}
		}
	}
	if len(cs.PeerCertificates) > 0 {
		o.leaf = sha256.Sum256(cs.PeerCertificates[0].Raw)
		o.scheme = g.conn.tap.proofScheme()
	}
	return o, nil
}

// inherited checks that crypto/tls resumed the session that was opened.
func (g *leg) inherited(cs *tls.ConnectionState) *Error {
	var leaf [32]byte
	if len(cs.PeerCertificates) > 0 {
		leaf = sha256.Sum256(cs.PeerCertificates[0].Raw)
	}
	if g.origin == nil || g.origin.leaf != leaf {
		return ours("a session was resumed that is not the one of the ticket")
	}
	facts := fmt.Sprintf("inherited from session %s, %s ago", g.origin, g.p.now().Sub(g.origin.born).Truncate(time.Second))
	for _, step := range []Step{StepServerVerified, StepClientCertificate, StepClientVerified} {
		g.ledger.Decide(step, facts)
	}
	if cs.Version < versionTLS13 {
		g.ledger.Decide(StepKeyExchange, facts)
	}
	g.ledger.complete(StepServerHello)
	return nil
}
