package policy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/identity"
)

// fakeMinter answers with an error that shows what it was asked.
type fakeMinter struct{}

func (fakeMinter) For(_ context.Context, name string) (*tls.Certificate, error) {
	return nil, errors.New("for " + name)
}

func (fakeMinter) Like(_ context.Context, server *x509.Certificate) (*tls.Certificate, error) {
	return nil, errors.New("like " + strings.Join(server.DNSNames, " "))
}

// legSpec is a rule whose destination is spoken to in some way.
func legSpec(d DestinationSpec) Spec {
	return Spec{Rules: []RuleSpec{{
		Name: "r", To: []string{"10.0.0.0/8:443"}, ALPN: []string{}, Identity: "pay", Ledger: "steps",
		Client:      ClientSpec{Certificate: "none"},
		Destination: d,
	}}}
}

func legEnv(t *testing.T) Environment {
	env := testEnv(t)
	env.Identities["mint"] = Identity{Name: "mint", Source: identity.NewMinted(fakeMinter{}, env.Identities["pay"].Certificates()[0], nil)}
	return env
}

func TestDestinationLeg(t *testing.T) {
	pin := strings.Repeat("0A", 32)
	for name, tt := range map[string]struct {
		spec   DestinationSpec
		check  func(*Plan) bool
		errors []string // parts of the findings, in order
	}{
		"plain": {DestinationSpec{TLS: "plain"}, func(p *Plan) bool { return p.Mode == TLSPlain && p.dest == nil && !p.ProxyV2 && !p.DialFirst }, nil},
		"all of it": {
			DestinationSpec{TLS: "verify", Authorities: []string{"servers"}, Identity: "pay", Pins: []string{pin}, ProxyProtocol: "v2"},
			func(p *Plan) bool {
				return p.Mode == TLSVerify && len(p.dest.Certificates) == 1 && len(p.dest.Pins) == 1 && p.dest.Pins[0][31] == 10 &&
					!p.dest.Insecure && p.ProxyV2 && p.dest.Ledger == handshake.LedgerSteps && p.Client.Ledger == handshake.LedgerSteps
			}, nil,
		},
		"insecure": {
			DestinationSpec{TLS: "insecure"}, func(p *Plan) bool {
				return p.Mode == TLSInsecure && p.dest.Insecure && p.dest.Authorities == nil || len(p.dest.Authorities) == 0
			},
			[]string{"insecure: nobody knows who answers"},
		},
		"first":      {DestinationSpec{TLS: "plain", Dial: "first"}, func(p *Plan) bool { return p.DialFirst }, []string{"the destination sees the gateway before the client is verified"}},
		"as client":  {DestinationSpec{TLS: "plain", Source: "client"}, func(p *Plan) bool { return p.Source == SourceClient }, nil},
		"as gateway": {DestinationSpec{TLS: "plain", Source: "gateway"}, func(p *Plan) bool { return p.Source == SourceGateway }, nil},
		"as nobody":  {DestinationSpec{TLS: "plain", Source: "nobody"}, nil, []string{`unknown word "nobody": write "gateway" or "client"`}},
		"verified":   {DestinationSpec{TLS: "plain", Dial: "verified"}, func(p *Plan) bool { return !p.DialFirst }, nil},

		"insecure with authorities": {DestinationSpec{TLS: "insecure", Authorities: []string{"servers"}}, nil, []string{"nobody knows", "nothing is verified with tls: insecure"}},
		"plain with pins":           {DestinationSpec{TLS: "plain", Pins: []string{pin}}, nil, []string{"there is no TLS to the destination"}},
		"plain with identity":       {DestinationSpec{TLS: "plain", Identity: "pay"}, nil, []string{"there is no TLS to the destination"}},
		"no authorities":            {DestinationSpec{TLS: "verify", Pins: []string{pin}}, nil, []string{"must say from whom"}},
		"short pin":                 {DestinationSpec{TLS: "insecure", Pins: []string{"00"}}, nil, []string{"insecure", "is no pin"}},
		"no pins":                   {DestinationSpec{TLS: "insecure", Pins: []string{}}, nil, []string{"insecure", "the list is empty"}},
		"minted as a client":        {DestinationSpec{TLS: "insecure", Identity: "mint"}, nil, []string{"insecure", "cannot stand for us as a client"}},
		"unknown identity":          {DestinationSpec{TLS: "insecure", Identity: "x"}, nil, []string{"insecure", `there is no "x" in identities`}},
		"proxy v1":                  {DestinationSpec{TLS: "plain", ProxyProtocol: "v1"}, nil, []string{`unknown version "v1"`}},
		"dial later":                {DestinationSpec{TLS: "plain", Dial: "later"}, nil, []string{`unknown order "later"`}},
		"first with proxy":          {DestinationSpec{TLS: "plain", Dial: "first", ProxyProtocol: "v2"}, nil, []string{"before the client is verified", "leave one of them out"}},
	} {
		set, found := Compile(legSpec(tt.spec), legEnv(t))
		for i, want := range tt.errors {
			if i >= len(found) || !strings.Contains(found[i].Error(), want) {
				t.Errorf("%s: %v, want %q", name, found, want)
			}
		}
		if len(found) > len(tt.errors) || (set != nil) != (tt.check != nil) {
			t.Errorf("%s: set %v, %v", name, set != nil, found)
			continue
		}
		if set != nil && !tt.check(&set.rules[0].plan) {
			t.Errorf("%s: %+v", name, set.rules[0].plan)
		}
	}
}

