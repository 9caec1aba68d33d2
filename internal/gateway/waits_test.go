package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/policy"
)

// deadAddr is a destination that never answers, quickAddr one that does.
var (
	deadAddr  = netip.MustParseAddrPort("203.0.113.66:443")
	quickAddr = server6
)

// silentDest answers the TCP handshake of deadAddr and then nothing: what is sent
// to it is read, or, with drip, answered with a byte now and then.
type silentDest struct {
	ln   net.Listener
	stop chan struct{}
	wg   sync.WaitGroup
	seen chan struct{} // one for each connection
}

func newSilentDest(t *testing.T, drip bool) *silentDest {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &silentDest{ln: ln, stop: make(chan struct{}), seen: make(chan struct{}, 1000)}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.seen <- struct{}{}
			s.wg.Go(func() {
				defer c.Close()
				if !drip {
					<-s.stop
					return
				}
				// A record's header, and its body by the byte.
				_, _ = c.Write([]byte{22, 3, 3, 0x40, 0})
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
						if _, err := c.Write([]byte{2}); err != nil {
							return
						}
					case <-s.stop:
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { close(s.stop); _ = ln.Close(); s.wg.Wait() })
	return s
}

// dialsBy dials deadAddr by dead, everything else as the house does.
func dialsBy(dead func(ctx context.Context) (net.Conn, error)) option {
	return func(c *Config) {
		usual := c.Dial
		c.Dial = func(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
			if dst == deadAddr {
				return dead(ctx)
			}
			return usual(ctx, dst)
		}
	}
}

// waitRules lead to deadAddr with TLS there, and to the others in plain.
func waitRules(first bool) policy.Spec {
	spec := mtls()
	dead := spec.Rules[0]
	dead.Name, dead.To = "dead", []string{"203.0.113.66:443"}
	dead.Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}, Name: "pay.example"}
	if first {
		dead.Destination.Dial = "first"
	}
	spec.Rules = append([]policy.RuleSpec{dead}, spec.Rules...)
	return spec
}

// A wait of one flow delays no other flow: with two turns in total, and dozens of flows that
// wait for a destination, a responder or their client, another client has its handshake at
// once.
func TestNoTurnWhileAnotherIsWaitedFor(t *testing.T) {
	const many = 24
	swallow := func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	responder := &hangingResponder{}
	for _, c := range []struct {
		name  string
		first bool
		// dest makes the dead destination; nil: none is needed
		dest func(t *testing.T) func(context.Context) (net.Conn, error)
		opt  option
		// begin makes a flow that waits.
		begin func(h *house, alice *tls.Certificate)
		// waits counts them.
		waits func(h *house) int
	}{
		{"dial: first, SYN swallowed", true, func(*testing.T) func(context.Context) (net.Conn, error) { return swallow }, nil, handshakes, dials},
		{"dial: first, silent after accept", true, silently(false), nil, handshakes, dials},
		{"dial: first, dripping TLS handshake", true, silently(true), nil, handshakes, dials},
		{"dial: verified, silent after accept", false, silently(false), nil, handshakes, dials},
		{"hard revocation, responder hangs", false, nil, func(c *Config) { c.Revocation = responder }, handshakes,
			func(h *house) int { return h.gw.Handshakes().ForOthers }},
		{"clients that stop after their hello", false, nil, nil, func(h *house, _ *tls.Certificate) { h.slow(deadAddr) },
			func(h *house) int { return h.gw.Handshakes().ForClient }},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := []option{limited(Limits{Handshakes: 2, HandshakesPerClient: 2 * many, HandshakesPerSecond: 100_000, Dial: 3 * time.Second})}
			if c.dest != nil {
				opts = append(opts, dialsBy(c.dest(t)))
			}
			if c.opt != nil {
				opts = append(opts, c.opt)
			}
			h := newHouse(t, waitRules(c.first), nil, opts...)
			setPolicy(h.gw, h.gw.current.Load().set, nil, longer(h))
			responder.asksSilence(t, h.ca)
			alice, bob := h.alice(), ptr(testpki.Must(h.ca.Issue(testpki.Leaf{CN: "bob"})).TLS())
			for i := range many { // one by one: few may wait for a turn
				c.begin(h, alice)
				waitUntil(t, func() bool { return c.waits(h) == i+1 })
			}
			for range 3 {
				conn, err := h.tlsClient(quickAddr, bob, nil)
				if err != nil {
					t.Fatalf("the other client: %v, %+v", err, h.gw.Handshakes())
				}
				echo(t, conn)
				_ = conn.Close()
			}
			if n := c.waits(h); n != many {
				t.Errorf("only %d of %d still waited: the other client may have waited for them", n, many)
			}
			h.gw.Each(func(l *Live) { l.End(reason.EndOperator) })
			waitUntil(t, func() bool { return h.gw.Flows() == 0 })
			waitUntil(t, func() bool { s := h.gw.Handshakes(); return s.InFlight == 0 && s.Waiting == 0 })
			if n, _ := h.gw.Dials(); n != 0 {
				t.Errorf("%d flows are still counted as dialling", n)
			}
		})
	}
}

