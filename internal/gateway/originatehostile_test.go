package gateway

import (
	"crypto/tls"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack/stacktest"
)

// A client that speaks TLS at a rule that originates is refused with an alert that it can
// read, also where its hello comes a byte in each segment, and after the server has spoken.
// What comes before the sixth byte tells it from nothing and is data; the hello itself goes
// nowhere.
func TestOriginateHelloInPieces(t *testing.T) {
	var o tlsOrigin
	got := make(chan string, 10)
	h := newHouse(t, originate(nil), o.serve(func(c *tls.Conn) {
		_, _ = c.Write([]byte("220 ready\r\n"))
		b, _ := io.ReadAll(c)
		got <- string(b)
	}))
	o.show(h.server)
	for i, silent := range []bool{false, true} {
		c := h.dial(server4)
		if silent { // only a client that waits for the greeting knows that the flow is relayed
			if _, err := io.ReadFull(c, make([]byte, 11)); err != nil {
				t.Fatal(err)
			}
		}
		// A small hello: what follows the alert is read for a second only.
		err := tls.Client(&singleBytes{Conn: c}, &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}}).Handshake()
		if err == nil {
			t.Fatal("a handshake with whoever")
		}
		if silent && err.Error() != "remote error: tls: unexpected message" {
			t.Errorf("silent first: %v", err)
		}
		_ = c.Close()
		r := h.record(i + 1)
		if r.str("reason") != "client_speaks_tls" || r.str("verdict") != "refused" || r.str("alert_sent") != "unexpected_message(10)" {
			t.Errorf("silent first %t, the record: %v", silent, r)
		}
		if up, _ := r["bytes_up"].(float64); up >= clientHelloStart {
			t.Errorf("silent first %t: %v bytes went up", silent, up)
		}
		if s := testenv.Receive(t, "what the destination read", got); len(s) >= clientHelloStart || !strings.HasPrefix("\x16\x03\x01", s[:min(len(s), 3)]) {
			t.Errorf("silent first %t: the destination read %q", silent, s)
		}
	}
}

// singleBytes sends each byte alone.
type singleBytes struct{ net.Conn }

func (c *singleBytes) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// Whatever a client does while the destination is waited for, and after, the flow ends with
// a record and holds nothing.
func TestOriginateClientLeaves(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(t *testing.T, c *stacktest.Conn, release func())
		end   string // of the record
	}{
		"reset while the destination is silent": {func(_ *testing.T, c *stacktest.Conn, release func()) {
			_, _ = c.Write([]byte("secret"))
			c.Reset()
			release()
		}, "client_reset"},
		"closed at once": {func(t *testing.T, c *stacktest.Conn, release func()) {
			_ = c.CloseWrite()
			release()
			if b, err := io.ReadAll(c); err != nil || string(b) != "220 ready\r\n" {
				t.Errorf("reads %q, %v", b, err)
			}
		}, "closed"},
		"half-closed with its words": {func(t *testing.T, c *stacktest.Conn, release func()) {
			_, _ = c.Write([]byte("secret"))
			_ = c.CloseWrite()
			release()
			if b, err := io.ReadAll(c); err != nil || string(b) != "220 ready\r\nsecret" {
				t.Errorf("reads %q, %v", b, err)
			}
		}, "closed"},
		"reset in the middle": {func(t *testing.T, c *stacktest.Conn, release func()) {
			release()
			if _, err := io.ReadFull(c, make([]byte, 11)); err != nil {
				t.Fatal(err)
			}
			c.Reset()
		}, "client_reset"},
	} {
		t.Run(name, func(t *testing.T) {
			var o tlsOrigin
			hold := make(chan struct{})
			serve := o.serve(func(c *tls.Conn) {
				_, _ = c.Write([]byte("220 ready\r\n"))
				echoTLS(c)
			})
			h := newHouse(t, originate(nil), func(c net.Conn) { <-hold; serve(c) })
			o.show(h.server)
			conn := h.dial(server4)
			released := false
			release := func() {
				if !released {
					released = true
					close(hold)
				}
			}
			defer release()
			c.leave(t, conn, release)
			_ = conn.Close()
			if r := h.record(1); r.str("reason") != "originated" || r.str("end") != c.end {
				t.Errorf("the record: %v", r)
			}
			testenv.Eventually(t, "the flow is gone", func() bool { return h.gw.Flows() == 0 })
		})
	}
}

