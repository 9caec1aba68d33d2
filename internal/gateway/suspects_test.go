package gateway

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/acmeclient"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack"
)

// While a validator is awaited everybody else is served and refused as ever: a client that the
// rules let through passes, by the name that is to be proven too, and with protocols of its own.
// Whoever asks for the proof of another name is refused for that, also with a good certificate,
// and reaches nobody, unless a rule leaves his TLS to the destination.
func TestOthersWhileAChallengeIsPending(t *testing.T) {
	bypassing := mtls()
	bypassing.Rules[0].SNI = []string{"pay.example", "*.shop.example"}
	bypassing.Rules = append(bypassing.Rules, policy.RuleSpec{Name: "own", Action: "bypass", To: []string{"203.0.113.0/24:443"}})
	challenges := &acmeclient.Challenges{}
	h := newHouse(t, bypassing, nil, func(c *Config) { c.Challenges = challenges })
	proof := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).TLS()
	alice, seen := h.alice(), 0
	try := func(sni string, protocols ...string) (why string, err error) {
		t.Helper()
		err = h.tryWith(alice, func(c *tls.Config) { c.ServerName, c.NextProtos = sni, protocols })
		seen++
		return h.record(seen).str("reason"), err
	}
	type client struct {
		sni       string
		protocols []string
	}
	clients := []client{{"pay.example", nil}, {"pay.example", []string{"h2"}}, {"pay.example", []string{validatorProtocol, "h2"}}, {"a.shop.example", nil}, {"own.example", []string{validatorProtocol}}}
	type end struct {
		passed bool
		why    string
	}
	before := map[string]end{}
	key := func(c client) string { return c.sni + " " + strings.Join(c.protocols, ",") }
	for _, c := range clients {
		why, err := try(c.sni, c.protocols...)
		before[key(c)] = end{err == nil, why}
	}
	if e := before["pay.example "]; !e.passed {
		t.Fatalf("without a challenge: %+v", e)
	}
	over := challenges.Await("pay.example", &proof)
	defer over()
	for _, c := range clients {
		why, err := try(c.sni, c.protocols...)
		if now := (end{err == nil, why}); now != before[key(c)] {
			t.Errorf("%v: %+v (%v), and without a challenge %+v", c, now, err, before[key(c)])
		}
	}
	dials := h.dials.Load()
	if why, err := try("a.shop.example", validatorProtocol); err == nil || why != string(reason.ACMEUnawaited) {
		t.Errorf("a validator of another name: %v, %s", err, why)
	}
	if n := h.dials.Load(); n != dials {
		t.Errorf("a validator of another name was led onwards: %d dials", n-dials)
	}
}

