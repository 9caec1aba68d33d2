package bogo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// The exit codes that the runner knows.
const (
	exitOK            = 0
	exitFailed        = 1
	exitUnimplemented = 89
)

// connectionTime bounds one connection. The runner's own patience is 15 seconds.
const connectionTime = 40 * time.Second

// shim is one run.
type shim struct {
	engine  handshake.Engine
	kind    handshake.EngineKind
	tickets *ticket.Keys
}

// Run is the shim. It returns its exit code. `-config ENGINE` alone writes the runner's
// configuration instead, `-compare STD NATIVE` compares two files of its results.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == "-config" {
		config, err := Config(args[1])
		if err != nil {
			fmt.Fprintln(stderr, err)
			return exitFailed
		}
		fmt.Fprintf(stdout, "%s\n", config)
		return exitOK
	}
	if len(args) == 3 && args[0] == "-compare" {
		return compareFiles(args[1], args[2], stdout, stderr)
	}
	first, later, err := parse(args)
	if err == nil && first.has("is-handshaker-supported") {
		fmt.Fprintln(stdout, "No")
		return exitOK
	}
	if err == nil {
		err = run(ctx, first, later)
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUnimplemented):
		fmt.Fprintln(stderr, err)
		return exitUnimplemented
	}
	fmt.Fprintln(stderr, err)
	return exitFailed
}

func run(ctx context.Context, first, later *options) error {
	s := &shim{engine: engines.New(), tickets: ticket.NewKeys(time.Hour)}
	switch first.text("engine") {
	case "", "std":
	case "native":
		s.kind = handshake.EngineNative
	default:
		return fmt.Errorf("-engine %q: std or native", first.text("engine"))
	}
	again, err := first.number("resume-count", 0)
	if err != nil {
		return err
	}
	if again > 0 && !first.has("server") {
		return unimplemented("a client that resumes")
	}
	for i, o := 0, first; i <= again; i, o = i+1, later {
		if err := s.connection(ctx, o, i > 0); err != nil {
			return err
		}
	}
	return nil
}

// connection makes one, and what the test wants of it.
func (s *shim) connection(ctx context.Context, o *options, resumes bool) error {
	ctx, cancel := context.WithTimeout(ctx, connectionTime)
	defer cancel()
	c := &connection{shim: s, o: o, resumes: resumes, ledger: handshake.NewLedger(time.Now())}
	open, err := c.prepare()
	if err != nil {
		return err
	}
	if c.raw, err = dial(ctx, o); err != nil {
		return err
	}
	defer func() { _ = c.raw.Close() }()
	deadline, _ := ctx.Deadline()
	if err = open(ctx); err == nil {
		_ = c.raw.SetDeadline(deadline)
		err = c.exchange()
	}
	if err == nil || errors.Is(err, errUnimplemented) {
		return err
	}
	// The alert shall arrive: a connection that is closed with unread data is reset.
	_ = c.raw.CloseWrite()
	_ = c.raw.SetReadDeadline(deadline)
	_, _ = io.Copy(io.Discard, c.raw)
	return c.told(err)
}

// dial connects to the runner and says which shim this is.
func dial(ctx context.Context, o *options) (*net.TCPConn, error) {
	host := "127.0.0.1"
	if o.has("ipv6") {
		host = "::1"
	}
	id, err := strconv.ParseUint(o.text("shim-id"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("-shim-id: %w", err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, o.text("port")))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(binary.LittleEndian.AppendUint64(nil, id)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// connection is one under way.
type connection struct {
	shim    *shim
	o       *options
	resumes bool // a session is to be gone on with
	raw     *net.TCPConn
	ledger  *handshake.Ledger
	session *handshake.Session
}

// prepare makes the plan, and returns what makes the handshake.
func (c *connection) prepare() (func(context.Context) error, error) {
	if !c.o.has("server") {
		p, err := c.shim.clientPlan(c.o)
		return func(ctx context.Context) error { return c.client(ctx, p) }, err
	}
	p, err := c.shim.serverPlan(c.o)
	return func(ctx context.Context) error { return c.server(ctx, p) }, err
}

// server does what the gateway does with a client.
func (c *connection) server(ctx context.Context, p *handshake.ServerParams) error {
	hello, conn, err := handshake.Peek(ctx, c.raw, 0)
	if err != nil {
		e := handshake.AsError(err)
		if handshake.SendAlert(c.raw, e.Wanted, 0) == nil && e.Wanted != handshake.AlertNone {
			c.ledger.NoteAlert(e.Step, handshake.SideUs, e.Wanted)
		}
		return err
	}
	if c.session, err = c.shim.engine.Server(ctx, conn, hello, p, c.judge(handshake.StepClientVerified, reason.UnknownCA), c.ledger); err != nil {
		return err
	}
	c.session.Grant()
	if want := c.resumes && !c.o.has("expect-session-miss"); c.session.Resumed != want {
		return fmt.Errorf("resumed: %v, expected %v", c.session.Resumed, want)
	}
	return check(c.o, c.session, hello)
}

func (c *connection) client(ctx context.Context, p *handshake.ClientParams) (err error) {
	c.session, err = c.shim.engine.Client(ctx, c.raw, p, c.judge(handshake.StepServerVerified, reason.UpstreamUnknownCA), c.ledger)
	if err != nil && c.shim.kind == handshake.EngineNative && c.ledger.AlertReceived() == handshake.AlertProtocolVersion {
		return unimplemented("TLS 1.2 towards destinations, which is all that this test speaks: %v", err)
	}
	if err != nil {
		return err
	}
	if err := checkNames(c.o, c.ledger); err != nil {
		return err
	}
	return check(c.o, c.session, nil)
}

// judge refuses whom the test wants refused.
func (c *connection) judge(step handshake.Step, code reason.Code) handshake.CheckPeer {
	return func(peer *handshake.Peer, state *handshake.State) error {
		if peer == nil || !c.o.has("verify-fail") || state.Resumed && !c.o.has("reverify-on-resume") {
			return nil
		}
		e := handshake.Refuse(step, code, "the test wants it so")
		if e.Wanted = handshake.AlertHandshakeFailure; c.o.has("use-custom-verify-callback") {
			e.Wanted = handshake.AlertUnknownCA
		}
		return e
	}
}

// told adds the alerts to an error: the runner's expectations are mapped to them.
func (c *connection) told(err error) error {
	return fmt.Errorf("%w; sent %s; received %s", err, c.ledger.AlertSent(), c.ledger.AlertReceived())
}
