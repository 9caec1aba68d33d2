package service

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/tun/tuntest"
)

// Each limit of the table in docs/operating.md that is met has its metric
// while that lasts, and its line in the log.
func TestLimitsAreToldOf(t *testing.T) {
	testenv.Slow(t)
	for _, c := range []struct {
		name, limits, log, metric string
		keys                      string // that lines of the log have, besides
		meet                      func(*house)
		serve                     func(*house, net.Conn)
		config                    [2]string // what of the configuration is otherwise, old and new
	}{
		{name: "flows", limits: "flows: 1", log: "limits.flows", metric: `sslgate_flows_total{reason="flow_limit",.*} 1`, meet: func(h *house) {
			c := h.good()
			defer c.Close()
			h.refusedSYN()
		}},
		{name: "flows of a client", limits: "flows_per_client: 1", log: "limits.flows_per_client", metric: `sslgate_flows_total{reason="client_limit",.*} 1`, meet: func(h *house) {
			c := h.good()
			defer c.Close()
			h.refusedSYN()
		}},
		{name: "half-open handshakes", log: "half-open handshakes", metric: `sslgate_stack_syn_cookies_total{event="sent"} [1-9]`, meet: (*house).synFlood},
		{
			name: "handshakes that give way", config: [2]string{"ports: [443]", `ports: "all", except_ports: []`}, log: "half-open handshakes", keys: "gave_way_to_newer_ones",
			metric: `sslgate_stack_handshakes_evicted_total [1-9]`, meet: (*house).synFlood,
		},
		{
			name: "dials of a destination", limits: "dials_per_destination: 1", config: [2]string{"{tls: plain}", "{tls: insecure}"}, log: "limits.dials_per_destination",
			metric: `sslgate_flows_total{reason="destination_limit",.*} 2`, serve: silent, meet: func(h *house) {
				for range 3 { // each has shown its certificate, and the first waits
					c, err := h.connect("pay.example", true)
					if err != nil {
						h.t.Fatal(err)
					}
					h.t.Cleanup(func() { _ = c.Close() })
				}
			},
		},
		{name: "behind a cookie", log: "segments behind a SYN cookie", metric: `sslgate_stack_early_packets_total{event="dropped"} [1-9]`, meet: func(h *house) {
			h.synFlood()
			h.metric(`sslgate_stack_syn_cookies_total{event="sent"} [1-9]`)
			src := netip.MustParseAddrPort("198.51.100.9:999")
			h.await(func() bool { // what waits is forgotten within 0.2 s: on a slow machine before it is too much
				for i := range 64 {
					h.far.Inject(lab.Segment{Src: src, Dst: houseServer, Seq: 8 + uint32(i), Ack: 1, Flags: lab.ACK, Payload: []byte("x")}.Packet())
				}
				return h.s.stack.Stats().EarlyDropped > 0
			})
		}},
		{name: "fragments", log: "fragments", metric: `sslgate_stack_fragments_total{event="evicted"} [1-9]`, meet: func(h *house) {
			for i := range 64 {
				two, err := lab.Segment{Src: netip.MustParseAddrPort("198.51.100.9:999"), Dst: houseServer, Flags: lab.ACK, Payload: make([]byte, 64)}.Fragments(24, uint16(1+i))
				if err != nil {
					h.t.Fatal(err)
				}
				h.far.Inject(two[0])
			}
		}},
		{name: "lingering flows", limits: "flows: 1", log: "lingering flows", metric: `sslgate_stack_lingering_resets_total 1`, meet: func(h *house) {
			var deaf []uint16
			for range 2 {
				c := h.good()
				deaf = append(deaf, c.LocalAddr().(*net.TCPAddr).AddrPort().Port())
				h.unheard(c, slices.Clone(deaf))
				h.await(func() bool { st := h.s.stack.Stats(); return st.FlowsLive == 0 && st.FlowsLingering == 1 })
			}
		}},
		{name: "hello", limits: "hello: 2KiB", log: "limits.hello", metric: `sslgate_flows_total{reason="hello_too_large",.*} 1`, meet: func(h *house) {
			h.say([]byte{22, 3, 1, 0x10, 0, 1, 0, 0x20, 0})
		}},
		{name: "time for the hello", limits: "handshake: 300ms", log: "limits.handshake", metric: `sslgate_flows_total{reason="hello_timeout",.*} 1`, meet: func(h *house) {
			h.say(nil)
		}},
		{name: "time for the handshake", limits: "handshake: 1s", log: "limits.handshake", metric: `sslgate_flows_total{reason="handshake_timeout",.*} 1`, meet: func(h *house) {
			h.halfHello("pay.example")
		}},
		{name: "handshakes", limits: "handshakes: 1, handshake: 3s", log: "limits.handshakes", keys: "reason waited", metric: `sslgate_handshake_turns_total{event="refused"} 2`, meet: func(h *house) {
			for range 1 + 4 + 2 {
				h.halfHello("pay.example")
			}
			h.metric(`sslgate_handshake_turns_total{event="waited"} 6`)
			h.metric(`sslgate_flows_total{reason="handshake_limit",.*} 2`)
		}},
		{name: "certificates", limits: "chain: 2", log: "limits.chain, limits.chain_bytes", metric: `sslgate_flows_total{reason="certificate_chain_too_long",.*} 1`, meet: (*house).longChain},
		{name: "their bytes", limits: "chain_bytes: 1KiB", log: "limits.chain, limits.chain_bytes", metric: `sslgate_flows_total{reason="certificate_chain_too_long",.*} 1`, meet: (*house).longChain},
		{name: "client does not read", limits: "stall: 1s", log: "limits.stall", metric: `sslgate_flow_ends_total{end="client_stalled"} 1`, serve: talkative, meet: func(h *house) {
			h.good() // and not another word
		}},
		{name: "destination does not read", limits: "stall: 3s", log: "limits.stall", metric: `sslgate_flow_ends_total{end="destination_stalled"} 1`, serve: deaf, meet: func(h *house) {
			c := h.good()
			go endless(c)
		}},
		{name: "idle", limits: "idle: 300ms", log: "limits.idle", metric: `sslgate_flow_ends_total{end="idle_timeout"} 1`, meet: func(h *house) {
			h.good()
		}},
		{name: "half closed", limits: "half_closed: 300ms", log: "limits.half_closed", metric: `sslgate_flow_ends_total{end="half_closed_timeout"} 1`, serve: deaf, meet: func(h *house) {
			_ = h.good().CloseWrite()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, func(h *house) {
				h.serve = c.serve
				limits := "limits: {drain: 100ms"
				if c.limits != "" {
					limits += ", " + c.limits
				}
				text := strings.Replace(houseConfig, "limits: {drain: 2s", limits, 1)
				if c.config[0] != "" && !strings.Contains(text, c.config[0]) {
					t.Fatalf("there is no %q to change", c.config[0])
				}
				h.put("sslgate.yaml", 0o644, []byte(strings.Replace(text, c.config[0], c.config[1], 1)))
			})
			c.meet(h)
			h.metric(c.metric)
			h.stop() // the counters are looked at for the last time
			lines := h.met(c.log)
			if len(lines) == 0 {
				t.Errorf("the log does not say that %s is met: %v", c.log, h.seen.All())
			}
			for _, key := range strings.Fields(c.keys) {
				if !slices.ContainsFunc(lines, func(l map[string]any) bool { return l[key] != nil }) {
					t.Errorf("no line about %s has %s: %v", c.log, key, lines)
				}
			}
		})
	}
}

