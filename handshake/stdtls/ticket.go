package stdtls

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/ticket"
)

// origin is the state of a ticket that was opened, or is to be made.
type origin struct {
	ticket.State
	sealed []byte // the ticket it was opened from
}

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
		sealed, err := g.wrap(&cs, ss, binding)
		if err == nil && (cs.Version >= tls.VersionTLS13 || !cs.DidResume) {
			g.conn.out.expect(cs.Version, len(sealed))
		}
		return sealed, err
	}
	c.UnwrapSession = func(sealed []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
		ss := g.unwrap(sealed, binding)
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
	encoded, err := ss.Bytes()
	if err != nil {
		return nil, err
	}
	defer clear(encoded)
	next := o.State
	if !readSession(&next, encoded) {
		return newJunk()
	}
	if keyTransport(&next) {
		return newJunk()
	}
	// An error would end the handshake, and none at all is not possible in TLS 1.3:
	// a ticket that never opens. There is no other of a chain that is too large, nor
	// of a client whose proof was not read.
	state, err := next.Marshal()
	defer clear(state)
	if err != nil || len(state) > g.server.Ticket.Room(g.hello) {
		return newJunk()
	}
	return g.server.Ticket.Keys.Seal(state, binding, g.p.Time())
}

// unwrap opens a ticket; nil leads to a full handshake. crypto/tls may still
// decline what is returned; then DidResume stays false.
func (g *leg) unwrap(sealed, binding []byte) *tls.SessionState {
	g.origin = nil
	state := g.server.Ticket.Keys.Open(sealed, binding, g.p.Time())
	if state == nil {
		return nil
	}
	defer clear(state)
	read, err := ticket.Parse(state)
	if err != nil {
		return nil
	}
	defer clear(read.Secret) // crypto/tls has its own
	o, now := &origin{State: *read, sealed: bytes.Clone(sealed)}, g.p.Time()
	if now.After(o.Born.Add(g.server.Ticket.Life())) || now.Before(o.Born.Add(-time.Second)) || !now.Before(o.Until) || !inheritable(&g.p.Profile, &o.State) {
		return nil
	}
	encoded, err := writeSession(&o.State)
	if err != nil {
		return nil
	}
	ss, err := tls.ParseSessionState(encoded) // it keeps the slice
	if err != nil {
		return nil
	}
	o.Secret = nil
	g.origin = o
	return ss
}

// inheritable says whether what the full handshake used lies within the profile
// as it is now. Version and CipherSuite are judged by verifyClient.
func inheritable(pr *handshake.Profile, o *ticket.State) bool {
	switch {
	case keyTransport(o),
		len(o.Chain) > 0 && (o.Scheme == 0 || brokenScheme(o.Scheme)),
		o.Scheme != 0 && pr.Signatures != nil && !slices.Contains(pr.Signatures, o.Scheme),
		o.Group != 0 && !slices.Contains(pr.Groups, o.Group):
		return false
	}
	return true
}

// keyTransport says whether the master secret went under the key of our certificate
// (RSA, RFC 5246, section 7.4.7.1). Who has that key and a record of the handshake has
// the master secret too, and a ticket of TLS 1.2 goes in the clear: a session that could
// be resumed would outlive the key, also where the key was replaced because it was lost.
func keyTransport(s *ticket.State) bool { return s.Version < tls.VersionTLS13 && s.Group == 0 }

// newJunk is a ticket that opens nowhere.
func newJunk() ([]byte, error) {
	b := make([]byte, 32)
	_, err := rand.Read(b)
	return b, err
}

func (g *leg) newOrigin(cs *tls.ConnectionState) (*origin, error) {
	now := g.p.Time()
	o := &origin{State: ticket.State{Born: now, Until: now.Add(ticket.MaxLifetime), Group: uint16(cs.CurveID)}}
	if _, err := rand.Read(o.Session[:]); err != nil {
		return nil, err
	}
	if g.peer != nil {
		for _, c := range g.peer.Chain {
			if c.NotAfter.Before(o.Until) {
				o.Until = c.NotAfter
			}
		}
	}
	if len(cs.PeerCertificates) > 0 {
		o.Scheme = g.conn.tap.proofScheme()
	}
	return o, nil
}

// inherited checks that crypto/tls resumed the session that was opened.
func (g *leg) inherited(cs *tls.ConnectionState) *handshake.Error {
	var leaf [32]byte
	if len(cs.PeerCertificates) > 0 {
		leaf = sha256.Sum256(cs.PeerCertificates[0].Raw)
	}
	if g.origin == nil || g.origin.Leaf() != leaf {
		return handshake.OurFault("a session was resumed that is not the one of the ticket")
	}
	facts := fmt.Sprintf("inherited from session %s, %s ago", g.origin, g.p.Time().Sub(g.origin.Born).Truncate(time.Second))
	for _, step := range []handshake.Step{handshake.StepServerVerified, handshake.StepClientCertificate, handshake.StepClientVerified} {
		g.ledger.Decide(step, facts)
	}
	if cs.Version < tls.VersionTLS13 {
		g.ledger.Decide(handshake.StepKeyExchange, facts)
	}
	g.ledger.Complete(handshake.StepServerHello)
	return nil
}
