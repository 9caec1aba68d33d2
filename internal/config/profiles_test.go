package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/handshake/stdtls"
)

// The engine of the file is that of the profiles that name none, as long as it can keep
// them.
func TestEngineOfTheFile(t *testing.T) {
	dir := identityFiles(t)
	const (
		profiles = `
profiles:
  silent: {base: modern}
  own: {base: modern, engine: native}
  std: {base: modern, engine: std}
  capped: {base: intermediate, tls13: [TLS_AES_256_GCM_SHA384], inexpressible: cap-1.2}
identities: {pay: {certificate: rsa.pem, key: rsa.key}}
`
		rules = `
policy:
  rules:
    - {name: r, to: ['10.0.0.0/8:443'], client: {certificate: required, authorities: [staff]}, identity: pay, profile: PROFILE, alpn: [], destination: {tls: plain}}
`
	)
	check := func(t *testing.T, line, profile string, eng handshake.Engine) (*Runtime, string) {
		t.Helper()
		text := "version: 1\n" + line + "\ncapture: {interfaces: [eth1], ports: [443]}\nauthorities: {staff: {roots: staff.pem}}\n" + profiles + strings.Replace(rules, "PROFILE", profile, 1)
		file := filepath.Join(dir, "gateway.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		rt, found := Check(file, eng)
		return rt, messages(found)
	}
	for _, c := range []struct {
		line string
		want map[string]handshake.EngineKind
	}{
		{"", map[string]handshake.EngineKind{"intermediate": handshake.EngineStd, "silent": handshake.EngineStd, "own": handshake.EngineNative, "std": handshake.EngineStd}},
		{"engine: std", map[string]handshake.EngineKind{"modern": handshake.EngineStd, "silent": handshake.EngineStd, "own": handshake.EngineNative}},
		{"engine: native", map[string]handshake.EngineKind{
			"modern": handshake.EngineNative, "intermediate": handshake.EngineNative, "silent": handshake.EngineNative, "own": handshake.EngineNative,
			"std": handshake.EngineStd, "capped": handshake.EngineStd,
		}},
	} {
		rt, found := check(t, c.line, "modern", engines.New())
		if rt == nil {
			t.Fatalf("%q: %s", c.line, found)
		}
		if strings.Contains(found, "stays with") {
			t.Errorf("%q: no rule uses what stays: %s", c.line, found)
		}
		for name, want := range c.want {
			if got := rt.Environment.Profiles[name].Engine; got != want {
				t.Errorf("%q: profile %s has engine %s, want %s", c.line, name, got, want)
			}
		}
	}

	stays := &withoutTLS12{Engine: engines.New()}
	rt, found := check(t, "engine: native", "intermediate", stays)
	if rt == nil || !strings.Contains(found, `engine: profile "intermediate" stays with crypto/tls: the native engine cannot keep TLS 1.2: a test says so`) {
		t.Errorf("what stays is not said: %s", found)
	}
	if rt != nil && rt.Environment.Profiles["intermediate"].Engine != handshake.EngineStd {
		t.Error("it did not stay")
	}
	if rt, found := check(t, "engine: natve", "modern", engines.New()); rt != nil || !strings.Contains(found, "engine: ") || !strings.Contains(found, "native") {
		t.Errorf("an unknown engine: %s", found)
	}
	if rt, found := check(t, "engine: native", "std", stdtls.New()); rt != nil || !strings.Contains(found, "engine: there is no native engine") {
		t.Errorf("without a native engine: %s", found)
	}
}

// withoutTLS12 is an engine that says it cannot keep TLS 1.2.
type withoutTLS12 struct{ handshake.Engine }

func (e *withoutTLS12) Cannot(p *handshake.Params) []handshake.Limit {
	if p.Profile.Engine == handshake.EngineNative && p.Profile.MinVersion < 0x0304 {
		return []handshake.Limit{{What: "TLS 1.2", Why: "a test says so"}}
	}
	return e.Engine.Cannot(p)
}