// However often a limit is met, a look makes one line of each that was.
func TestLimitWatch(t *testing.T) {
	core, seen := observer.New(zap.InfoLevel)
	w := limitWatch{log: zap.New(core)}
	var now limitCounts
	w.look(now)
	now.stack.SYNCookiesSent, now.stack.EarlyDropped, now.turns.Waited = 100, 7, 3
	w.look(now)
	w.look(now)
	now.stack.EarlyDropped++
	w.look(now)
	var lines []string
	for _, e := range seen.TakeAll() {
		for _, f := range e.Context[1:] {
			lines = append(lines, e.Level.String()+" "+e.Context[0].String+" "+f.Key+" "+regexp.MustCompile(`\d+`).FindString(time.Duration(f.Integer).String()))
		}
	}
	want := "warn half-open handshakes answered_with_syn_cookie 100|warn segments behind a SYN cookie dropped 7|info limits.handshakes waited 3|warn segments behind a SYN cookie dropped 1"
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("logged\n%s\nwant\n%s", got, want)
	}
}

// met are the lines of the log which say that the limit is.
func (h *house) met(limit string) (lines []map[string]any) {
	for _, e := range h.seen.FilterMessage("limit met").All() {
		if fields := e.ContextMap(); fields["limit"] == limit {
			lines = append(lines, fields)
		}
	}
	return lines
}

