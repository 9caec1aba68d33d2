package policy

import (
	"crypto/tls"
	"reflect"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// somePeers are what clients show in these properties: nothing, certificates
// that some rules allow, and one of a CA that none trusts.
var somePeers = sync.OnceValue(func() []*handshake.Peer {
	p := testPKI()
	stranger := testpki.Must(p.partner.Issue(testpki.Leaf{DNS: []string{"a.staff"}})).Cert
	return []*handshake.Peer{
		nil, nil,
		peer("staff", p.staff, testpki.Leaf{DNS: []string{"a.staff"}}),
		peer("staff", p.staff, testpki.Leaf{DNS: []string{"b.staff", "a.staff"}}),
		peer("staff", p.staff, testpki.Leaf{DNS: []string{"c.staff"}}),
		{Shown: peerOf("", p.partner, stranger).Shown, Refusal: handshake.Refuse(handshake.StepClientVerified, reason.UnknownCA, "leads nowhere")},
	}
})

// oldHello is a client of TLS 1.2, which the profile "modern" refuses.
var oldHello = sync.OnceValue(func() handshake.ClientHello {
	return *testpki.Must(captureHello(&tls.Config{InsecureSkipVerify: true, ServerName: "127.0.0.1", MaxVersion: tls.VersionTLS12}))
})

// drawWhole is a flow with all that is known of it at the end of a handshake.
func drawWhole(t *rapid.T) Facts {
	f := drawFlow(t)
	if rapid.IntRange(0, 3).Draw(t, "old") == 0 {
		h := oldHello()
		h.ServerName, h.SNIPresent, h.SNIInvalid, h.ALPN = f.Hello.ServerName, f.Hello.SNIPresent, f.Hello.SNIInvalid, f.Hello.ALPN
		f.Hello = &h
	}
	f.Peer = rapid.SampledFrom(somePeers()).Draw(t, "peer")
	f.State = &handshake.State{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519)}
	return f
}

// decide goes the whole way of a flow.
func decide(s *Set, f Facts) Verdict {
	v := s.OnHello(f)
	if v.Action != Terminate {
		return v
	}
	if v.Plan.Client.ClientAuth == handshake.ClientAuthNone {
		f.Peer = nil // nobody asks for it
	}
	return s.OnPeer(v.Plan, f)
}

// asFound is a flow as this set would have come to know it: its certificate
// verified by it, for real, and nothing agreed on that it would not agree on.
func asFound(s *Set, f Facts) Facts {
	if f.Peer != nil {
		f.Now = f.Peer.Leaf().NotBefore.Add(1)
		f = s.Redecide(s.Shown(f, f.Peer.Shown)).Facts
	}
	p := s.OnHello(f).Plan
	if p.noCertificate() {
		f.Peer = nil
	}
	if p != nil && p.Client != nil && f.State != nil && p.Client.Holds(f.State, f.Hello) != nil {
		f.State = nil
	}
	return f
}

func sameAnswer(a, b Verdict) bool {
	return a.Action == b.Action && a.Rule == b.Rule && a.Reason == b.Reason && a.Detail == b.Detail && a.Alert == b.Alert && a.Would == b.Would
}

// The index is never seen: the answer is that of asking every rule in turn.
func TestIndexedIsLinear(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		for len(rules) < minIndexed {
			rules = append(rules, drawRule(t, "more"))
		}
		set := buildSpec(t, env, Spec{Rules: rules, Mode: rapid.SampledFrom([]string{"", "observe"}).Draw(t, "set's mode")})
		if set.index == nil {
			t.Fatal("no index")
		}
		linear := *set
		linear.index = nil
		for range 4 {
			f := drawFlow(t)
			if a, b := set.OnHello(f), linear.OnHello(f); !sameAnswer(a, b) {
				t.Fatalf("with the index %+v, without %+v", a, b)
			}
			a, decidedA := set.OnSYN(f)
			b, decidedB := linear.OnSYN(f)
			if decidedA != decidedB || !sameAnswer(a, b) {
				t.Fatalf("SYN: with the index %+v, without %+v", a, b)
			}
		}
	})
}

