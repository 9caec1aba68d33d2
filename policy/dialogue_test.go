package policy

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
)

// pgRules are rules of one database: by name, by address, and others beside it.
const pgRules = `
rules:
  - {name: stop, to: ["*:5432"], sni: [old.internal], action: deny}
  - {name: pg, to: ["10.0.0.1:5432"], upgrade: postgres, sni: [db.internal], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}
  - {name: web, to: ["10.0.0.0/24:5432"], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}
  - {name: raw, to: ["10.0.1.1:5432"], action: bypass}
`

// What a client says before TLS follows from the first packet, and only rules of that
// dialogue, and those that deny, take part when its hello is there.
func TestDialogue(t *testing.T) {
	set := compile(t, pgRules)
	for name, c := range map[string]struct {
		to     string
		began  upgrade.Protocol
		sni    string
		alpn   []string
		waits  upgrade.Protocol
		action Action
		rule   string
		reason reason.Code
	}{
		"as it is waited for":            {"10.0.0.1:5432", upgrade.Postgres, "db.internal", nil, upgrade.Postgres, Terminate, "pg", ""},
		"TLS at once, with the ALPN":     {"10.0.0.1:5432", upgrade.None, "db.internal", []string{"postgresql"}, upgrade.Postgres, Terminate, "pg", ""},
		"TLS at once, without the ALPN":  {"10.0.0.1:5432", upgrade.None, "db.internal", nil, upgrade.Postgres, Deny, "pg", reason.NoALPN},
		"another ALPN":                   {"10.0.0.1:5432", upgrade.Postgres, "db.internal", []string{"h2"}, upgrade.Postgres, Deny, "pg", reason.NoALPN},
		"a rule of TLS behind":           {"10.0.0.1:5432", upgrade.Postgres, "web.internal", nil, upgrade.Postgres, Deny, "", reason.SNIUnknown},
		"the same, TLS at once":          {"10.0.0.1:5432", upgrade.None, "web.internal", nil, upgrade.Postgres, Deny, "", reason.SNIUnknown},
		"a deny rule is for all":         {"10.0.0.1:5432", upgrade.Postgres, "old.internal", nil, upgrade.Postgres, Deny, "stop", reason.RuleDeny},
		"where TLS is waited for":        {"10.0.0.2:5432", upgrade.None, "web.internal", nil, upgrade.None, Terminate, "web", ""},
		"a request where TLS is":         {"10.0.0.2:5432", upgrade.Postgres, "web.internal", nil, upgrade.None, Deny, "", reason.NotTLS},
		"behind a deny rule with a name": {"10.0.1.1:5432", upgrade.Postgres, "x.internal", nil, upgrade.None, Deny, "", reason.NotTLS},
	} {
		f := flow("10.1.1.1", c.to, hello(c.sni, c.alpn...))
		f.Upgrade = c.began
		got, rule := set.Dialogue(f)
		if got != c.waits || (rule == "pg") != (got == upgrade.Postgres) {
			t.Errorf("%s: waits for %s, by %q", name, got, rule)
		}
		if v := set.OnHello(f); v.Action != c.action || v.Rule != c.rule || v.Reason != c.reason {
			t.Errorf("%s: %v by %q, %s %s", name, v.Action, v.Rule, v.Reason, v.Detail)
		}
	}
}

// An observed policy bypasses what no rule fits, but not a client that has its answer
// already: there is nobody left who could speak to it.
func TestDialogueObserved(t *testing.T) {
	set := compile(t, "mode: observe\n"+pgRules)
	f := flow("10.1.1.1", "10.0.0.1:5432", hello("web.internal", "postgresql"))
	f.Upgrade = upgrade.Postgres
	if v := set.OnHello(f); v.Action != Deny || v.Reason != reason.SNIUnknown {
		t.Errorf("with its answer: %+v", v)
	}
	f.Upgrade = upgrade.None
	if v := set.OnHello(f); v.Action != Bypass || v.Would.Reason != reason.SNIUnknown {
		t.Errorf("TLS at once: %+v", v)
	}
	f.Hello = new(*hello("db.internal"))
	v := set.OnHello(f)
	if v.Action != Terminate {
		t.Fatalf("without its ALPN: %+v", v)
	}
	if v = set.OnPeer(v.Plan, f); v.Would.Reason != reason.NoALPN || v.Action != Terminate {
		t.Errorf("without its ALPN: %+v", v)
	}
}