// A destination that does not do what the rule means ends the flow with a reason, and reads
// nothing of the client; what it says outside of TLS does not reach the client.
func TestOriginateHostileDestination(t *testing.T) {
	short := func(cfg *Config) { cfg.Limits.Dial = testenv.Scaled(500 * time.Millisecond) }
	for name, c := range map[string]struct {
		serve  func(net.Conn)
		opts   []option
		reason string
	}{
		"it speaks without TLS": {func(c net.Conn) { _, _ = io.WriteString(c, "220 mail ready, no TLS here\r\n"); drain(c) }, nil, "destination_handshake_failed"},
		"garbage":               {func(c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("\xff", 1<<16)); drain(c) }, nil, "destination_handshake_failed"},
		"a record of 64 KiB": {func(c net.Conn) {
			_, _ = io.WriteString(c, "\x16\x03\x03\xff\xff"+strings.Repeat("\x02", 1<<16))
			drain(c)
		}, nil, "destination_handshake_failed"},
		"it closes": {func(c net.Conn) {}, nil, "destination_handshake_failed"},
		"it resets": {func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_ = c.(*noting).Conn.(*net.TCPConn).SetLinger(0)
		}, nil, "destination_handshake_failed"},
		"it says nothing": {drain, []option{short}, "destination_handshake_timeout"},
		"an alert": {func(c net.Conn) {
			_, _ = io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28")
			drain(c)
		}, nil, "destination_refused_us"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &tlsOrigin{}
			h := newHouse(t, originate(nil), func(raw net.Conn) { c.serve(&noting{Conn: raw, o: o}) }, c.opts...)
			if b, err := h.tells("secret"); err == nil || len(b) > 0 {
				t.Errorf("the client reads %q, %v", b, err)
			}
			if r := h.record(1); r.str("reason") != c.reason || r.str("verdict") != "failed" || r.str("detail") == "" && c.reason != "destination_refused_us" {
				t.Errorf("the record: %v", r)
			}
			h.stop()
			if o.saw([]byte("secret")) {
				t.Error("the destination got the client's bytes")
			}
		})
	}
}

// drain reads until the other side ends.
func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// proxy_protocol: v2 tells the destination the client's addresses before TLS begins, and
// nothing of TLS with the client, of which there is none.
func TestOriginateProxyHeader(t *testing.T) {
	var o tlsOrigin
	headers := make(chan *proxyproto.Header, 1)
	serve := o.serve(echoTLS)
	h := newHouse(t, originate(func(r *policy.RuleSpec) { r.Destination.ProxyProtocol = "v2" }), func(c net.Conn) {
		pc := proxyproto.NewConn(c)
		headers <- pc.ProxyHeader()
		serve(pc)
	})
	o.show(h.server)
	conn := h.dial(server4)
	echo(t, conn)
	from := conn.LocalAddr().String()
	_ = conn.Close()
	head := testenv.Receive(t, "the header", headers)
	if head == nil || head.SourceAddr.String() != from || head.DestinationAddr.String() != server4.String() {
		t.Fatalf("header %+v, want from %s", head, from)
	}
	if tlvs, err := head.TLVs(); err != nil || len(tlvs) != 0 {
		t.Errorf("a client without TLS has %v, %v", tlvs, err)
	}
	if r := h.record(1); r.str("reason") != "originated" {
		t.Errorf("the record: %v", r)
	}
}

// A rule for each client network lends each its own certificate.
func TestOriginateIdentityPerNetwork(t *testing.T) {
	spec := originate(func(r *policy.RuleSpec) { r.Name, r.From = "first", []string{client4.String()} })
	second := originate(func(r *policy.RuleSpec) {
		r.Name, r.From, r.Destination.Identity = "second", []string{client6.String()}, ""
	}).Rules[0]
	spec.Rules = append(spec.Rules, second)
	var o tlsOrigin
	h := newHouse(t, spec, o.serve(echoTLS))
	o.show(h.server)
	for i, c := range []struct {
		six   bool
		rule  string
		shown int
	}{{false, "first", 1}, {true, "second", 0}} {
		dst := server4
		if c.six {
			dst = server6
		}
		conn := h.dial(dst)
		echo(t, conn)
		_ = conn.Close()
		if r := h.record(i + 1); r.str("rule") != c.rule {
			t.Errorf("record %v", r)
		}
		if s := o.states(); len(s[i].PeerCertificates) != c.shown {
			t.Errorf("rule %s: the destination was shown %d certificates, want %d", c.rule, len(s[i].PeerCertificates), c.shown)
		}
	}
}

// With mode: observe what is wrong with the destination is noted, and the flow goes on.
func TestOriginateObserved(t *testing.T) {
	var o tlsOrigin
	h := newHouse(t, originate(func(r *policy.RuleSpec) { r.Mode = "observe" }), o.serve(echoTLS))
	stranger := testpki.Must(testpki.NewCA(testpki.Options{CN: "Stranger"}))
	for i, c := range []struct {
		cert  tls.Certificate
		would string
	}{
		{h.server, ""},
		{testpki.Must(stranger.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).TLS(), "destination_unknown_ca"},
	} {
		o.show(c.cert)
		conn := h.dial(server4)
		echo(t, conn)
		_ = conn.Close()
		if r := h.record(i + 1); r.str("action") != "originate" || r.str("verdict") != "allowed" || r.str("would_reason") != c.would {
			t.Errorf("want %q, the record: %v", c.would, r)
		}
	}
}

