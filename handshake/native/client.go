package native

import (
	"context"
	"crypto/fips140"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/work"
)

// dial is the handshake with a destination in TLS 1.3 alone:
//
//  1. the hello is the profile to the letter (step 1);
//  2. the destination's flight is read (step 2): its chain, name and pins are judged before
//     its proof of possession is, as a client's chain is;
//  3. behind its Finished (step 8) it is proven, and check is asked, once (step 3);
//  4. our certificate goes only to a destination that was not refused (steps 5 to 7). Whether
//     it likes it, it says later: see handshake.AlertError.
//
// No session is resumed, as none is by the other engine: the hello asks for no ticket.
func (e *Engine) dial(ctx context.Context, conn net.Conn, p *handshake.ClientParams, check handshake.CheckPeer, l *handshake.Ledger) (*handshake.Session, error) {
	if fault := dialable(p); fault != nil {
		return nil, fault
	}
	c := e.newClient(ctx, conn, p, check, l)
	if err := c.within(c.run); err != nil {
		return nil, c.fail(err)
	}
	return c.session(), nil
}

// dialable says what of a plan is our own fault.
func dialable(p *handshake.ClientParams) *handshake.Error {
	switch {
	case fips140.Enabled():
		return handshake.OurFault("GODEBUG=fips140 cannot be kept: see Cannot")
	case p.VerifyName == "" && !p.Insecure:
		return handshake.OurFault("no name to verify the destination's certificate against")
	case p.Profile.MinVersion != tls.VersionTLS13 || p.Profile.MaxVersion != tls.VersionTLS13:
		return handshake.OurFault(fmt.Sprintf("profile %q is not TLS 1.3 alone", p.Profile.Name))
	case len(offeredSuites(&p.Profile)) == 0, len(offeredGroups(&p.Profile)) == 0, len(accepted(&p.Profile, schemes())) == 0:
		return handshake.OurFault(fmt.Sprintf("profile %q has no CipherSuite, group or signature scheme of TLS 1.3", p.Profile.Name))
	}
	return nil
}

func (e *Engine) newClient(ctx context.Context, conn net.Conn, p *handshake.ClientParams, check handshake.CheckPeer, l *handshake.Ledger) *client {
	c := &client{leg: e.newLeg(ctx, conn, &p.Params, check, l, handshake.StepServerVerified), plan: p}
	c.side, c.at, c.inbox.step = c, handshake.StepServerHello, handshake.StepClientHello
	return c
}

// clientState is a state of the handshake with a destination, as state is one of that
// with a client.
type clientState interface {
	step(c *client) (clientState, error)
}

// client is what the states of one handshake have in common.
type client struct {
	leg
	plan *handshake.ClientParams

	hello  *wire.ClientHello      // ours, the last one
	offer  *handshake.ClientHello // the same, as the destination reads it
	shares []*keys.Offer          // of hello

	suite   *keys.Suite // nil until the destination has chosen
	master  *keys.Master
	own     *keys.Traffic            // client_handshake_traffic_secret
	server  *keys.Traffic            // server_handshake_traffic_secret
	request *wire.CertificateRequest // nil: none came
}

// run goes through the states.
func (c *client) run() error {
	defer c.forget()
	for st := clientState(sendOffer{}); st != nil; {
		next, err := st.step(c)
		if err != nil {
			return err
		}
		st = next
	}
	return nil
}

// session ends a handshake that went well.
func (c *client) session() *handshake.Session {
	c.agreed.Observed = c.observed
	conn := newConn(&c.leg)
	conn.granted, conn.tickets = true, true
	return &handshake.Session{State: c.agreed, Conn: conn, Peer: c.peer}
}

// offeredSuites are the profile's, in its order.
func offeredSuites(pr *handshake.Profile) []uint16 {
	if pr.Suites13 == nil {
		return fastest(handshake.Suites13(), handshake.Suites13())
	}
	return slices.DeleteFunc(slices.Clone(pr.Suites13), func(id uint16) bool { return keys.SuiteOf(id) == nil })
}

// offeredGroups are the profile's, in its order.
func offeredGroups(pr *handshake.Profile) []uint16 {
	return slices.DeleteFunc(slices.Clone(pr.Groups), func(id uint16) bool { return !slices.Contains(keys.Groups(), id) })
}

// shared are the groups that a key share is made of: the first, and where that is one
// against quantum computers the first that is not, so that a server without them needs no
// HelloRetryRequest.
func shared(groups []uint16) []uint16 {
	out := groups[:1:1]
	if handshake.GroupOnly13(groups[0]) {
		if i := slices.IndexFunc(groups, func(id uint16) bool { return !handshake.GroupOnly13(id) }); i > 0 {
			out = append(out, groups[i])
		}
	}
	return out
}

// sni is the name as RFC 6066, section 3, has it: no address, no dot at the end.
func sni(name string) string {
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return ""
	}
	return strings.TrimSuffix(name, ".")
}

// newHello is the first ClientHello, without its key shares.
func (c *client) newHello() (*wire.ClientHello, error) {
	pr := &c.plan.Profile
	h := &wire.ClientHello{
		SessionID: make([]byte, 32), // RFC 8446, appendix D.4
		Suites:    offeredSuites(pr), Groups: offeredGroups(pr), Signatures: accepted(pr, schemes()), SignaturesCert: acceptedCert(pr),
		ServerName: sni(c.plan.ServerName), StatusRequest: true,
	}
	if len(c.plan.ALPN) > 0 {
		h.ALPN = c.plan.ALPN
	}
	for _, b := range [][]byte{h.Random[:], h.SessionID} {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("random of ClientHello: %w", err)
		}
	}
	return h, nil
}

// exchangeCost is that of a key exchange, makingCost that of the half of it which comes
// before the answer.
func exchangeCost(group uint16) work.Units { return work.KeyExchange(tls.CurveID(group), nil) }
func makingCost(group uint16) work.Units   { return exchangeCost(group) / 2 }

// sendHello makes key shares of those groups, where there are any, and sends the hello
// with them.
func (c *client) sendHello(groups []uint16) ([]byte, error) {
	if groups != nil {
		c.shares, c.hello.KeyShares = nil, nil
	}
	for _, group := range groups {
		o, err := keys.NewOffer(group)
		if err != nil {
			return nil, err
		}
		c.spent += makingCost(group) // also where nobody answers
		c.shares = append(c.shares, o)
		c.hello.KeyShares = append(c.hello.KeyShares, wire.KeyShare{Group: group, Key: o.Share})
	}
	msg, err := c.hello.Marshal()
	if err == nil {
		c.offer, err = handshake.ParseClientHello(msg) // what it answers is held against this
	}
	if err != nil {
		fault := handshake.OurFault("a message of ours does not fit its format: " + err.Error())
		fault.Step, fault.Wanted, fault.Err = handshake.StepClientHello, handshake.AlertNone, err
		return nil, fault
	}
	if err := c.out.Add(handshake.RecordHandshake, msg); err != nil {
		return nil, err
	}
	return msg, c.out.Flush()
}
