package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// probeOf is what the test reads of `sslgate probe --json`.
type probeOf struct {
	Connections int    `json:"connections"`
	Incomplete  string `json:"incomplete"`
	Groups      []struct {
		Name string `json:"name"`
	} `json:"groups"`
	Requests []struct {
		Version string   `json:"version"`
		Types   []string `json:"types"`
		CANames []string `json:"ca_names"`
		Answer  string   `json:"answer"`
	} `json:"certificate_requests"`
	Certificates []struct {
		Trusted bool   `json:"trusted"`
		Verdict string `json:"verdict"`
	} `json:"certificates"`
	Fit *struct {
		Fits       bool     `json:"fits"`
		Violations []string `json:"violations"`
	} `json:"fit"`
	Picture string `json:"picture"`
}

// probe runs `sslgate probe` in the client's namespace.
func (w *world) probe(args ...string) (probeOf, int) {
	w.t.Helper()
	path, err := binary()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := w.lab.Command(lab.Client, path, append([]string{"probe", server(false), "--json", "--ca", "strong-ca.pem"}, args...)...)
	cmd.Dir = w.dir
	out, err := cmd.Output()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		w.t.Fatal(err)
	}
	var p probeOf
	if err := json.Unmarshal(out, &p); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return p, code
}

// Probe the gateway from outside: the probe finds exactly what a rule's profile says, for
// every named profile that the engine can keep.
func TestProbeFindsTheProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	// Good enough for the strictest profile.
	strong := testpki.Must(testpki.NewCA(testpki.Options{CN: "strong CA", Key: testpki.P384}))
	w.pem("strong-ca.pem", strong.PEM())
	engine := stdtls.New()
	var kept []handshake.Profile
	var names []string
	rules := ""
	for _, p := range handshake.NamedProfiles() {
		// Key transport needs an RSA key that no other profile uses.
		if len(engine.Cannot(&handshake.Params{Profile: p})) > 0 || p.KeyTransport() {
			continue
		}
		kept = append(kept, p)
		names = append(names, p.Name+".example")
		rules += fmt.Sprintf(`
    - {name: %s, to: ["*:443"], sni: [%s.example], identity: strong, profile: %s, client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}
`, p.Name, p.Name, p.Name)
	}
	if len(kept) < 2 {
		t.Fatalf("only %d profiles can be kept", len(kept))
	}
	if _, _, err := testpki.Must(strong.Issue(testpki.Leaf{CN: "gateway", DNS: names, Key: testpki.P384})).WritePEM(w.dir, "strong"); err != nil {
		t.Fatal(err)
	}
	w.origin(server(false), serveHTTP)
	w.config(rules, "")
	config := w.rewrite("identities:\n", "identities:\n  strong: {certificate: strong.pem, key: strong.key}\n")
	w.rewrite("  pay: {certificate: pay.pem, key: pay.key}\n", "")
	w.start(config)

	for _, p := range kept {
		t.Run(p.Name, func(t *testing.T) {
			got, code := w.probe("--sni", p.Name+".example", "--against", p.Name, "--cert", "alice.pem", "--key", "alice.key")
			if code != 0 || got.Fit == nil || !got.Fit.Fits || got.Incomplete != "" {
				t.Fatalf("code %d: %+v", code, got)
			}
			if len(got.Certificates) != 1 || !got.Certificates[0].Trusted {
				t.Errorf("%+v", got.Certificates)
			}
			var groups []string
			for _, g := range got.Groups {
				groups = append(groups, g.Name)
			}
			for _, id := range p.Groups {
				if name := handshake.GroupName(id); !slices.Contains(groups, name) {
					t.Errorf("%s is not accepted: %v", name, groups)
				}
			}
			for _, q := range got.Requests {
				if !slices.Equal(q.CANames, []string{"CN=e2e CA,O=sslgate test"}) || q.Answer != "with our certificate the server went on" {
					t.Errorf("%+v", q)
				}
				if q.Version == "TLS 1.2" && !slices.Equal(q.Types, []string{"rsa_sign", "ecdsa_sign"}) {
					t.Errorf("types %v", q.Types)
				}
			}
			if !strings.Contains(got.Picture, "application data") {
				t.Errorf("picture:\n%s", got.Picture)
			}
		})
	}
	// The record of the gateway knows the probe's wrong questions by name.
	if pick(w.records(1), "no_common_suite") == nil {
		t.Error("no record of a hello without a CipherSuite in common")
	}
	// What one profile allows, another one forbids: the answer is no.
	if got, code := w.probe("--sni", "intermediate.example", "--against", "modern"); code != 1 || got.Fit.Fits || len(got.Fit.Violations) == 0 {
		t.Errorf("code %d: %+v", code, got.Fit)
	}
}
