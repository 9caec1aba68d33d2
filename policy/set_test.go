package policy

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

const walkPolicy = `
rules:
  - {name: shut, from: ["10.1.66.0/24", "fd00:66::/32"], to: ["*:*"], action: deny}
  - {name: printer, to: ["10.30.0.9:443", "[fd00:30::9]:443"], action: bypass}
  - {name: banned, to: ["10.20.0.0/16:443"], sni: [banned.internal], action: deny}
  - name: pay
    to: ["10.20.0.0/16:443", "[fd00:20::]/32:443"]
    sni: ["*.pay.internal", pay.internal]
    identity: pay
    client: {authorities: [staff]}
    destination: {tls: plain}
  - name: grpc
    to: ["10.20.0.0/16:443"]
    sni: [grpc.internal]
    alpn_offered: [h2, grpc]
    identity: pay
    client: {authorities: [staff]}
    destination: {tls: plain}
  - name: modern
    to: ["10.40.0.1:443"]
    identity: pay
    profile: modern
    client: {authorities: [staff]}
    destination: {tls: plain}
  - {name: acme, to: ["10.50.0.1:443"], alpn_offered: [acme-tls/1], action: bypass}
  - {name: only-denies, to: ["10.60.0.1:443"], sni: [x.example], action: deny}
  - {name: denies-protocol, to: ["10.60.0.1:443"], alpn_offered: [h2], action: deny}
`

func TestOnSYN(t *testing.T) {
	set := compile(t, walkPolicy)
	for name, tt := range map[string]struct {
		src, dst string
		decided  bool
		action   Action
		rule     string
		reason   reason.Code
	}{
		"denied by a rule":              {"10.1.66.7", "10.20.0.1:443", true, Deny, "shut", reason.RuleDeny},
		"denied by a rule, IPv6":        {"fd00:66::1", "[fd00:20::1]:443", true, Deny, "shut", reason.RuleDeny},
		"IPv4-mapped is IPv4":           {"::ffff:10.1.66.7", "[::ffff:10.20.0.1]:443", true, Deny, "shut", reason.RuleDeny},
		"bypass":                        {"10.1.1.1", "10.30.0.9:443", true, Bypass, "printer", reason.Bypassed},
		"bypass, IPv6":                  {"fd00::1", "[fd00:30::9]:443", true, Bypass, "printer", reason.Bypassed},
		"the port is part of it":        {"10.1.1.1", "10.30.0.9:444", true, Deny, "", reason.NoRule},
		"a deny by name leaves it open": {"10.1.1.1", "10.20.0.1:443", false, Deny, "", reason.Internal},
		"terminate needs the hello":     {"10.1.1.1", "10.40.0.1:443", false, Deny, "", reason.Internal},
		"bypass by ALPN leaves it open": {"10.1.1.1", "10.50.0.1:443", false, Deny, "", reason.Internal},
		"nothing fits":                  {"10.1.1.1", "192.0.2.1:443", true, Deny, "", reason.NoRule},
		"zone":                          {"fe80::1%eth0", "10.30.0.9:443", true, Deny, "", reason.BadPacket},
	} {
		t.Run(name, func(t *testing.T) {
			v, decided := set.OnSYN(flow(tt.src, tt.dst, nil))
			if decided != tt.decided || v.Action != tt.action || v.Rule != tt.rule || v.Reason != tt.reason {
				t.Errorf("got %+v, decided %v", v, decided)
			}
			checkVerdict(t, set, v)
		})
	}
	if v, decided := set.OnSYN(Facts{}); !decided || v.Action != Deny || v.Reason != reason.BadPacket {
		t.Errorf("no facts: %+v, decided %v", v, decided)
	}
}

// checkVerdict holds for every verdict, whatever it says.
func checkVerdict(t testing.TB, set *Set, v Verdict) {
	t.Helper()
	if v.SetID != set.ID() {
		t.Errorf("set id %q, want %q", v.SetID, set.ID())
	}
	if (v.Plan != nil) != (v.Action == Terminate || v.Action == Bypass) {
		t.Errorf("action %v with plan %v", v.Action, v.Plan)
	}
	if v.Plan != nil && (v.Plan.Rule != v.Rule || v.Alert != handshake.AlertNone || (v.Plan.Client == nil) != (v.Action == Bypass)) {
		t.Errorf("plan %+v of verdict %+v", v.Plan, v)
	}
	if v.Action == Deny && v.Reason == "" {
		t.Error("a refusal without a reason")
	}
}