// What explain says is what is done.
func TestExplainAgrees(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		set := buildSpec(t, env, Spec{Rules: drawRules(t), Mode: rapid.SampledFrom([]string{"", "observe"}).Draw(t, "set's mode")})
		f := drawWhole(t)
		f = asFound(set, f)
		e := set.Explain(f)
		if v := decide(set, f); !sameAnswer(v, e.Verdict) {
			t.Fatalf("done %+v, said %+v", v, e.Verdict)
		}
		fitting := ""
		for i, r := range e.Rules {
			if r.Index != i || r.Rule != set.rules[i].name || r.Fits != (r.Condition == "") {
				t.Fatalf("trace %d: %+v", i, r)
			}
			if r.Fits && !r.Passed {
				fitting = r.Rule
			}
		}
		if fitting != e.Verdict.Rule {
			t.Fatalf("rule %q fits, and %q decided", fitting, e.Verdict.Rule)
		}
		met := true
		for _, d := range e.Demands {
			met = met && d.Fits
		}
		// Verdict.Would names the first refusal, which may be that of a deny rule
		// passed over before; the rule's own makes the reason.
		refused := e.Verdict.Action == Deny || e.Verdict.Reason == reason.Observed
		if len(e.Demands) > 0 && met == refused {
			t.Fatalf("demands met: %v, verdict %+v, %+v", met, e.Verdict, e.Demands)
		}
		if e.Reason.Code == "" || (len(e.Change) > 0) != (e.Verdict.Action == Deny || e.Verdict.Would.Deny) {
			t.Fatalf("reason %+v, changes %q, verdict %+v", e.Reason, e.Change, e.Verdict)
		}
		syn := f
		syn.Hello, syn.Peer = nil, nil
		x := set.Explain(syn)
		if v, decided := set.OnSYN(syn); decided != x.Decided || !sameAnswer(v, x.Verdict) {
			t.Fatalf("SYN: done %+v, said %+v", v, x.Verdict)
		}
	})
}

func (p *Plan) noCertificate() bool {
	return p != nil && p.Client != nil && p.Client.ClientAuth == handshake.ClientAuthNone
}

// Observed, a policy lets everything go on, and notes what it would refuse if
// it were enforced: the same rule, reason, detail and alert. What it would let
// through it treats the same, to the parameters of the handshake.
func TestObserveSaysWhatEnforceDoes(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		for i := range rules {
			rules[i].Mode = ""
		}
		enforced := buildSpec(t, env, Spec{Rules: rules})
		observed := buildSpec(t, env, Spec{Rules: rules, Mode: "observe"})
		f := drawWhole(t)
		if enforced.OnHello(f).Plan.noCertificate() || observed.OnHello(f).Plan.noCertificate() {
			f.Peer = nil
		}
		e, o := decide(enforced, f), decide(observed, f)
		switch {
		case o.Action == Deny:
			t.Fatalf("refused: %+v", o)
		case e.Action != Deny:
			if o.Would.Deny || o.Action != e.Action || o.Rule != e.Rule || o.Reason != e.Reason {
				t.Fatalf("enforced %+v, observed %+v", e, o)
			}
			if e.Action == Terminate {
				a, b := *e.Plan.Client, *o.Plan.Client
				if !b.Observe || a.Observe {
					t.Fatal("Observe is not what it should be")
				}
				b.Observe = false
				if !reflect.DeepEqual(a.Profile, b.Profile) || a.ClientAuth != b.ClientAuth || !reflect.DeepEqual(a.Authorities, b.Authorities) || !reflect.DeepEqual(a.ALPN, b.ALPN) {
					t.Fatalf("other parameters: %+v and %+v", a, b)
				}
			}
		default:
			if w := (Would{Deny: true, Rule: e.Rule, Reason: e.Reason, Detail: e.Detail, Alert: e.Alert}); o.Would != w {
				t.Fatalf("enforced %+v, observed %+v", e, o)
			}
		}
	})
}

// An observed deny rule changes nothing but the record.
func TestObservedDenyChangesNothing(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		deny := drawRule(t, "deny")
		deny = RuleSpec{Name: "deny", From: deny.From, To: deny.To, SNI: deny.SNI, ALPNOffered: deny.ALPNOffered, JA4: deny.JA4, Time: deny.Time, Action: "deny", Mode: "observe"}
		without, with := build(t, env, rules), build(t, env, append([]RuleSpec{deny}, rules...))
		f := drawWhole(t)
		if without.OnHello(f).Plan.noCertificate() {
			f.Peer = nil
		}
		a, b := decide(without, f), decide(with, f)
		if a.Action != b.Action || a.Rule != b.Rule || a.Reason != b.Reason || a.Detail != b.Detail {
			t.Fatalf("without %+v, with %+v", a, b)
		}
		if fits(with.rules[0], f) && b.Action != Deny && b.Would.Rule != "deny" {
			t.Fatalf("the rule fits, and nothing is noted: %+v", b)
		}
	})
}

// A deny rule anywhere in the policy never lets through more.
func TestDenyAnywhereNeverAllowsMore(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		deny := drawRule(t, "deny")
		deny = RuleSpec{Name: "deny", From: deny.From, To: deny.To, SNI: deny.SNI, ALPNOffered: deny.ALPNOffered, JA4: deny.JA4, Time: deny.Time, Action: "deny"}
		at := rapid.IntRange(0, len(rules)).Draw(t, "at")
		with := append(append(append([]RuleSpec(nil), rules[:at]...), deny), rules[at:]...)
		f := drawWhole(t)
		before, after := build(t, env, rules), build(t, env, with)
		if before.OnHello(f).Plan.noCertificate() {
			f.Peer = nil
		}
		was, is := decide(before, f), decide(after, f)
		if is.Action != Deny && (is.Action != was.Action || is.Rule != was.Rule) {
			t.Fatalf("was %+v, is %+v", was, is)
		}
	})
}
