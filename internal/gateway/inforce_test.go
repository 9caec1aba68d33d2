package gateway

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
)

// A flow that meets a reload on its way is judged by the policy that is in force when it is let
// through, at any point of its way.
func TestReloadOnTheWay(t *testing.T) {
	deny := policy.Spec{Rules: []policy.RuleSpec{{Name: "no", To: []string{"203.0.113.0/24:443"}, Action: "deny"}}}
	bob := mtls()
	bob.Rules[0].Name = "bob"
	bob.Rules[0].Client.Allow = []policy.AllowSpec{{SANDNS: []string{"bob.example"}}}
	bypass := policy.Spec{Rules: []policy.RuleSpec{{Name: "by", To: []string{"203.0.113.0/24:443"}, Action: "bypass"}}}
	renamed := mtls()
	renamed.Rules[0].Name = "renamed"

	for name, tt := range map[string]struct {
		next policy.Spec
		// foreign: the next policy trusts another CA under the same name.
		foreign bool
		// What the record says where the reload comes before the hello, while
		// the client makes up its mind about a certificate, and while the
		// destination is dialled; "verified" goes on.
		silent, asked, dialled string
	}{
		"denied":               {next: deny, silent: "rule_deny", asked: "rule_deny", dialled: "rule_deny"},
		"somebody else":        {next: bob, silent: "identity_not_allowed", asked: "identity_not_allowed", dialled: "identity_not_allowed"},
		"another CA":           {next: mtls(), foreign: true, silent: "unknown_ca", asked: "unknown_ca", dialled: "unknown_ca"},
		"bypassed":             {next: bypass, silent: "bypassed", asked: "policy_changed", dialled: "policy_changed"},
		"allowed all the same": {next: renamed, silent: "verified", asked: "verified", dialled: "verified"},
	} {
		for when, want := range map[string]string{"silent": tt.silent, "asked": tt.asked, "dialled": tt.dialled} {
			t.Run(name+"/"+when, func(t *testing.T) {
				reached, goOn := make(chan struct{}), make(chan struct{})
				pause := sync.OnceFunc(func() { close(reached); <-goOn })
				h := newHouse(t, mtls(), nil, func(c *Config) {
					dial := c.Dial
					c.Dial = func(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
						if when == "dialled" {
							pause()
						}
						return dial(ctx, dst)
					}
				})
				alice := h.alice()
				if tt.foreign {
					h.ca = testpki.Must(testpki.NewCA(testpki.Options{}))
				}
				next := h.compile(tt.next)
				raw := h.dial(server4)
				reload := func() {
					now := h.gw.current.Load()
					setPolicy(h.gw, next, nil, now.limits)
				}
				if when == "silent" {
					waitUntil(t, func() bool { return h.gw.Flows() == 1 })
					reload()
				}
				conn := tls.Client(raw, &tls.Config{
					InsecureSkipVerify: true, ServerName: "pay.example",
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						if when == "asked" {
							pause()
						}
						return alice, nil
					},
				})
				result := make(chan error, 1)
				go func() {
					if err := conn.Handshake(); err != nil {
						result <- err
						return
					}
					if _, err := conn.Write([]byte("x")); err != nil {
						result <- err
						return
					}
					_, err := io.ReadFull(conn, make([]byte, 1))
					result <- err
				}()
				if when != "silent" {
					<-reached
					reload()
					close(goOn)
				}
				err := <-result
				_ = raw.Close()
				r := h.record(1)
				if r.str("reason") != want || (err == nil) != (want == "verified") {
					t.Errorf("%v, record %v, want %s", err, r, want)
				}
				if want != "verified" && r.str("policy") != next.ID() {
					t.Errorf("the record names policy %s, not the one that refused, %s", r.str("policy"), next.ID())
				}
				if n := h.dials.Load(); want != "verified" && want != "bypassed" && when != "dialled" && n != 0 {
					t.Errorf("the destination was dialled %d times", n)
				}
			})
		}
	}
}

// relaying is the one flow of a house, of a client that was let through.
func (h *house) relaying() *Live {
	h.t.Helper()
	conn, err := h.tlsClient(server4, h.alice(), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	waitUntil(h.t, func() bool { return len(h.gw.registry.all()) == 1 && h.gw.registry.all()[0].Relaying() })
	return h.gw.registry.all()[0]
}

// The facts that a flow found stay unchanged, however often it is decided again: a policy
// that does not ask for a certificate does not make the gateway forget it.
func TestRegrantKeepsWhatWasFound(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	l := h.relaying()
	nobody := mtls()
	nobody.Rules[0].Client = policy.ClientSpec{Certificate: "none"}
	for i, spec := range []policy.Spec{nobody, mtls()} {
		facts, ok := l.Found()
		if !ok || facts.Peer == nil || facts.State == nil || facts.Upstream == nil {
			t.Fatalf("%d: found %+v", i, facts)
		}
		d := h.compile(spec).Redecide(facts)
		if !d.Keeps(policy.Terminate) {
			t.Fatalf("%d: %+v", i, d.Verdict)
		}
		l.Regrant(d.Verdict, d.Facts)
		facts, _, _ = l.Granted()
		if asked := spec.Rules[0].Client.Certificate == "required"; (facts.Peer != nil) != asked {
			t.Errorf("%d: granted with %+v", i, facts.Peer)
		}
	}
}

// A reload that has asked for the facts before the hello became smaller does not
// bring the large one back.
func TestRegrantBringsNoHelloBack(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	l := h.relaying()
	facts, _ := l.Found()
	small, large := facts.Hello, *facts.Hello
	large.Raw = make([]byte, 1000)
	facts.Hello = &large
	_, v, _ := l.Granted()
	l.Regrant(v, facts)
	found, _ := l.Found()
	granted, _, _ := l.Granted()
	if small.Raw != nil || found.Hello != small || granted.Hello != small {
		t.Errorf("found with %d bytes, granted with %d", len(found.Hello.Raw), len(granted.Hello.Raw))
	}
}
