package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
	"github.com/sslgate/sslgate/policy"
)

// clientConn is what the gateway needs of a connection from the stack.
type clientConn interface {
	handshake.Conn
	Reset() // RST; Close does nothing after it
}

// destination is the far side of a flow.
type destination struct {
	handshake.Conn        // what is relayed to: TLS or plain
	reset          func() // RST
	raw            *net.TCPConn
	sock           *socket // of raw
}

// dial connects to the original destination, unless it is a forbidden one.
func (fl *flow) dial(ctx context.Context, plan *policy.Plan) (*destination, error) {
	dst := fl.facts.Dst
	why, err := fl.g.forbidden(dst.Addr(), plan.NamesDestination(fl.facts), plan.Client != nil)
	if err != nil {
		return nil, err
	}
	if why != "" {
		return nil, handshake.Refuse(handshake.StepApplicationData, reason.DialForbidden, why)
	}
	dst = plan.Dials(dst)
	ctx, cancel := context.WithTimeout(ctx, fl.limits.Dial)
	defer cancel()
	conn, err := fl.connectTo(ctx, plan, dst)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, errors.New("the dialler did not return a TCP connection")
	}
	fl.out.dest.dialed = dst
	sock := newSocket(tcp)
	return &destination{Conn: sock, sock: sock, raw: tcp, reset: func() {
		_ = tcp.SetLinger(0) // fails only on a closed socket
		_ = tcp.Close()
	}}, nil
}

// connect dials and, where the rule asks for it, does the handshake as the
// SSL client of the destination, on behalf of a verified client.
func (fl *flow) connect(ctx context.Context, session *handshake.Session, plan *policy.Plan) (*destination, error) {
	// Offer only the protocol that was agreed with the client.
	var offer []string
	switch {
	case plan.Upgrade != upgrade.None: // a client that has asked for TLS in it need not offer it
		offer = []string{plan.Upgrade.ALPN()}
	case session.ALPN != "":
		offer = []string{session.ALPN}
	}
	dest, up, err := fl.reach(ctx, session, plan, offer)
	if err == nil && up != nil && !sameProtocol(plan, session.ALPN, up.ALPN) {
		dest.reset()
		return nil, handshake.Refuse(handshake.StepApplicationData, reason.UpstreamALPN,
			"client's leg "+quoteOrNone(session.ALPN)+", destination's leg "+quoteOrNone(up.ALPN))
	}
	return dest, err
}

// waitFor runs connect, which waits for the destination, within the limit on the flows
// that wait for one destination.
func (fl *flow) waitFor(ctx context.Context, connect func(context.Context) error) error {
	ctx, done, refusal := fl.g.dials.begin(ctx, fl.facts.Dst.Addr(), fl.facts.Src.Addr(), fl.limits.DialsPerDestination)
	if refusal != nil {
		return refusal
	}
	defer done()
	err := connect(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errDestinationLimit) {
		return destinationLimit(errDestinationLimit.Error())
	}
	return err
}

// reach connects to the destination. session is the client's, nil if there is none yet.
// The session it returns is the destination's, nil without TLS on that side.
func (fl *flow) reach(ctx context.Context, session *handshake.Session, plan *policy.Plan, offer []string) (dest *destination, up *handshake.Session, err error) {
	err = fl.waitFor(ctx, func(ctx context.Context) (err error) {
		dest, up, err = fl.reachNow(ctx, session, plan, offer)
		return err
	})
	return dest, up, err
}