// Everything about the destination is part of the policy's digest.
func TestDestinationDigest(t *testing.T) {
	seen := map[string]string{}
	for name, d := range map[string]DestinationSpec{
		"plain": {TLS: "plain"}, "first": {TLS: "plain", Dial: "first"}, "proxy": {TLS: "plain", ProxyProtocol: "v2"},
		"as client": {TLS: "plain", Source: "client"},
		"insecure":  {TLS: "insecure"}, "pin": {TLS: "insecure", Pins: []string{strings.Repeat("0a", 32)}}, "identity": {TLS: "insecure", Identity: "pay"},
	} {
		set, found := Compile(legSpec(d), legEnv(t))
		if set == nil {
			t.Fatal(found)
		}
		if other, ok := seen[set.ID()]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[set.ID()] = name
	}
}

// Rules that do not say have the source of the environment, bypasses too; what
// else destination says is nothing to a bypass.
func TestSource(t *testing.T) {
	spec := Spec{Mode: "observe", Rules: []RuleSpec{
		{Name: "own", To: []string{"10.0.0.1:443"}, Action: "bypass", Destination: DestinationSpec{Source: "gateway"}},
		{Name: "bypass", To: []string{"10.0.0.2:443"}, Action: "bypass"},
		{Name: "terminate", To: []string{"10.0.0.3:443"}, Identity: "pay", Client: ClientSpec{Certificate: "none"}, Destination: DestinationSpec{TLS: "plain"}},
	}}
	ids := map[string]bool{}
	for _, source := range []Source{SourceGateway, SourceClient} {
		env := testEnv(t)
		env.Source = source
		set, found := Compile(spec, env)
		if set == nil {
			t.Fatal(found)
		}
		ids[set.ID()] = true
		for i, want := range []Source{SourceGateway, source, source} {
			if got := set.rules[i].plan.Source; got != want {
				t.Errorf("%v, rule %s: %v", source, spec.Rules[i].Name, got)
			}
		}
		if got := set.open.plan.Source; got != source {
			t.Errorf("no rule, observed: %v", got)
		}
	}
	if len(ids) != 2 {
		t.Error("the digest does not know the source")
	}
	for _, d := range []DestinationSpec{{Source: "client", Identity: "pay"}, {ProxyProtocol: "v2"}, {Dial: "first"}, {Pins: []string{}}} {
		bad := Spec{Rules: []RuleSpec{{Name: "b", To: []string{"10.0.0.1:443"}, Action: "bypass", Destination: d}}}
		if set, found := Compile(bad, testEnv(t)); set != nil || !strings.Contains(found[0].Error(), "nothing looks at this") {
			t.Errorf("%+v: %v", d, found)
		}
	}
	if Source(7).String() != "unknown" {
		t.Error("an unknown source has a name")
	}
}

// A rule whose identity is made on demand asks for the name of the hello; and
// for those of the destination only where that was verified and proven.
func TestMintedIdentity(t *testing.T) {
	spec := legSpec(DestinationSpec{TLS: "plain"})
	spec.Rules[0].Identity = "mint"
	set, found := Compile(spec, legEnv(t))
	if set == nil {
		t.Fatal(found)
	}
	p := &set.rules[0].plan
	ask := func(params *handshake.ServerParams) string {
		_, err := params.Identity.For(t.Context(), &handshake.ClientHello{SNIPresent: true, ServerName: "a.test"}, time.Time{})
		return err.Error()
	}
	if got := ask(p.Client); got != "for a.test" {
		t.Error(got)
	}
	leaf := testPKI().gateway.Cert
	good := &handshake.Peer{Shown: []*x509.Certificate{leaf}, Chain: []*x509.Certificate{leaf}, Proven: true}
	for want, peer := range map[string]*handshake.Peer{"like pay.internal": good, "for a.test": {Shown: good.Shown, Proven: true}} {
		params := *p.Client
		p.MintLike(&params, peer)
		if got := ask(&params); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	params := *p.Client
	p.MintLike(&params, &handshake.Peer{Shown: good.Shown, Chain: good.Chain})
	if got := ask(&params); got != "for a.test" {
		t.Errorf("a destination that is not proven: %s", got)
	}
	// No other rule gets a certificate made.
	other, found := Compile(legSpec(DestinationSpec{TLS: "plain"}), legEnv(t))
	if other == nil || other.rules[0].plan.Client.Identity.OnDemand() {
		t.Errorf("not asked for: %v", found)
	}
}
