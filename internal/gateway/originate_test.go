package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
)

// originate is a rule that makes TLS with the destination for clients without.
func originate(change func(*policy.RuleSpec)) policy.Spec {
	r := policy.RuleSpec{
		Name: "old", From: []string{client4.String(), client6.String()}, To: []string{"203.0.113.0/24:443", "[2001:db8:5::]/48:443"},
		Action: "originate", Destination: policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}, Name: "pay.example", Identity: "pay"},
	}
	if change != nil {
		change(&r)
	}
	return policy.Spec{Rules: []policy.RuleSpec{r}}
}

// tlsOrigin serves TLS with a certificate of the house, and notes what reached it.
type tlsOrigin struct {
	mu    sync.Mutex
	cert  tls.Certificate
	state []tls.ConnectionState
	raw   bytes.Buffer // what came before and below TLS
}

// show is the certificate that it shows.
func (o *tlsOrigin) show(cert tls.Certificate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cert = cert
}

// saw says whether the bytes came.
func (o *tlsOrigin) saw(b []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Contains(o.raw.Bytes(), b)
}

func (o *tlsOrigin) serve(talk func(*tls.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		o.mu.Lock()
		cert := o.cert
		o.mu.Unlock()
		s := tls.Server(&noting{Conn: c, o: o}, &tls.Config{
			Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"postgresql"},
		})
		if s.Handshake() != nil {
			return
		}
		o.mu.Lock()
		o.state = append(o.state, s.ConnectionState())
		o.mu.Unlock()
		talk(s)
	}
}