func (fl *flow) reachNow(ctx context.Context, session *handshake.Session, plan *policy.Plan, offer []string) (*destination, *handshake.Session, error) {
	dest, err := fl.dial(ctx, plan)
	if err != nil {
		return nil, nil, err
	}
	if plan.ProxyV2 {
		if err := fl.writeProxyHeader(dest, session, plan); err != nil {
			dest.reset()
			return nil, nil, err
		}
	}
	params, err := plan.Destination(fl.facts)
	switch {
	case err != nil:
		dest.reset()
		return nil, nil, err
	case params == nil:
		fl.facts.Upstream = upstream(plan, nil)
		return dest, nil, nil
	}
	params.ALPN = offer
	if params.Certificates, err = identity.Good(params.Certificates, time.Now()); err != nil {
		dest.reset()
		return nil, nil, err
	}
	check := func(peer *handshake.Peer, _ *handshake.State) error {
		v := fl.set.OnDestination(plan, fl.facts, peer)
		if v.Action == policy.Deny {
			return handshake.Refuse(handshake.StepServerVerified, v.Reason, v.Detail)
		}
		fl.observeDestination(v.Would)
		return fl.destinationRevoked(ctx, plan, peer)
	}
	ctx, cancel := context.WithTimeout(ctx, fl.limits.Dial)
	defer cancel()
	params.Certificates = fl.signing(ctx, params.Certificates)
	ledger := handshake.NewLedger(fl.start)
	fl.live.reaching(ledger)
	up, err := fl.secure(ctx, dest, plan, params, check, ledger)
	// The destination decides how much this costs, but the client decides that it is spent.
	fl.g.turns.Charge(fl.facts.Src.Addr(), ledger.Spent())
	fl.out.dest.ledger, fl.out.dest.lost, fl.out.dest.engine = ledger.Entries(), ledger.Lost(), ledger.Engine()
	fl.live.done(fl.out.dest.ledger, ledger.Lost())
	if err != nil {
		dest.reset()
		e := fl.whyUnsigned(handshake.AsError(err))
		fl.out.dest.peer = e.Peer
		return nil, nil, e
	}
	fl.out.dest.leg, fl.out.dest.peer = &up.State, up.Peer
	fl.facts.Upstream = upstream(plan, up)
	return &destination{Conn: up.Conn, reset: dest.reset, raw: dest.raw, sock: dest.sock}, up, nil
}

// secure makes TLS of the connection with the destination.
func (fl *flow) secure(ctx context.Context, dest *destination, plan *policy.Plan, params *handshake.ClientParams, check handshake.CheckPeer, ledger *handshake.Ledger) (*handshake.Session, error) {
	if err := fl.upgradeDestination(ctx, dest, plan, ledger); err != nil {
		return nil, err
	}
	return fl.g.engine.Client(ctx, dest.Conn, params, check, ledger)
}

// sameProtocol says whether both legs speak the same application protocol, by what was
// agreed on with ALPN. One that was asked for TLS in a protocol need not be asked for the
// protocol in TLS: PostgreSQL 16 answers no ALPN, and 17 does.
func sameProtocol(plan *policy.Plan, client, dest string) bool {
	switch {
	case plan.DestUpgrade != upgrade.None:
		name := plan.DestUpgrade.ALPN()
		return (client == "" || client == name) && (dest == "" || dest == name)
	case plan.Upgrade != upgrade.None:
		return dest == plan.Upgrade.ALPN()
	}
	return dest == client
}

func quoteOrNone(s string) string {
	if s == "" {
		return "none"
	}
	return `"` + s + `"`
}

const (
	// lingerFor is how long a refused client has to read its alert and close:
	// a round trip or two over a bad line.
	lingerFor = time.Second
	// lingerBytes bounds what is read and thrown away meanwhile. One request, which a
	// client has typically sent already after its handshake, fits.
	lingerBytes = 64 << 10
)

// lingerClose ends a connection after an alert was sent: it sends a FIN, then reads and
// discards what the client still sends for a while. To close with unread data would send
// a RST, and the client's stack would drop the alert unread.
func lingerClose(c clientConn) {
	if err := c.CloseWrite(); err != nil {
		c.Reset()
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(lingerFor)) // fails only on a closed connection
	_, err := io.CopyN(io.Discard, c, lingerBytes)
	if errors.Is(err, io.EOF) {
		_ = c.Close()
		return
	}
	c.Reset()
}

// isReset says whether the other side, or its kernel, has thrown the
// connection away.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN)
}

// isLost says whether the other side stopped answering.
func isLost(err error) bool {
	return errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, os.ErrDeadlineExceeded)
}
