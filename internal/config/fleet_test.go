package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/fileset"
)

const ownHead = "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nfleet: {root: r.json, certificate: g.pem, source: \"file:/srv\", state: s}\n"

// Of a gateway in a fleet, its own file has what is the host's and the bundle all else. What stands
// in the wrong one, and what is wrong in either, is found where it stands.
func TestOwnFileAndBundle(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sslgate.yaml")
	for _, c := range []struct {
		what, own, bundle string
		want              []string // the findings' file:line:col: path, those that are no warnings
	}{
		{"good", ownHead, "version: 1\npolicy: {rules: []}\n", nil},
		{"policy at home", ownHead + "policy: {rules: []}\n", "version: 1\npolicy: {rules: []}\n", []string{"own:4:1: policy"}},
		{"capture in the bundle", ownHead, "version: 1\npolicy: {rules: []}\ncapture: {ports: [444]}\n", []string{"fleet:/sslgate.yaml:3:1: capture"}},
		{"fleet in the bundle", ownHead, "version: 1\npolicy: {rules: []}\nfleet: {poll: 1s}\n", []string{"fleet:/sslgate.yaml:3:1: fleet"}},
		{"wrong at home", ownHead + "dial: {timeout: 1h}\n", "version: 1\npolicy: {rules: [x]}\n", []string{"own:4:17: dial.timeout"}},
		{"wrong in the bundle", ownHead, "version: 1\npolicy: {rules: []}\nlimits: {chain: 0}\n", []string{"fleet:/sslgate.yaml:3:17: limits.chain"}},
		{"wrong together", ownHead + "admin: {metrics: {listen: \"127.0.0.1:1\", identity: none, client: {authorities: [none]}}}\n",
			"version: 1\npolicy: {rules: []}\n", []string{"own:4:52: admin.metrics.identity", "own:4:81: admin.metrics.client.authorities[0]"}},
		{"a secret in the bundle", ownHead, "version: 1\npolicy: {rules: []}\ntickets: {keys: t.keys}\n", []string{"fleet:/sslgate.yaml:3:17: tickets.keys"}},
		{"a socket in the bundle", ownHead, "version: 1\npolicy: {rules: []}\nidentities: {a: {certificate: /x.pem, key: \"signer:s.sock\"}}\n",
			[]string{"fleet:/sslgate.yaml:3:31: identities.a.certificate", "fleet:/sslgate.yaml:3:44: identities.a.key"}},
		{"out of the bundle", ownHead, "version: 1\npolicy: {rules: []}\nauthorities: {a: {roots: ../x.pem}}\n", []string{"fleet:/sslgate.yaml:3:26: authorities.a.roots"}},
	} {
		if err := os.WriteFile(file, []byte(c.own), 0o600); err != nil {
			t.Fatal(err)
		}
		src := fileset.Overlay{Bundle: fileset.Bytes{BundleFile: []byte(c.bundle)}}
		checked, err := CheckWithin(context.Background(), nil, src, file, stdtls.New())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range checked.Findings {
			if !f.Warning {
				f.Msg = ""
				got = append(got, strings.TrimSuffix(strings.Replace(f.String(), file, "own", 1), ": "))
			}
		}
		if !slices.Equal(got, c.want) || (checked.Runtime == nil) != (len(c.want) > 0) {
			t.Errorf("%s: %q\n%v", c.what, got, checked.Findings)
		}
		if f, err := LoadFrom(src, file); len(c.want) == 0 && (err != nil || f.Name != BundleFile || f.Config.Capture.Ports.List[0] != 443) {
			t.Errorf("%s: %v", c.what, err)
		}
		if rt := checked.Runtime; rt != nil {
			if rt.Config.Capture.Ports.List[0] != 443 || rt.Config.Fleet.State != filepath.Join(dir, "s") || !slices.Contains(rt.Files, file) || !slices.Contains(rt.Files, BundleFile) {
				t.Errorf("%+v, %v", rt.Config, rt.Files)
			}
		}
	}
}

// Without a bundle there is nothing to run on, but what is captured is known: the guard can be set.
func TestNoBundleYet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sslgate.yaml")
	if err := os.WriteFile(file, []byte(ownHead), 0o600); err != nil {
		t.Fatal(err)
	}
	if rt, found := Check(file, stdtls.New()); rt != nil || len(found) != 1 || !strings.Contains(found[0].String(), "3:1: fleet: there is no bundle of the fleet yet") {
		t.Errorf("%v", found)
	}
	if c, found := LoadCapture(file); c == nil || Failed(found) || c.Capture.Ports.List[0] != 443 {
		t.Errorf("%v", found)
	}
	if own, found := InFleet(file); own == nil || len(found) > 0 || !filepath.IsAbs(own.Fleet.Root) {
		t.Errorf("%v, %v", own, found)
	}
}

// What a gateway's own file must say of the fleet.
func TestFleetKeys(t *testing.T) {
	for fleet, want := range map[string]string{
		"{root: r, certificate: c, source: \"file:/s\"}":                                                     "fleet.state",
		"{root: r, certificate: c, source: \"http://h/s\", state: s}":                                        "fleet.source",
		"{root: r, certificate: c, source: \"https://h/s\", state: s}":                                       "fleet.key",
		"{root: r, certificate: c, source: \"file:/s\", state: s, ca: x}":                                    "fleet.ca",
		"{root: r, certificate: c, source: \"file:/s\", state: s, poll: 1ms}":                                "fleet.poll",
		"{certificate: c, source: \"file:/s\", state: s}":                                                    "fleet.root",
		"{root: r, certificate: c, source: \"file:/s\", state: s, stale: no}":                                "fleet.stale",
		"{root: r, certificate: c, source: \"file:/s\", state: s, stale_after: 1h}":                          "fleet.stale_after",
		"{root: r, certificate: c, source: \"file:/s\", state: s, stale: refuse, stale_after: 5s, poll: 1s}": "fleet.stale_after",
		"{root: r, certificate: c, source: \"file:/s\", state: s, stale: refuse, stale_after: 1m, poll: 1m}": "fleet.stale_after",
		"{root: r, certificate: c, source: \"https://h/s\", key: k, state: s, ca: c}":                        "",
	} {
		f := parse("own.yaml", []byte("version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nfleet: "+fleet+"\n"))
		switch {
		case want == "" && Failed(f.findings), want != "" && (len(f.findings) != 1 || f.findings[0].Path != want):
			t.Errorf("%s: %v, wanted %q", fleet, f.findings, want)
		}
	}
}