// A shadow policy judges originated flows, and others that it would originate.
func TestOriginateShadow(t *testing.T) {
	for name, c := range map[string]struct {
		shadow             policy.Spec
		kind, says, reason string
	}{
		"the same":     {originate(nil), "", "", ""},
		"another rule": {originate(func(r *policy.RuleSpec) { r.Name = "new" }), "other_rule", "originate", "originated"},
		"terminated":   {mtls(), "shadow_denies", "deny", "not_tls"},
		"from others":  {originate(func(r *policy.RuleSpec) { r.From = []string{"192.0.2.77"} }), "shadow_denies", "deny", "no_rule"},
		"bypassed": {originate(func(r *policy.RuleSpec) {
			r.Action, r.Destination = "bypass", policy.DestinationSpec{}
		}), "other_action", "bypass", "bypassed"},
	} {
		t.Run(name, func(t *testing.T) {
			var o tlsOrigin
			h := newHouse(t, originate(nil), o.serve(echoTLS))
			o.show(h.server)
			now := h.gw.current.Load()
			setPolicy(h.gw, now.set, policy.NewShadow(h.compile(c.shadow)), now.limits)
			conn := h.dial(server4)
			echo(t, conn)
			_ = conn.Close()
			r := h.record(1)
			s, _ := r["shadow"].(map[string]any)
			if c.kind == "" && s != nil || c.kind != "" && (s["kind"] != c.kind || s["action"] != c.says || s["reason"] != c.reason) {
				t.Errorf("shadow %v, want %+v", s, c)
			}
		})
	}
}

// The record of an originated flow has its ledgers: of the client that nothing is known of
// it, of the destination each message.
func TestOriginateLedger(t *testing.T) {
	var o tlsOrigin
	h := newHouse(t, originate(nil), o.serve(echoTLS))
	o.show(h.server)
	conn := h.dial(server4)
	echo(t, conn)
	_ = conn.Close()
	r := h.record(1)
	client, _ := r["ledger"].([]any)
	far, _ := r["destination_ledger"].([]any)
	if len(client) != 1 || !strings.Contains(client[0].(map[string]any)["facts"].(string), "without TLS") {
		t.Errorf("the client's ledger: %v", client)
	}
	var messages []string
	for _, e := range far {
		if m, _ := e.(map[string]any)["message"].(string); m != "" {
			messages = append(messages, m)
		}
	}
	all := strings.Join(messages, " ")
	for _, want := range []string{"ClientHello", "ServerHello", "CertificateRequest", "Certificate", "CertificateVerify", "Finished"} {
		if !strings.Contains(all, want) {
			t.Errorf("the destination's ledger has no %s: %s", want, all)
		}
	}
	if _, there := r["peer"]; there {
		t.Errorf("a client without TLS has a certificate: %v", r["peer"])
	}
}

// A client without TLS at a rule that terminates is refused in words that name the rule that
// waits, and how long it has waited.
func TestServerFirstIsExplained(t *testing.T) {
	h := newHouse(t, mtls(), nil, func(cfg *Config) { cfg.Limits.Handshake = 1200 * time.Millisecond })
	for i, c := range []struct {
		send, reason, detail string
		leave                bool
	}{
		{"", "hello_timeout", `after 0 bytes in [1-9]\d*s; rule "pay" waits for a ClientHello`, false},
		{"\x16\x03\x01", "hello_timeout", `after 3 bytes in [1-9]\d*s; rule "pay" waits for a ClientHello`, false},
		{"", "hello_eof", `after 0 bytes in \d+s; rule "pay" waits for a ClientHello`, true},
		{"EHLO me\r\n", "not_tls", "", false},
	} {
		conn := h.dial(server4)
		if c.send != "" {
			if _, err := conn.Write([]byte(c.send)); err != nil {
				t.Fatal(err)
			}
		}
		if c.leave {
			_ = conn.Close()
		}
		_, err := io.ReadAll(conn)
		if c.reason == "hello_timeout" && err == nil {
			t.Errorf("%q: an orderly end", c.send)
		}
		_ = conn.Close()
		if r := h.record(i + 1); r.str("reason") != c.reason || c.detail != "" && !regexp.MustCompile("^"+c.detail+"$").MatchString(r.str("detail")) {
			t.Errorf("%q: %v", c.send, r)
		}
	}
	if h.dials.Load() != 0 {
		t.Error("the destination was dialled")
	}
}