func TestOnHello(t *testing.T) {
	set := compile(t, walkPolicy)
	for name, tt := range map[string]struct {
		src, dst string
		hello    *handshake.ClientHello
		action   Action
		rule     string
		reason   reason.Code
		alert    handshake.Alert
	}{
		"the name":                {"10.1.1.1", "10.20.0.1:443", hello("pay.internal"), Terminate, "pay", "", handshake.AlertNone},
		"one label":               {"10.1.1.1", "10.20.0.1:443", hello("a.pay.internal"), Terminate, "pay", "", handshake.AlertNone},
		"two labels":              {"10.1.1.1", "10.20.0.1:443", hello("a.b.pay.internal"), Deny, "", reason.SNIUnknown, handshake.AlertUnrecognizedName},
		"a suffix is no label":    {"10.1.1.1", "10.20.0.1:443", hello("xpay.internal"), Deny, "", reason.SNIUnknown, handshake.AlertUnrecognizedName},
		"IPv6":                    {"fd00::1", "[fd00:20::1]:443", hello("pay.internal"), Terminate, "pay", "", handshake.AlertNone},
		"a deny comes first":      {"10.1.1.1", "10.20.0.1:443", hello("banned.internal"), Deny, "banned", reason.RuleDeny, handshake.AlertAccessDenied},
		"no name":                 {"10.1.1.1", "10.20.0.1:443", hello(""), Deny, "", reason.SNIMissing, handshake.AlertMissingExtension},
		"no usable name":          {"10.1.1.1", "10.20.0.1:443", invalidSNI(), Deny, "", reason.SNIInvalid, handshake.AlertIllegalParameter},
		"one ALPN is enough":      {"10.1.1.1", "10.20.0.1:443", hello("grpc.internal", "http/1.1", "grpc"), Terminate, "grpc", "", handshake.AlertNone},
		"another ALPN":            {"10.1.1.1", "10.20.0.1:443", hello("grpc.internal", "http/1.1"), Deny, "", reason.NoALPN, handshake.AlertNoApplicationProtocol},
		"no ALPN":                 {"10.1.1.1", "10.20.0.1:443", hello("grpc.internal"), Deny, "", reason.NoALPN, handshake.AlertNoApplicationProtocol},
		"any name, none":          {"10.1.1.1", "10.40.0.1:443", hello(""), Terminate, "modern", "", handshake.AlertNone},
		"any name, unusable":      {"10.1.1.1", "10.40.0.1:443", invalidSNI(), Terminate, "modern", "", handshake.AlertNone},
		"bypass by ALPN":          {"10.1.1.1", "10.50.0.1:443", hello("x.example", "acme-tls/1"), Bypass, "acme", reason.Bypassed, handshake.AlertNone},
		"bypass by address":       {"10.1.1.1", "10.30.0.9:443", hello("pay.internal"), Bypass, "printer", reason.Bypassed, handshake.AlertNone},
		"denied source":           {"10.1.66.1", "10.30.0.9:443", hello("pay.internal"), Deny, "shut", reason.RuleDeny, handshake.AlertAccessDenied},
		"no address fits":         {"10.1.1.1", "192.0.2.1:443", hello("pay.internal"), Deny, "", reason.NoRule, handshake.AlertAccessDenied},
		"only denies know a name": {"10.1.1.1", "10.60.0.1:443", hello("y.example"), Deny, "", reason.NoRule, handshake.AlertAccessDenied},
		"no hello":                {"10.1.1.1", "10.40.0.1:443", nil, Deny, "", reason.Internal, handshake.AlertInternalError},
	} {
		t.Run(name, func(t *testing.T) {
			v := set.OnHello(flow(tt.src, tt.dst, tt.hello))
			if v.Action != tt.action || v.Rule != tt.rule || v.Reason != tt.reason || v.Alert != tt.alert {
				t.Errorf("got %+v", v)
			}
			checkVerdict(t, set, v)
		})
	}
}

// The rule that fits is the rule: a client that cannot meet its profile is
// refused with that rule's name, and does not come to a later one.
func TestOnHelloJudgesTheProfile(t *testing.T) {
	set := compile(t, `
rules:
  - {name: modern, to: ["10.0.0.1:443"], identity: pay, profile: modern, client: {authorities: [staff]}, destination: {tls: plain}}
  - {name: lax, to: ["10.0.0.0/24:443"], identity: pay, client: {certificate: none}, destination: {tls: plain}}
`)
	old := realHello(t, &tls.Config{InsecureSkipVerify: true, ServerName: "x.example", MaxVersion: tls.VersionTLS12})
	v := set.OnHello(flow("10.1.1.1", "10.0.0.1:443", old))
	if v.Action != Deny || v.Rule != "modern" || v.Reason != reason.ProtocolVersion || v.Alert != handshake.AlertProtocolVersion {
		t.Errorf("got %+v", v)
	}
	if v := set.OnHello(flow("10.1.1.1", "10.0.0.2:443", old)); v.Action != Terminate || v.Rule != "lax" {
		t.Errorf("TLS 1.2 at the other rule: %+v", v)
	}
	group := realHello(t, &tls.Config{InsecureSkipVerify: true, ServerName: "x.example", CurvePreferences: []tls.CurveID{tls.CurveP521}})
	if v := set.OnHello(flow("10.1.1.1", "10.0.0.1:443", group)); v.Reason != reason.NoCommonGroup || v.Alert != handshake.AlertInsufficientSecurity {
		t.Errorf("P-521 alone: %+v", v)
	}
}