// A reload between the answer and the hello, to a rule that decides by the first packet: the
// destination was asked nothing, so it gets no hello.
func TestDialogueReloaded(t *testing.T) {
	for name, text := range map[string]string{
		"bypass":    `rules: [{name: now, to: ["*:5432"], action: bypass}]`,
		"originate": "mode: observe\n" + `rules: [{name: now, from: ["10.0.0.0/8"], to: ["*:5432"], action: originate, destination: {tls: verify, authorities: [servers], name: pay.internal}}]`,
	} {
		f := flow("10.1.1.1", "10.0.0.1:5432", hello("db.internal", "postgresql"))
		f.Upgrade = upgrade.Postgres
		set := compile(t, text)
		if v := set.OnHello(f); v.Action != Deny || v.Reason != reason.PolicyChanged || v.Rule != "now" {
			t.Errorf("%s: %+v", name, v)
		}
		if v := set.Redecide(f).Verdict; v.Action != Bypass {
			t.Errorf("%s, a flow that begins: %+v", name, v)
		}
	}
}

// A rule that Compile says can never match is the rule of no client, however it begins.
func TestDialogueNeverMatch(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		c := newCompiler(Spec{Sets: someSets}, env)
		for i := range rules {
			c.rule(i, &rules[i])
		}
		c.finish()
		before := len(fielderr.All(c.list.Err()))
		c.neverMatch()
		f := drawFlow(t)
		waits, _ := c.set.Dialogue(f)
		f.Upgrade = rapid.SampledFrom([]upgrade.Protocol{upgrade.None, waits}).Draw(t, "began")
		v := c.set.OnHello(f)
		for _, e := range fielderr.All(c.list.Err())[before:] {
			if !e.Warning && v.Rule != "" && strings.HasPrefix(e.Msg, fmt.Sprintf("rule %q can never match", v.Rule)) {
				t.Fatalf("%s; and it is the rule of %+v: %+v", e.Msg, f, v)
			}
		}
	})
}

// However a client begins: nobody comes to a rule of another dialogue, and what the first
// packet decides is not changed by it.
func TestDialogueNeverCrosses(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		set := buildSpec(t, env, Spec{Rules: drawRules(t), Mode: rapid.SampledFrom([]string{"", "observe"}).Draw(t, "set's mode")})
		f := drawWhole(t)
		f.Upgrade = rapid.SampledFrom([]upgrade.Protocol{upgrade.None, upgrade.Postgres}).Draw(t, "began")
		waits, _ := set.Dialogue(f)
		v := set.OnHello(f)
		syn, decided := set.OnSYN(f)
		switch {
		case f.Upgrade != upgrade.None && v.Action != Terminate && v.Action != Deny:
			t.Fatalf("it has its answer, and is not terminated: %+v", v)
		case decided && f.Upgrade != upgrade.None && v.Reason == reason.PolicyChanged && v.Action == Deny && v.Plan == nil:
			if syn.Action == Deny {
				t.Fatalf("SYN %+v, hello %+v", syn, v)
			}
		case decided:
			if v.Action != syn.Action && syn.Action != Originate || v.Rule != syn.Rule {
				t.Fatalf("SYN %+v, hello %+v", syn, v)
			}
		case v.Action == Deny:
		case f.Upgrade != upgrade.None && f.Upgrade != waits:
			t.Fatalf("began with %s, was waited for with %s, and is let through: %+v", f.Upgrade, waits, v)
		case v.Plan.Upgrade != waits && v.Plan.Rule != "":
			t.Fatalf("waited for with %s, and comes to a rule of %s", waits, v.Plan.Upgrade)
		}
		f = asFound(set, f)                                                                                        // at another time
		if e, d := set.Explain(f), decide(set, f); d.Reason != reason.PolicyChanged && !sameAnswer(d, e.Verdict) { // Explain is of a flow that begins
			t.Fatalf("done %+v, said %+v", d, e.Verdict)
		}
	})
}