// longer are limits whose deadlines no test meets.
func longer(h *house) Limits {
	l := h.gw.current.Load().limits
	l.Handshake, l.Dial = time.Minute, time.Minute
	return l
}

func silently(drip bool) func(t *testing.T) func(context.Context) (net.Conn, error) {
	return func(t *testing.T) func(context.Context) (net.Conn, error) {
		d := newSilentDest(t, drip)
		return func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", d.ln.Addr().String())
		}
	}
}

func dials(h *house) int { n, _ := h.gw.Dials(); return n }

// handshakes makes a flow to deadAddr of a client with a certificate.
func handshakes(h *house, alice *tls.Certificate) {
	raw := h.dial(deadAddr)
	conn := tls.Client(raw, &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*alice}})
	go func() { _ = conn.Handshake() }() // ends with the connection
}

// hangingResponder has a Checker ask a responder that never answers about every
// client but bob.
type hangingResponder struct{ lateChecker }

func (r *hangingResponder) Check(ctx context.Context, peer *handshake.Peer, now time.Time) revocation.Result {
	if peer.Leaf().Subject.CommonName == "bob" {
		return revocation.Result{Mode: revocation.Off}
	}
	return r.lateChecker.Check(ctx, peer, now)
}

// asksSilence gives the house a Checker that asks a silent responder.
func (r *hangingResponder) asksSilence(t *testing.T, ca *testpki.CA) {
	t.Helper()
	c, err := revocation.New([]revocation.Authority{{
		Name: "staff", Mode: revocation.Hard, Roots: []*x509.Certificate{ca.Root}, Intermediates: []*x509.Certificate{ca.Cert},
		OCSP: &revocation.OCSP{URL: "http://" + newSilentDest(t, false).ln.Addr().String() + "/", Timeout: time.Minute},
	}}, revocation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.c = c
}

// One destination holds a bounded number of flows of all clients together. Over the bound the
// client with the most loses its newest, and a client without any is let in. Other
// destinations are not affected.
func TestDialsPerDestination(t *testing.T) {
	swallow := func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	for _, first := range []bool{true, false} {
		h := newHouse(t, waitRules(first), nil, limited(Limits{Dial: time.Minute, DialsPerDestination: 5}), dialsBy(func(ctx context.Context) (net.Conn, error) { return swallow(ctx) }))
		setPolicy(h.gw, h.gw.current.Load().set, nil, longer(h))
		alice := h.alice()
		for range 5 {
			handshakes(h, alice)
		}
		waitUntil(t, func() bool { return dials(h) == 5 })
		for range 2 { // the greedy client's own: refused
			handshakes(h, alice)
		}
		for n := range 2 {
			if r := h.record(n + 1); r.str("reason") != string(reason.DestinationLimit) || r.str("detail") == "" || r.str("verdict") != "refused" {
				t.Errorf("dial first %v: %v", first, r)
			}
		}
		conn, err := h.tlsClient(quickAddr, alice, nil)
		if err != nil {
			t.Fatalf("another destination: %v", err)
		}
		echo(t, conn)
		_ = conn.Close()
		h.gw.Each(func(l *Live) { l.End(reason.EndOperator) })
		waitUntil(t, func() bool { return h.gw.Flows() == 0 })
		if dials(h) != 0 {
			t.Errorf("%d still counted", dials(h))
		}
	}
}

// The client with the most flows gives way to one with few. None gives way to a client that
// would then have as many.
func TestDialsGiveWay(t *testing.T) {
	d := newDialsUnderWay()
	dst := netip.MustParseAddr("203.0.113.66")
	greedy, other := netip.MustParseAddr("2001:db8:9::1"), netip.MustParseAddr("192.0.2.7")
	var ctxs []context.Context
	var dones []func()
	begin := func(a netip.Addr) *handshake.Error {
		ctx, done, e := d.begin(t.Context(), dst, a, 4)
		if e == nil {
			ctxs, dones = append(ctxs, ctx), append(dones, done)
		}
		return e
	}
	for i := range 4 {
		a := greedy.As16()
		a[15] = byte(i) // addresses of one /64 are one client
		if e := begin(netip.AddrFrom16(a)); e != nil {
			t.Fatal(e)
		}
	}
	if e := begin(other); e != nil || !errors.Is(context.Cause(ctxs[3]), errDestinationLimit) || ctxs[2].Err() != nil {
		t.Errorf("the other's first: %v; the newest of the greedy: %v", e, context.Cause(ctxs[3]))
	}
	if e := begin(netip.AddrFrom4([4]byte{192, 0, 2, 8})); e != nil || ctxs[2].Err() == nil {
		t.Errorf("a third client: %v", e)
	}
	if e := begin(other); e == nil || e.Reason != reason.DestinationLimit {
		t.Errorf("the other's second, where the greedy has two: %v", e)
	}
	if ctx, done, e := d.begin(t.Context(), netip.MustParseAddr("203.0.113.67"), greedy, 4); e != nil {
		t.Errorf("another destination: %v", e)
	} else if done(); ctx.Err() == nil {
		t.Error("what is done goes on")
	}
	for _, done := range dones {
		done()
		done()
	}
	if len(d.waiting) != 0 {
		t.Errorf("%d destinations are left", len(d.waiting))
	}
}

// A flow that was let through and is ended while it waits for its destination was not failed by
// the destination: the record has the verdict, and how it ended.
func TestEndedBeforeItsDestination(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(h *house)
		want reason.Code
	}{
		{"revoked", func(h *house) { h.gw.Each(func(l *Live) { l.End(reason.EndRevoked) }) }, reason.EndRevoked},
		{"by the operator", func(h *house) { h.gw.Each(func(l *Live) { l.End(reason.EndOperator) }) }, reason.EndOperator},
		{"the gateway stops", func(h *house) { h.stop() }, reason.EndDrain},
	} {
		for name, dest := range map[string]func(*testing.T) func(context.Context) (net.Conn, error){
			"dials": func(*testing.T) func(context.Context) (net.Conn, error) {
				return func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
			},
			"handshake": silently(false),
		} {
			t.Run(c.name+", "+name, func(t *testing.T) {
				h := newHouse(t, waitRules(false), nil, dialsBy(dest(t)))
				setPolicy(h.gw, h.gw.current.Load().set, nil, longer(h))
				handshakes(h, h.alice())
				waitUntil(t, func() bool {
					granted := false
					h.gw.Each(func(l *Live) { _, _, granted = l.Granted() })
					return granted && dials(h) == 1
				})
				c.end(h)
				r := h.record(1)
				if r.str("verdict") != "allowed" || r.str("reason") != "verified" || r.str("end") != string(c.want) || r.str("detail") != "" || r.str("alert_wanted") != "" || r["setup_us"] != nil {
					t.Errorf("%v", r)
				}
			})
		}
	}
}

