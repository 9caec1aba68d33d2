package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab"
)

// outcome is the result of a scenario, without its record.
type outcome struct {
	from, to netip.AddrPort
	view     View
	dialled  int // connections that reached the destination meanwhile
	checks   []Check

	raw       json.RawMessage // the record as written; nil until it is known
	second    *audit.Parsed   // the record of a second gateway on the path; nil for none
	secondRaw json.RawMessage
}

// Check is one further condition.
type Check struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	// Detail says what was seen instead; "" if OK.
	Detail string `json:"detail,omitempty"`
}

func check(what string, ok bool, format string, args ...any) Check {
	c := Check{What: what, OK: ok}
	if !ok {
		c.Detail = fmt.Sprintf(format, args...)
	}
	return c
}

// bypass checks whose certificate the client was shown.
func bypass(ctx context.Context, e *env, port uint16) (outcome, error) {
	c := client{dest: destBypass, sni: nameBypass, origin: true}
	o, err := e.connect(ctx, c, port)
	own := strings.Contains(o.view.Server, "CN="+nameBypass)
	o.checks = append(o.checks, check("the client sees the destination's own certificate", own, "it saw %q", o.view.Server))
	return o, err
}

// fragments sends a SYN in two IP fragments. A port match without defragmentation would let
// it pass straight to the server, uninspected.
func fragments(six bool) func(context.Context, *env, uint16) (outcome, error) {
	return func(ctx context.Context, e *env, port uint16) (outcome, error) {
		o := outcome{
			from: netip.AddrPortFrom(lab.ClientAddr(six), port),
			to:   netip.AddrPortFrom(lab.ServerAddr(destPay, six), 443),
		}
		before := e.origins.Accepted(o.to)
		answer, err := e.lab.Sniff(lab.Client, lab.ClientIface, func(p lab.Packet) bool {
			return p.Src == o.to && p.Dst == o.from && p.Flags == lab.SYN|lab.ACK
		})
		if err != nil {
			return o, err
		}
		defer func() { _ = answer.Close() }()
		wire, err := e.lab.Sniff(lab.Client, lab.ClientIface, func(p lab.Packet) bool {
			return p.Fragment && p.Src.Addr() == o.from.Addr() && p.Dst.Addr() == o.to.Addr()
		})
		if err != nil {
			return o, err
		}
		defer func() { _ = wire.Close() }()
		syn := lab.Segment{Src: o.from, Dst: o.to, Seq: 1, Flags: lab.SYN}
		frags, err := syn.Fragments(24, port)
		if err != nil {
			return o, err
		}
		if err := e.lab.SendRaw(lab.Client, frags...); err != nil {
			return o, err
		}
		wait, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		left := wire.Wait(wait, 2)
		waited := answer.Wait(wait, 1)
		// Wait a moment for packets that might still come out on the far side.
		pause(ctx, 200*time.Millisecond)
		dialled := e.origins.Accepted(o.to) - before
		// The client's kernel knows nothing of the forged SYN and resets.
		o.view = View{Seen: SeenRefused, Alert: handshake.AlertNone, Text: "SYN-ACK; no flow comes of it, for the SYN was forged"}
		if waited != nil {
			o.view = View{Seen: SeenNothing, Alert: handshake.AlertNone, Text: "no answer to the SYN"}
		}
		o.checks = append(
			o.checks,
			check("two fragments left the client", left == nil && wire.Count() == 2, "%d did", wire.Count()),
			check("the gateway answered the SYN", waited == nil, "%v", waited),
			check("the server was not reached", dialled == 0, "%d connections", dialled),
		)
		return o, nil
	}
}

// killed ends the gateway with SIGKILL while one client is in the middle of its hello and others
// connect, then starts it again.
func killed(ctx context.Context, e *env, port uint16) (outcome, error) {
	to := netip.AddrPortFrom(lab.ServerAddr(destPay, false), 443)
	o := outcome{from: netip.AddrPortFrom(lab.ClientAddr(false), port), to: to}
	before := e.origins.Accepted(to)
	if e.gateway == nil {
		return o, errors.New("no gateway is running")
	}

	dialCtx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	half, err := e.lab.Dial(dialCtx, lab.Client, "tcp", to.String())
	if err != nil {
		return o, fmt.Errorf("connect before the kill: %w", err)
	}
	defer func() { _ = half.Close() }()
	_, _ = half.Write([]byte("\x16\x03\x01")) // the beginning of a TLS record
	if err := e.gateway.Kill(); err != nil {
		return o, fmt.Errorf("kill the gateway: %w", err)
	}
	_ = half.SetDeadline(time.Now().Add(time.Second))
	_, _ = half.Write([]byte("\x02\x00"))
	n, _ := half.Read(make([]byte, 1))

	var got []string
	for _, six := range []bool{false, true} {
		c := pay(good, nil)
		c.six = six
		a, err := c.attempt(e.pki, 0)
		if err != nil {
			return o, err
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		v := a.run(short, e.lab)
		cancel()
		if v.Seen == SeenAnswer || v.Server != "" {
			got = append(got, v.Text)
		}
	}
	dialled := e.origins.Accepted(to) - before
	o.checks = append(
		o.checks,
		check("the half-open client got nothing", n == 0, "%d bytes", n),
		check("new clients got nothing, IPv4 and IPv6", len(got) == 0, "%v", got),
		check("the server was not reached", dialled == 0, "%d connections", dialled),
	)

	if e.gateway, err = StartGateway(ctx, e.lab, lab.Gateway, e.binary, e.config); err != nil {
		return o, fmt.Errorf("start the gateway again: %w", err)
	}
	again, err := e.connect(ctx, pay(good, nil), port)
	again.checks = append(o.checks, check("started again, it serves", again.view.Seen == SeenAnswer, "%s", again.view.Text))
	return again, err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
