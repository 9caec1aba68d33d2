package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// withNative is crypto/tls and a second engine that keeps every list, towards destinations
// in some versions.
type withNative struct {
	*stdtls.Engine
	able handshake.Capabilities
}

func newWithNative(destinations []uint16) *withNative {
	e := &withNative{Engine: stdtls.New()}
	native := *e.Engine.Capabilities()
	native.Destinations = destinations
	e.able = *e.Engine.Capabilities()
	e.able.Native = &native
	return e
}

func (e *withNative) Capabilities() *handshake.Capabilities { return &e.able }

func (e *withNative) Cannot(p *handshake.Params) []handshake.Limit {
	if p.Profile.Engine == handshake.EngineNative {
		return nil
	}
	return e.Engine.Cannot(p)
}

// Each leg of a rule is held against the engine that makes it: what the client's keeps
// and the destination's cannot is a mistake, unless the profile says what to do then.
func TestEngineOfEachLeg(t *testing.T) {
	const (
		list    = "a list of TLS 1.3 CipherSuites other than"
		useless = `engine: native speaks TLS 1.3 alone with destinations: give the destination a profile with versions: ["1.3"]`
		keeps   = "a profile with engine: native keeps it"
	)
	exact, only13 := []string{"TLS_AES_256_GCM_SHA384"}, []uint16{0x0304}
	for name, tt := range map[string]struct {
		spec       handshake.ProfileSpec
		dials      []uint16
		tls, other string   // destination.tls and destination.profile
		want       []string // parts of the one mistake, nil if there is none
		legs       string   // the engines of both legs
	}{
		"std":                           {handshake.ProfileSpec{TLS13: exact}, only13, "plain", "", []string{"profile: ", list, keeps}, ""},
		"the named one":                 {handshake.ProfileSpec{Base: "fips"}, only13, "plain", "", []string{"profile: ", list, keeps}, ""},
		"native, plain":                 {handshake.ProfileSpec{TLS13: exact, Engine: "native"}, only13, "plain", "", nil, "native"},
		"inexpressible: native, plain":  {handshake.ProfileSpec{TLS13: exact, Inexpressible: "native"}, only13, "plain", "", nil, "native"},
		"the destination's leg too":     {handshake.ProfileSpec{TLS13: exact, Engine: "native"}, only13, "verify", "", []string{"destination.tls: ", list, useless, "cap-1.2"}, ""},
		"inexpressible: native, TLS":    {handshake.ProfileSpec{TLS13: exact, Inexpressible: "native"}, only13, "verify", "", []string{"destination.tls: ", list, useless}, ""},
		"its own profile":               {handshake.ProfileSpec{TLS13: exact, Engine: "native"}, only13, "verify", "house", []string{"destination.profile: ", list, useless}, ""},
		"another profile":               {handshake.ProfileSpec{TLS13: exact, Engine: "native"}, only13, "verify", "modern", nil, "native std"},
		"held at TLS 1.2 there":         {handshake.ProfileSpec{TLS13: exact, Engine: "native", Inexpressible: "cap-1.2"}, only13, "verify", "", nil, "native std"},
		"no list":                       {handshake.ProfileSpec{Engine: "native"}, only13, "verify", "", nil, "native std"},
		"an engine that is both":        {handshake.ProfileSpec{TLS13: exact, Engine: "native"}, nil, "verify", "", nil, "native native"},
		"TLS 1.3 alone":                 {handshake.ProfileSpec{TLS13: exact, Engine: "native", Versions: []string{"1.3"}}, only13, "verify", "", nil, "native native"},
		"TLS 1.3 alone, its own":        {handshake.ProfileSpec{TLS13: exact, Engine: "native", Versions: []string{"1.3"}}, only13, "verify", "house", nil, "native native"},
		"TLS 1.3 alone, std":            {handshake.ProfileSpec{TLS13: exact, Versions: []string{"1.3"}}, only13, "verify", "", []string{"profile: ", list, keeps}, ""},
		"the named one is std's":        {handshake.ProfileSpec{}, only13, "verify", "", nil, "std std"},
		"TLS 1.2 alone asks for nobody": {handshake.ProfileSpec{Base: "fips", Versions: []string{"1.2"}, Inexpressible: "native"}, only13, "verify", "", nil, "std std"},
	} {
		t.Run(name, func(t *testing.T) {
			env := testEnv(t)
			engine := newWithNative(tt.dials)
			env.Engine = engine
			env.Profiles["house"] = testpki.Must(tt.spec.Resolve("house", engine.Capabilities()))
			dest := "{tls: " + tt.tls
			if tt.tls == "verify" {
				dest += ", authorities: [servers]"
			}
			if tt.other != "" {
				dest += ", profile: " + tt.other
			}
			set, findings := Compile(readSpec(t, fmt.Sprintf(`
rules:
  - name: pay
    action: terminate
    to: ["10.0.0.0/24:443"]
    alpn: []
    identity: pay
    profile: house
    client: {authorities: [staff]}
    destination: %s}
`, dest)), env)
			var mistakes []string
			for _, f := range findings {
				if !f.Warning {
					mistakes = append(mistakes, f.Error())
				}
			}
			if len(mistakes) != min(len(tt.want), 1) {
				t.Fatalf("%q", mistakes)
			}
			for _, part := range tt.want {
				if !strings.Contains(mistakes[0], part) {
					t.Errorf("%q has no %q", mistakes[0], part)
				}
			}
			if tt.want != nil {
				return
			}
			legs := set.rules[0].plan.Client.Profile.Engine.String()
			if d := set.rules[0].plan.dest; d != nil {
				legs += " " + d.Profile.Engine.String()
			}
			if legs != tt.legs {
				t.Errorf("the legs are made by %s, not %s", legs, tt.legs)
			}
		})
	}
}

// The engine is part of a policy, and its absence leaves the digest as it was.
func TestEngineIsInTheDigest(t *testing.T) {
	const text = `
rules:
  - {name: pay, action: terminate, to: ["10.0.0.0/24:443"], alpn: [], identity: pay, profile: house, client: {authorities: [staff]}, destination: {tls: plain}}
`
	id := func(spec handshake.ProfileSpec) string {
		env := testEnv(t)
		engine := newWithNative([]uint16{0x0304})
		env.Engine = engine
		env.Profiles["house"] = testpki.Must(spec.Resolve("house", engine.Capabilities()))
		set, findings := Compile(readSpec(t, text), env)
		if set == nil {
			t.Fatal(findings)
		}
		return set.ID()
	}
	std, named, native := id(handshake.ProfileSpec{}), id(handshake.ProfileSpec{Engine: "std"}), id(handshake.ProfileSpec{Engine: "native"})
	if std != named || std == native {
		t.Errorf("%s, %s, %s", std, named, native)
	}
}