// A flow that is ended before it is let through has one reason, whatever it waited for: that is
// not to blame. One that was refused before has the reason of that.
func TestEndedUndecided(t *testing.T) {
	responder := &hangingResponder{}
	hold := func(context.Context) (net.Conn, error) { return nil, errors.New("nobody dials") }
	for _, wait := range []struct {
		name  string
		first bool // the rule's destination is dialled first
		dest  func(*testing.T) func(context.Context) (net.Conn, error)
		opts  []option
		begin func(h *house)
		waits func(h *house) bool
	}{
		{
			"the destination's answer", true,
			func(*testing.T) func(context.Context) (net.Conn, error) {
				return func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
			}, nil,
			func(h *house) { handshakes(h, h.alice()) }, func(h *house) bool { return dials(h) == 1 },
		},
		{"the destination's handshake", true, silently(false), nil, func(h *house) { handshakes(h, h.alice()) }, func(h *house) bool { return dials(h) == 1 }},
		{"its hello", false, nil, nil, func(h *house) { _ = h.dial(deadAddr) }, func(h *house) bool { return h.gw.Flows() == 1 }},
		{"the client's messages", false, nil, nil, func(h *house) { h.slow(deadAddr) }, func(h *house) bool { return h.gw.Handshakes().ForClient == 1 }},
		{
			"a responder", false, nil, []option{func(c *Config) { c.Revocation = responder }},
			func(h *house) { handshakes(h, h.alice()) }, func(h *house) bool { return h.gw.Handshakes().ForOthers == 1 },
		},
		{
			"its turn", false, nil, []option{limited(Limits{Handshakes: 1, HandshakesPerClient: 1, HandshakesPerSecond: 1000})},
			func(h *house) {
				turn, err := h.gw.Turns().Begin(h.t.Context(), client6)
				if err != nil {
					h.t.Fatal(err)
				}
				h.t.Cleanup(turn.End)
				handshakes(h, h.alice())
			}, func(h *house) bool { return h.gw.Handshakes().Waiting == 1 },
		},
	} {
		for name, c := range map[string]struct {
			end  func(h *house)
			want reason.Code
		}{
			"the operator": {func(h *house) { h.gw.Each(func(l *Live) { l.End(reason.EndOperator) }) }, reason.EndOperator},
			"the stop":     {func(h *house) { h.stop() }, reason.EndDrain},
		} {
			t.Run(wait.name+", "+name, func(t *testing.T) {
				dest := hold
				if wait.dest != nil {
					dest = wait.dest(t)
				}
				h := newHouse(t, waitRules(wait.first), nil, append(wait.opts, dialsBy(dest))...)
				setPolicy(h.gw, h.gw.current.Load().set, nil, longer(h))
				responder.asksSilence(t, h.ca)
				wait.begin(h)
				waitUntil(t, func() bool { return wait.waits(h) })
				c.end(h)
				r := h.record(1)
				if r.str("verdict") != "failed" || r.str("reason") != string(reason.EndedUndecided) || r.str("end") != string(c.want) || r.str("detail") != "" || r.str("alert_wanted") != "" {
					t.Errorf("%v", r)
				}
			})
		}
	}
}
