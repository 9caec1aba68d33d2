package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// freeze stops the clock of the buckets, so that what they hold is all there is.
func (q *refusals) freeze() {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := time.Now()
	q.now = func() time.Time { return at }
}

// field is a number of a record, 0 where it is left out.
func (r rec) field(k string) int { n, _ := r[k].(float64); return int(n) }

// Whatever a client is refused for, it gets the records of its bucket and no more,
// another client gets all of its own, and what has none is counted.
func TestRefusalRecordsPerClient(t *testing.T) {
	const many, few, burst = 30, 8, refusalBurst
	spec := mtls()
	spec.Rules[0].SNI = []string{"pay.example"}
	hello := func(name string) func(*testing.T, *house, netip.AddrPort) {
		return func(t *testing.T, h *house, dst netip.AddrPort) {
			conn, err := h.tlsClient(dst, nil, func(c *tls.Config) { c.ServerName, c.MaxVersion = name, tls.VersionTLS12 })
			if err == nil {
				_ = conn.Close()
				t.Error("let through")
			}
		}
	}
	for _, c := range []struct {
		what   string
		reason reason.Code
		syn    bool
		try    func(*testing.T, *house, netip.AddrPort)
	}{
		{"plain HTTP", reason.PlainHTTP, false, func(_ *testing.T, h *house, dst netip.AddrPort) {
			conn := h.dial(dst)
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: pay.example\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}},
		{"no certificate", reason.NoCertificate, false, hello("pay.example")},
		{"unknown name", reason.SNIUnknown, false, hello("other.example")},
		{"refused SYN", reason.NoRule, true, func(t *testing.T, h *house, dst netip.AddrPort) {
			ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
			defer cancel()
			to := netip.MustParseAddrPort("198.51.100.1:443")
			if dst.Addr().Is6() {
				to = netip.MustParseAddrPort("[2001:db8:9::1]:443")
			}
			if conn, err := h.client.Dial(ctx, to); err == nil {
				_ = conn.Close()
				t.Error("the SYN was answered")
			}
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			var told atomic.Int64
			h := newHouse(t, spec, nil, func(g *Config) {
				g.Limits.Refusals, g.Limits.RefusalsPerClient = 100, 1
				g.Finished = func(*audit.Record) { told.Add(1) }
			})
			h.gw.refusals.freeze()
			for range many {
				c.try(t, h, server4)
			}
			for range few {
				c.try(t, h, server6)
			}
			if !c.syn { // a flow is told of when it ends, and its client may know before
				waitUntil(t, func() bool { return told.Load() == many+few })
			}
			// Let through, it is recorded; and then it is the last that is refused.
			if err := h.try(h.alice()); err != nil {
				t.Fatal(err)
			}
			c.try(t, h, server4)
			if !c.syn {
				waitUntil(t, func() bool { return told.Load() == many+few+2 })
			}
			h.stop()
			kind := "suppressed_flows"
			if c.syn {
				kind = "suppressed"
			}
			var records, others, suppressed, ofClient, allowed int
			for _, r := range h.records.all(t) {
				suppressed += r.field("suppressed") + r.field("suppressed_flows")
				if r.field(kind) != r.field("suppressed")+r.field("suppressed_flows") {
					t.Errorf("counted as the other kind: %v", r)
				}
				switch from := netip.MustParseAddrPort(r.str("client")).Addr(); {
				case r.str("verdict") == "allowed":
					allowed++
				case r.str("reason") != string(c.reason):
					t.Errorf("%s: %s", r.str("reason"), r.str("detail"))
				case from == client6:
					others++
					if r.field("suppressed_client") != 0 {
						t.Errorf("records of another client are missing: %v", r)
					}
				default:
					records++
					ofClient += r.field("suppressed_client")
				}
			}
			if allowed != 1 || others != few || records != burst+1 {
				t.Errorf("%d records of flows let through, %d of the other client's refusals, %d of the flood; want 1, %d, %d", allowed, others, records, few, burst+1)
			}
			if records+others+suppressed != many+few+1 || records+ofClient != many+1 {
				t.Errorf("%d + %d records, %d counted, %d as the client's; %d were refused", records, others, suppressed, ofClient, many+few+1)
			}
			if syns, flows := h.gw.Unrecorded(); int(syns+flows) != suppressed || c.syn != (syns > 0) || c.syn == (flows > 0) {
				t.Errorf("Unrecorded: %d SYNs, %d flows; the records count %d", syns, flows, suppressed)
			}
			if !c.syn && told.Load() != many+few+2 {
				t.Errorf("metrics were told of %d flows", told.Load())
			}
		})
	}
}

// A verified client whose destination is dead was let through: each of its flows
// has its record.
func TestLetThroughIsAlwaysRecorded(t *testing.T) {
	h := newHouse(t, mtls(), nil, func(g *Config) {
		g.Limits.Refusals, g.Limits.RefusalsPerClient = 1, 1
		g.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, errors.New("unreachable") }
	})
	h.gw.refusals.freeze()
	const flows = 2*refusalBurst + 1
	for range flows {
		_ = h.try(h.alice())
	}
	h.stop()
	if n := len(h.records.all(t)); n != flows {
		t.Errorf("%d records of %d flows", n, flows)
	}
}

// A reload changes the rates.
func TestRefusalRatesAreReloaded(t *testing.T) {
	var told atomic.Int64
	h := newHouse(t, mtls(), nil, func(g *Config) {
		g.Limits.Refusals, g.Limits.RefusalsPerClient = 1000, 1000
		g.Finished = func(*audit.Record) { told.Add(1) }
	})
	now := h.gw.current.Load()
	l := now.limits
	l.RefusalsPerClient = 1
	setPolicy(h.gw, now.set, nil, l)
	h.gw.refusals.freeze()
	const flows = 2 * refusalBurst
	for range flows {
		_ = h.try(nil)
	}
	waitUntil(t, func() bool { return told.Load() == flows }) // who ends after the stop is recorded in any case
	h.stop()
	if n := len(h.records.all(t)); n != refusalBurst+1 { // and the one that was held
		t.Errorf("%d records of %d flows", n, flows)
	}
}

// However refusals come, from few or too many clients, with a queue that is full or
// not: they are the sum of the records and of what these count.
func TestRefusalsAddUp(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var records, counted int64
			write := func(r *audit.Record) {
				records++
				counted += r.Suppressed + r.SuppressedFlows
			}
			q := newRefusals(write, write)
			at := time.Now()
			q.now = func() time.Time { return at }
			l := Limits{Refusals: 1 + rnd.IntN(200), RefusalsPerClient: 1 + rnd.IntN(50)}
			clients := 1 + rnd.IntN(2*refusalClients)
			const refused = 40_000
			for range refused {
				at = at.Add(time.Duration(rnd.IntN(2_000_000)))
				n := rnd.IntN(clients)
				src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1)
				r := audit.NewRecord("", at, src, server4)
				if rnd.IntN(2) == 0 {
					q.syn(src.Addr(), l, func() *audit.Record { return r })
				} else if q.flow(r, l) {
					write(r)
				}
				if rnd.IntN(5000) == 0 {
					q.flush(false)
				}
				if rnd.IntN(3000) == 0 {
					for len(q.queue) > 0 {
						write(<-q.queue)
					}
				}
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			q.run(ended)
			if records+counted != refused || uint64(counted) != q.syns.total+q.flows.total {
				t.Errorf("%d records count %d more, %d were refused, in total %d and %d", records, counted, refused, q.syns.total, q.flows.total)
			}
			if len(q.clients) > refusalClients {
				t.Errorf("%d clients are remembered", len(q.clients))
			}
		})
	}
}