// metric waits until a line of /metrics matches.
func (h *house) metric(line string) {
	h.t.Helper()
	re := regexp.MustCompile(`(?m)^` + line)
	var text []byte
	for deadline := testenv.Deadline(); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, text = h.ask("GET", "/metrics", "", nil); re.Match(text) {
			return
		}
	}
	name, _, _ := strings.Cut(line, "{")
	h.t.Fatalf("never %s; it is\n%s", line, strings.Join(regexp.MustCompile(`(?m)^`+name+`.*`).FindAllString(string(text), -1), "\n"))
}

func (h *house) await(cond func() bool) {
	h.t.Helper()
	testenv.Eventually(h.t, "what this line waits for", cond, func() any { return h.s.stack.Stats() })
}

func (h *house) refusedSYN() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	if c, err := h.client.Dial(ctx, houseServer); err == nil {
		_ = c.Close()
		h.t.Error("beyond the limit a flow was taken")
	}
}

// unheard ends a flow. What the gateway sends to the ports, its own among them,
// is lost, so that nobody acknowledges the last bytes.
func (h *house) unheard(c *tls.Conn, ports []uint16) {
	h.t.Helper()
	h.far.SetFilter(func(pkt []byte) bool {
		return !slices.Contains(ports, binary.BigEndian.Uint16(pkt[tuntest.HeaderLen+20+2:]))
	})
	if err := c.CloseWrite(); err != nil {
		h.t.Fatal(err)
	}
}

// synFlood sends more SYNs than a port may have half-open handshakes.
func (h *house) synFlood() {
	for i := range 1200 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 4242)
		h.far.Inject(lab.Segment{Src: src, Dst: houseServer, Seq: uint32(i), Flags: lab.SYN}.Packet())
	}
}

// say opens a flow, says so much and is silent then.
func (h *house) say(b []byte) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	c, err := h.client.Dial(ctx, houseServer)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write(b); err != nil {
		h.t.Fatal(err)
	}
}

// halfHello sends a client hello and no more.
func (h *house) halfHello(name string) {
	h.t.Helper()
	var hello []byte
	_ = tls.Client(&firstWrite{to: &hello}, &tls.Config{ServerName: name, RootCAs: h.ca.Pool()}).Handshake()
	h.say(hello)
}

// firstWrite keeps what is written first; nothing is ever read from it.
type firstWrite struct {
	net.Conn
	to *[]byte
}

func (f *firstWrite) Write(b []byte) (int, error) {
	if len(*f.to) == 0 {
		*f.to = append(*f.to, b...)
	}
	return len(b), nil
}
func (*firstWrite) Read([]byte) (int, error)         { return 0, io.EOF }
func (*firstWrite) Close() error                     { return nil }
func (*firstWrite) SetWriteDeadline(time.Time) error { return nil }

// longChain shows four certificates.
func (h *house) longChain() {
	h.t.Helper()
	cert := testpki.Must(h.ca.LongChain(testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}}, 3)).TLS()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	raw, err := h.client.Dial(ctx, houseServer)
	if err != nil {
		h.t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(testenv.Deadline())
	conn := tls.Client(raw, &tls.Config{
		RootCAs: h.ca.Pool(), ServerName: "pay.example",
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	})
	if err = conn.Handshake(); err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil || errors.Is(err, io.EOF) {
		h.t.Errorf("a long chain was taken: %v", err)
	}
}

// talkative answers five bytes and never stops.
func talkative(_ *house, c net.Conn) {
	b := make([]byte, 5)
	_, _ = io.ReadFull(c, b)
	_, _ = c.Write(b)
	endless(c)
}

// endless writes until the other side is gone.
func endless(c net.Conn) {
	block := make([]byte, 64<<10)
	for {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// deaf answers five bytes, reads no more and stays until the test is over.
func deaf(h *house, c net.Conn) {
	b := make([]byte, 5)
	_, _ = io.ReadFull(c, b)
	_, _ = c.Write(b)
	<-h.t.Context().Done()
}

// silent takes everything and answers nothing, not even a hello.
func silent(_ *house, c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// The rates of records of refusals come from the configuration, at the start and
// with each reload, which both ask gatewayLimits.
func TestRefusalRecordLimits(t *testing.T) {
	c := &config.Config{}
	c.Limits.RefusalRecords, c.Limits.RefusalRecordsPerClient = 30, 7
	if l := gatewayLimits(c); l.Refusals != 30 || l.RefusalsPerClient != 7 {
		t.Errorf("%+v", l)
	}
}