// Everything that was not compiled denies.
func TestZeroValuesDeny(t *testing.T) {
	f := flow("10.1.1.1", "10.0.0.1:443", hello("pay.internal"))
	f.Peer = peer("staff", testPKI().staff, testLeafPay)
	var none *Set
	for name, set := range map[string]*Set{"nil": none, "zero": {}} {
		if v, decided := set.OnSYN(f); v.Action != Deny || !decided {
			t.Errorf("%s set, SYN: %+v, decided %v", name, v, decided)
		}
		for moment, v := range map[string]Verdict{
			"hello": set.OnHello(f), "peer": set.OnPeer(nil, f), "peer with an empty plan": set.OnPeer(&Plan{}, f),
			"destination": set.OnDestination(nil, f, f.Peer), "destination with an empty plan": set.OnDestination(&Plan{}, f, f.Peer),
		} {
			if v.Action != Deny || v.Reason == "" {
				t.Errorf("%s set, %s: %+v", name, moment, v)
			}
		}
	}
	for name, p := range map[string]*Plan{"nil": nil, "zero": {}} {
		if params, err := p.Destination(f); err == nil || params != nil {
			t.Errorf("%s plan has a destination: %v", name, params)
		}
		if p.NamesDestination(f) {
			t.Errorf("%s plan names a destination", name)
		}
	}
	if (Verdict{}).Action != Deny || Action(0).String() != "deny" {
		t.Error("the zero verdict does not deny")
	}
}

// An action or a mode of client authentication that nobody knows denies.
func TestUnknownValuesDeny(t *testing.T) {
	set := compile(t, `
rules:
  - {name: a, to: ["10.0.0.1:443"], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}
`)
	r := set.rules[0]
	f := flow("10.1.1.1", "10.0.0.1:443", hello("a"))
	plan := set.OnHello(f).Plan
	if plan == nil {
		t.Fatal("the rule does not fit")
	}
	r.auth = 77
	for _, p := range []*handshake.Peer{nil, peer("staff", testPKI().staff, testLeafPay)} {
		f.Peer = p
		if v := set.OnPeer(plan, f); v.Action != Deny {
			t.Errorf("unknown client authentication, peer %v: %+v", p != nil, v)
		}
	}
	r.action = 77
	if v, decided := set.OnSYN(f); v.Action != Deny || !decided {
		t.Errorf("unknown action, SYN: %+v, decided %v", v, decided)
	}
	for moment, v := range map[string]Verdict{"hello": set.OnHello(f), "peer": set.OnPeer(plan, f)} {
		if v.Action != Deny {
			t.Errorf("unknown action, %s: %+v", moment, v)
		}
	}
	if _, err := plan.Destination(f); err == nil {
		t.Error("unknown action has a destination")
	}
	if Action(77).String() != "deny" {
		t.Error("unknown action is not called deny")
	}
}

// A flow on the way in costs no garbage before it is accepted.
func TestNoAllocations(t *testing.T) {
	set := compile(t, walkPolicy)
	syn := flow("10.1.1.1", "10.30.0.9:443", nil)
	open := flow("::ffff:10.1.1.1", "10.20.0.1:443", nil)
	refused := flow("10.1.1.1", "192.0.2.1:443", nil)
	pay := flow("10.1.1.1", "10.20.0.1:443", hello("a.pay.internal"))
	acme := flow("10.1.1.1", "10.50.0.1:443", hello("", "acme-tls/1"))
	for name, f := range map[string]func(){
		"SYN, bypass":      func() { set.OnSYN(syn) },
		"SYN, undecided":   func() { set.OnSYN(open) },
		"SYN, refused":     func() { set.OnSYN(refused) },
		"hello, terminate": func() { set.OnHello(pay) },
		"hello, bypass":    func() { set.OnHello(acme) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkOnSYN(b *testing.B) {
	set := compile(b, walkPolicy)
	f := flow("10.1.1.1", "192.0.2.1:443", nil)
	for b.Loop() {
		set.OnSYN(f)
	}
}

func TestUnmap(t *testing.T) {
	for in, want := range map[string]string{
		"[::ffff:10.0.0.1]:443": "10.0.0.1:443", "10.0.0.1:443": "10.0.0.1:443", "[fd00::1]:443": "[fd00::1]:443", "[fe80::1%eth0]:443": "",
	} {
		got, ok := unmap(netip.MustParseAddrPort(in))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("unmap(%s) = %v, %v", in, got, ok)
		}
	}
}