// Of the clients that a rule refuses a bounded number is heard while a validator is awaited, of
// one client some, at the port that validators come to alone. Over that they are refused at the
// SYN, for the rule's reason.
func TestSuspectsAreBounded(t *testing.T) {
	spec := mtls()
	spec.Rules[0].From = []string{"198.51.100.0/24"}
	challenges := &acmeclient.Challenges{}
	h := newHouse(t, spec, nil, func(c *Config) { c.Challenges = challenges })
	answer := func(client string, dst string) stack.SYNAnswer {
		return h.gw.OnSYN(stack.SYN{At: time.Now(), Src: netip.AddrPortFrom(netip.MustParseAddr(client), 40000), Dst: netip.MustParseAddrPort(dst)})
	}
	expect := func(when, client, dst string, want stack.SYNAnswer) {
		t.Helper()
		if got := answer(client, dst); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	const one, two = "192.0.2.7", "192.0.2.8"
	expect("nobody is awaited", one, "203.0.113.5:443", stack.SYNReset)
	defer challenges.Await("pay.example", &tls.Certificate{})()
	expect("a validator is awaited", one, "203.0.113.5:443", stack.SYNPass)
	expect("at another port", one, "203.0.113.5:8443", stack.SYNReset)
	s := &h.gw.suspects
	for range maxSuspectsPerClient {
		if !s.enter(netip.MustParseAddr(one)) {
			t.Fatal("no room below the bound")
		}
	}
	if s.enter(netip.MustParseAddr(one)) {
		t.Error("one client has more than its share")
	}
	expect("one has its share", one, "203.0.113.5:443", stack.SYNReset)
	expect("another has not", two, "203.0.113.5:443", stack.SYNPass)
	s.leave(netip.MustParseAddr(one))
	expect("one has left", one, "203.0.113.5:443", stack.SYNPass)
	other := netip.MustParseAddr("198.18.0.0")
	entered := []netip.Addr{}
	for range 2 * maxSuspects {
		if other = other.Next(); s.enter(other) {
			entered = append(entered, other)
		}
	}
	if want := maxSuspects - maxSuspectsPerClient + 1; len(entered) != want {
		t.Errorf("%d of many clients are heard, want %d", len(entered), want)
	}
	expect("all places are taken", two, "203.0.113.5:443", stack.SYNReset)

	// A connection that was let in when there was room, and comes too late, is refused as ever.
	fl := h.gw.newFlow(nil, netip.AddrPortFrom(netip.MustParseAddr(two), 40000), server4, time.Now())
	if v, decided := fl.set.OnSYN(fl.facts); !decided || fl.mayValidate(v) || fl.denied != nil {
		t.Error("a flow over the bound is heard")
	}
	for _, a := range entered {
		s.leave(a)
	}
	for range maxSuspectsPerClient - 1 {
		s.leave(netip.MustParseAddr(one))
	}
	if s.all != 0 || len(s.by) != 0 {
		t.Errorf("%d suspects are left, of %d clients", s.all, len(s.by))
	}
}

// A client that a rule refuses, and that is heard in case it was a validator, gets no turn, and
// pays for all that it sends: a hello, or what is none, in however many records.
func TestSuspectsPay(t *testing.T) {
	spec := mtls()
	spec.Rules[0].From = []string{"198.51.100.0/24"}
	challenges := &acmeclient.Challenges{}
	h := newHouse(t, spec, nil, func(c *Config) { c.Challenges = challenges })
	defer challenges.Await("pay.example", &tls.Certificate{})()
	const records = 400
	var half []byte // of a hello of 4096 bytes, one in each record
	for i := range records {
		b := byte(0)
		if i < 4 {
			b = [...]byte{1, 0, 16, 0}[i]
		}
		half = append(half, 22, 3, 1, 0, 1, b)
	}
	for i, c := range []struct {
		name string
		send func(c net.Conn) error
		cost work.Units
	}{
		{"half a hello", func(c net.Conn) error { _, err := c.Write(half); return err }, work.Hello(len(half), records)},
		{"a hello", func(c net.Conn) error {
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "pay.example"}).Handshake()
			return nil
		}, work.Hello(200, 1)},
	} {
		before := h.gw.Handshakes()
		conn := h.dial(server4)
		if err := c.send(conn); err != nil {
			t.Fatal(err)
		}
		_ = conn.CloseWrite()
		if r := h.record(i + 1); r.str("reason") != string(reason.NoRule) {
			t.Errorf("%s: %s", c.name, r.str("reason"))
		}
		_ = conn.Close()
		after := h.gw.Handshakes()
		if paid, want := after.Work-before.Work, float64(c.cost)/float64(work.Ordinary); paid < 0.99*want {
			t.Errorf("%s: %v of a handshake was paid, want %v", c.name, paid, want)
		}
		if after.Begun != before.Begun || after.Waited != before.Waited {
			t.Errorf("%s: it had a turn", c.name)
		}
		if !h.gw.suspects.room(client4) || h.gw.suspects.all != 0 { // it left before its record was written
			t.Errorf("%s: %d are counted still", c.name, h.gw.suspects.all)
		}
	}
}
