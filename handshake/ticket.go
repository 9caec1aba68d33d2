package handshake

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

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

// resumable says whether this handshake may use tickets at all. Without
// extended_master_secret a TLS 1.2 session can be spliced (RFC 7627, section
// 1), so it is not resumed.
func (g *leg) resumable(version uint16) bool {
	r := g.server.Ticket
	return r != nil && r.Keys != nil && !g.p.Observe && g.hello != nil &&
		(version >= tls.VersionTLS13 || g.hello.ExtendedMasterSecret)
}

// tickets makes crypto/tls use ours.
func (g *leg) tickets(c *tls.Config) {
	binding := g.server.TicketBinding(g.hello.ServerName)
	c.SessionTicketsDisabled = false
	// Never used, as both hooks are set; only keeps crypto/tls from making keys.
	c.SetSessionTicketKeys([][32]byte{{1}})
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		g.conn.tap.goOn()
		ticket, err := g.wrap(&cs, ss, binding)
		if err == nil && (cs.Version >= tls.VersionTLS13 || !cs.DidResume) {
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
	if cs.DidResume && o != nil && cs.Version < tls.VersionTLS13 {
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
	if len(state) > MaxTicket || len(cs.PeerCertificates) > 0 && o.scheme == 0 {
		// An error would end the handshake, and none at all is not possible
		// in TLS 1.3: a ticket that never opens. Of a client whose proof was
		// not read there is none either.
		return newJunk()
	}
	return g.server.Ticket.Keys.Seal(state, binding, g.p.Time())
}

// unwrap opens a ticket; nil leads to a full handshake. crypto/tls may still
// decline what is returned; then DidResume stays false.
func (g *leg) unwrap(ticket, binding []byte) *tls.SessionState {
	g.origin = nil
	state := g.server.Ticket.Keys.Open(ticket, binding, g.p.Time())
	if state == nil {
		return nil
	}
	ss, err := tls.ParseSessionState(state)
	if err != nil {
		return nil
	}
	o, ok := parseOrigin(ss.Extra)
	now := g.p.Time()
	if !ok || now.After(o.born.Add(g.server.Ticket.Life())) || now.Before(o.born.Add(-time.Second)) || !now.Before(o.until) || !inheritable(&g.p.Profile, o) {
		return nil
	}
	o.sealed = bytes.Clone(ticket)
	g.origin = o
	ss.Extra = nil
	return ss
}

// inheritable says whether what the full handshake used lies within the profile
// as it is now. Version and CipherSuite are judged by verifyClient.
func inheritable(pr *Profile, o *origin) bool {
	switch {
	case o.leaf != [32]byte{} && (o.scheme == 0 || brokenScheme(o.scheme)),
		o.scheme != 0 && pr.Signatures != nil && !slices.Contains(pr.Signatures, o.scheme),
		o.group != 0 && !slices.Contains(pr.Groups, o.group):
		return false
	}
	return true
}

// newJunk is a ticket that opens nowhere.
func newJunk() ([]byte, error) {
	b := make([]byte, 32)
	_, err := rand.Read(b)
	return b, err
}

func (g *leg) newOrigin(cs *tls.ConnectionState) (*origin, error) {
	o := &origin{born: g.p.Time(), until: g.p.Time().Add(MaxTicketLifetime), group: uint16(cs.CurveID)}
	if _, err := rand.Read(o.name[:]); err != nil {
		return nil, err
	}
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
	facts := fmt.Sprintf("inherited from session %s, %s ago", g.origin, g.p.Time().Sub(g.origin.born).Truncate(time.Second))
	for _, step := range []Step{StepServerVerified, StepClientCertificate, StepClientVerified} {
		g.ledger.Decide(step, facts)
	}
	if cs.Version < tls.VersionTLS13 {
		g.ledger.Decide(StepKeyExchange, facts)
	}
	g.ledger.Complete(StepServerHello)
	return nil
}