func (o *tlsOrigin) states() []tls.ConnectionState {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

// noting notes the bytes that it reads.
type noting struct {
	net.Conn
	o *tlsOrigin
}

func (n *noting) Read(b []byte) (int, error) {
	k, err := n.Conn.Read(b)
	n.o.mu.Lock()
	defer n.o.mu.Unlock()
	n.o.raw.Write(b[:k])
	return k, err
}

func echoTLS(c *tls.Conn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// A client without TLS, one that speaks first and one that waits: the destination gets TLS
// with our certificate, all bytes arrive both ways, and the record says what is known.
func TestOriginate(t *testing.T) {
	var o tlsOrigin
	h := newHouse(t, originate(func(r *policy.RuleSpec) { r.ALPN = []string{"postgresql"} }),
		o.serve(func(c *tls.Conn) {
			_, _ = c.Write([]byte("220 ready\r\n"))
			echoTLS(c)
		}))
	o.show(h.server)
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	for i, dst := range []netip.AddrPort{server4, server6} {
		c := h.dial(dst)
		greeting := make([]byte, 11)
		if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "220 ready\r\n" {
			t.Fatalf("the server's first words: %q, %v", greeting, err)
		}
		var back []byte
		var err error
		got := make(chan struct{})
		go func() {
			defer close(got)
			back, err = io.ReadAll(c)
		}()
		if _, werr := c.Write(data); werr != nil {
			t.Fatal(werr)
		}
		if werr := c.CloseWrite(); werr != nil {
			t.Fatal(werr)
		}
		testenv.Receive(t, "all of it", got)
		if err != nil || !bytes.Equal(back, data) {
			t.Fatalf("%d of %d bytes came back: %v", len(back), len(data), err)
		}
		_ = c.Close()
		r := h.record(i + 1)
		leg, _ := r["client_leg"].(map[string]any)
		far, _ := r["destination_leg"].(map[string]any)
		if r.str("action") != "originate" || r.str("reason") != "originated" || r.str("verdict") != "allowed" || r.str("rule") != "old" ||
			leg["version"] != "plaintext" || far["version"] != "TLS 1.3" || far["alpn"] != "postgresql" || r.str("end") != "closed" {
			t.Errorf("the record: %v", r)
		}
	}
	if s := o.states()[0]; len(s.PeerCertificates) == 0 || s.ServerName != "pay.example" || s.NegotiatedProtocol != "postgresql" {
		t.Errorf("the destination saw %d certificates, name %q, protocol %q", len(s.PeerCertificates), s.ServerName, s.NegotiatedProtocol)
	}
	if o.saw(data[:64]) {
		t.Error("what the client sent went to the destination in the clear")
	}
}

// Nothing of the client reaches a destination that is not the one the rule means.
func TestOriginateVerifiesFirst(t *testing.T) {
	stranger := testpki.Must(testpki.NewCA(testpki.Options{CN: "Stranger"}))
	for name, c := range map[string]struct {
		cert   *testpki.CA
		leaf   testpki.Leaf
		change func(*policy.RuleSpec)
		reason string
	}{
		"another CA":   {stranger, testpki.Leaf{DNS: []string{"pay.example"}}, nil, "destination_unknown_ca"},
		"another name": {nil, testpki.Leaf{DNS: []string{"other.example"}}, nil, "destination_wrong_name"},
		"the address":  {nil, testpki.Leaf{DNS: []string{"pay.example"}}, func(r *policy.RuleSpec) { r.Destination.Name = "" }, "destination_wrong_name"},
		"another key": {nil, testpki.Leaf{DNS: []string{"pay.example"}}, func(r *policy.RuleSpec) {
			r.Destination.Pins = []string{"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}
		}, "destination_wrong_key"},
	} {
		t.Run(name, func(t *testing.T) {
			var o tlsOrigin
			got := make(chan string, 1)
			h := newHouse(t, originate(c.change), o.serve(func(c *tls.Conn) {
				b, _ := io.ReadAll(c) // TLS 1.3: the server is done before we are
				got <- string(b)
			}))
			ca := c.cert
			if ca == nil {
				ca = h.ca
			}
			o.show(testpki.Must(ca.Issue(c.leaf)).TLS())
			if b, err := h.tells("secret"); err == nil || len(b) > 0 {
				t.Errorf("the client reads %q, %v", b, err)
			}
			if r := h.record(1); r.str("reason") != c.reason || r.str("verdict") != "failed" || r.str("action") != "originate" || r.str("alert_sent") != "" {
				t.Errorf("the record: %v", r)
			}
			h.stop()
			select {
			case b := <-got:
				if b != "" {
					t.Errorf("the destination read %q", b)
				}
			default:
			}
			if o.saw([]byte("secret")) {
				t.Error("the destination got the client's bytes")
			}
		})
	}
}

// tells says something to a destination that is refused at once, and returns what is read: the
// reset may be there before the words, or before the dial returns.
func (h *house) tells(words string) ([]byte, error) {
	conn, err := h.client.Dial(testenv.Context(h.t), server4)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(testenv.Deadline())
	_, _ = conn.Write([]byte(words))
	return io.ReadAll(conn)
}

// A client that speaks TLS to such a rule is refused with an alert, however its hello is
// cut, and nothing of it is relayed that would make TLS within TLS.
func TestOriginateRefusesTLS(t *testing.T) {
	var o tlsOrigin
	h := newHouse(t, originate(nil), o.serve(echoTLS))
	o.show(h.server)
	for i, cut := range []int{0, 1, 5} {
		raw := h.dial(server4)
		err := tls.Client(&cutting{Conn: raw, at: cut}, &tls.Config{InsecureSkipVerify: true}).Handshake()
		var alert tls.AlertError
		if err == nil || !errors.As(err, &alert) && err.Error() != "remote error: tls: unexpected message" {
			t.Errorf("cut at %d: %v", cut, err)
		}
		_ = raw.Close()
		if r := h.record(i + 1); r.str("reason") != "client_speaks_tls" || r.str("verdict") != "refused" || r.str("alert_sent") != "unexpected_message(10)" {
			t.Errorf("cut at %d, the record: %v", cut, r)
		}
	}
	// What only begins like TLS is data.
	for _, text := range []string{"\x16", "\x16\x03\x01", "\x16\x03\x01\x02\x00\x02", "\x16\x02\x01\x02\x00\x01"} {
		c := h.dial(server4)
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != text {
			t.Errorf("%q comes back as %q, %v", text, b, err)
		}
		_ = c.Close()
	}
}

// cutting sends the first at bytes of the first write alone.
type cutting struct {
	net.Conn
	at int
}

func (c *cutting) Write(b []byte) (int, error) {
	at := min(c.at, len(b))
	c.at = 0
	for _, part := range [][]byte{b[:at], b[at:]} {
		if len(part) == 0 {
			continue
		}
		if _, err := c.Conn.Write(part); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// The port of the rule is dialled, and a set that dials another ends the flow.
func TestOriginateToPort(t *testing.T) {
	dialled := make(chan netip.AddrPort, 1)
	var o tlsOrigin
	spec := originate(func(r *policy.RuleSpec) { r.Destination.ToPort = 8443 })
	h := newHouse(t, spec, o.serve(echoTLS), func(cfg *Config) {
		inner := cfg.Dial
		cfg.Dial = func(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
			dialled <- dst
			return inner(ctx, dst)
		}
	})
	o.show(h.server)
	c := h.dial(server4)
	defer c.Close()
	echo(t, c)
	if dst := testenv.Receive(t, "the dial", dialled); dst != netip.AddrPortFrom(server4.Addr(), 8443) {
		t.Errorf("dialled %s", dst)
	}
	var facts policy.Facts
	h.gw.Each(func(l *Live) { facts, _ = l.Found() })
	for name, c := range map[string]struct {
		spec  policy.Spec
		keeps bool
	}{
		"the same":      {spec, true},
		"another port":  {originate(nil), false},
		"another pin":   {originate(func(r *policy.RuleSpec) { r.Destination.ToPort, r.Destination.Pins = 8443, []string{zeros} }), false},
		"from others":   {originate(func(r *policy.RuleSpec) { r.Destination.ToPort, r.From = 8443, []string{"192.0.2.77"} }), false},
		"terminated":    {mtls(), false},
		"insecure only": {originate(func(r *policy.RuleSpec) { r.Destination = policy.DestinationSpec{TLS: "insecure", ToPort: 8443} }), true},
	} {
		d := h.compile(c.spec).Redecide(facts)
		if d.Keeps(policy.Originate) != c.keeps {
			t.Errorf("%s: %v %s %s", name, d.Verdict.Action, d.Verdict.Reason, d.Verdict.Detail)
		}
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// A policy that comes into force before the destination is dialled is held against the
// connection with it, which the flow makes by its own rule.
func TestReloadBeforeTheDestination(t *testing.T) {
	verified := mtls()
	verified.Rules[0].Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}, Name: "pay.example"}
	for name, c := range map[string]struct {
		first, next policy.Spec
		want        string
	}{
		"terminate, TLS in the place of none": {mtls(), verified, "policy_changed"},
		"terminate, the same":                 {mtls(), mtls(), "verified"},
		"originate, another pin": {originate(nil), originate(func(r *policy.RuleSpec) {
			r.Destination.Pins = []string{zeros}
		}), "destination_wrong_key"},
		"originate, another name": {originate(nil), originate(func(r *policy.RuleSpec) { r.Destination.Name = "other.example" }), "destination_wrong_name"},
		"originate, another port": {originate(nil), originate(func(r *policy.RuleSpec) { r.Destination.ToPort = 8443 }), "policy_changed"},
		"originate, a hello":      {originate(nil), mtls(), "policy_changed"},
		"originate, the same":     {originate(nil), originate(nil), "originated"},
	} {
		t.Run(name, func(t *testing.T) {
			var o tlsOrigin
			reached, goOn := make(chan struct{}), make(chan struct{})
			pause := sync.OnceFunc(func() { close(reached); <-goOn })
			plain := c.first.Rules[0].Destination.TLS == "plain"
			var serve func(net.Conn)
			if !plain {
				serve = o.serve(echoTLS)
			}
			h := newHouse(t, c.first, serve, limited(Limits{Handshakes: 1, HandshakesPerClient: 1}))
			o.show(h.server)
			next := h.compile(c.next)
			if !plain { // it waits for its turn
				turn, err := h.gw.Turns().Begin(t.Context(), netip.MustParseAddr("192.0.2.99"))
				if err != nil {
					t.Fatal(err)
				}
				pause = func() {
					testenv.Eventually(t, "the flow waits for its turn", func() bool { return h.gw.Handshakes().Waiting == 1 })
					close(reached)
					<-goOn
					turn.End()
				}
				go pause()
			}
			raw := h.dial(server4)
			defer raw.Close()
			var conn net.Conn = raw
			if plain {
				alice := h.alice()
				conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					pause()
					return alice, nil
				}})
			}
			result := make(chan error, 1)
			go func() {
				_, err := conn.Write([]byte("x"))
				if err == nil {
					_, err = io.ReadFull(conn, make([]byte, 1))
				}
				result <- err
			}()
			testenv.Receive(t, "the flow on its way", reached)
			setPolicy(h.gw, next, nil, h.gw.current.Load().limits)
			close(goOn)
			err := testenv.Receive(t, "the client's end", result)
			_ = raw.Close()
			good := c.want == "verified" || c.want == "originated"
			if r := h.record(1); r.str("reason") != c.want || (err == nil) != good {
				t.Errorf("%v, record %v, want %s", err, r, c.want)
			}
		})
	}
}
