package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// With engine: native the list of TLS 1.3 CipherSuites is kept with every TLS library,
// whatever it would rather have; clients of TLS 1.2 get what its list says; and who
// shows no certificate, or one of another CA, is told so as ever.
func TestNativeEngineWithRealClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	for _, c := range realClients {
		testenv.Tool(t, c.name)
	}
	mallory := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{CN: "other CA"})).Issue(testpki.Leaf{CN: "mallory"}))
	if _, _, err := mallory.WritePEM(w.dir, "mallory"); err != nil {
		t.Fatal(err)
	}
	addr := lab.ServerAddr(0, false).String()
	w.issue("pay", payNames(addr))
	type client struct {
		name string
		run  func(version, cert string) string
		many bool
	}
	var clients []client
	for _, c := range realClients {
		clients = append(clients, client{name: c.name, run: func(version, cert string) string {
			out, _ := w.client(c.stdin, c.name, c.args(version, addr, cert)...)
			return out
		}})
	}
	for _, p := range programs {
		if p.many { // Chromium: ten seconds a start
			continue
		}
		for _, tool := range p.tools {
			testenv.Tool(t, tool)
		}
		if p.prepare != nil {
			p.prepare(w)
		}
		clients = append(clients, client{p.name, func(version, cert string) string { return p.run(w, version, addr, cert) }, p.many})
	}
	w.origin(server(false), serveHTTP)
	w.config(strings.Replace(payRule, "identity: pay", "identity: pay\n      profile: house", 1), `
profiles:
  house: {base: intermediate, engine: native, tls12: [ECDHE-ECDSA-AES128-GCM-SHA256], tls13: [TLS_AES_256_GCM_SHA384]}
`)
	w.start(w.patient())
	n := 0
	meet := func(name, version, suite, cert, reason string, run func() string) {
		t.Run(fmt.Sprintf("%s/%s/%s", name, version, reason), func(t *testing.T) {
			out := run()
			got := w.newer(n)
			n += len(got)
			r := pick(got, reason)
			if r == nil {
				t.Fatalf("records %v; the client said:\n%s", got, out)
			}
			if reached := strings.Contains(out, "origin says"); reached != (reason == "verified") {
				t.Errorf("origin reached: %v; the client said:\n%s", reached, out)
			}
			if reason != "verified" {
				if want := map[string]string{"no_certificate": noCertificateAlert[version], "unknown_ca": "unknown_ca(48)", "no_common_suite": "insufficient_security(71)", "handshake_failed": "inappropriate_fallback(86)"}[reason]; r.str("alert_sent") != want {
					t.Errorf("alert_sent %s, not %s", r.str("alert_sent"), want)
				}
				return
			}
			if leg, _ := r["client_leg"].(map[string]any); leg["version"] != "TLS "+version || leg["suite"] != suite || r.peer("proven") != true {
				t.Errorf("%v, %v in the record %v", leg["version"], leg["suite"], r)
			}
			if version == "1.3" && r.str("engine") != "native" {
				t.Errorf("made by another engine: %v", r)
			}
		})
	}
	const suite13 = "TLS_AES_256_GCM_SHA384"
	const suite12 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	for _, c := range clients {
		for version, suite := range map[string]string{"1.3": suite13, "1.2": suite12} {
			for cert, reason := range map[string]string{"alice": "verified", "": "no_certificate"} {
				meet(c.name, version, suite, cert, reason, func() string { return c.run(version, cert) })
			}
		}
	}
	openssl := func(more ...string) func() string {
		return func() string {
			args := append([]string{"s_client", "-connect", addr + ":443", "-servername", "pay.example", "-CAfile", "ca.pem", "-ign_eof", "-cert", "alice.pem", "-key", "alice.key"}, more...)
			out, _ := w.client(request, "openssl", args...)
			return out
		}
	}
	meet("openssl", "1.3", suite13, "mallory", "unknown_ca", func() string { return clients[1].run("1.3", "mallory") })
	meet("openssl", "1.2", suite12, "mallory", "unknown_ca", func() string { return clients[1].run("1.2", "mallory") })
	meet("openssl, a fallback", "1.2", suite12, "alice", "handshake_failed", openssl("-tls1_2", "-fallback_scsv"))
	meet("openssl, AES-256 alone", "1.2", suite12, "alice", "no_common_suite", openssl("-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", "-tls1_2"))
	meet("openssl, AES-128 alone", "1.3", suite13, "alice", "no_common_suite", openssl("-ciphersuites", "TLS_AES_128_GCM_SHA256", "-tls1_3"))
	meet("openssl, a group that has to be asked for", "1.3", suite13, "alice", "verified", openssl("-groups", "P-521:P-384", "-tls1_3"))
}

// The probe finds from outside exactly what a profile says that crypto/tls cannot keep,
// with engine: native.
func TestProbeFindsTheNativeProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	strong := testpki.Must(testpki.NewCA(testpki.Options{CN: "strong CA", Key: testpki.P384}))
	w.pem("strong-ca.pem", strong.PEM())
	bases := []string{"cnsa1", "fips", "bsi"}
	rules, profiles := "", "profiles:\n"
	var names []string
	for _, base := range bases {
		names = append(names, base+".example")
		profiles += fmt.Sprintf("  own-%s: {base: %s, inexpressible: native}\n", base, base)
		rules += fmt.Sprintf(`
    - {name: %s, to: ["*:443"], sni: [%s.example], identity: strong, profile: own-%s, client: {certificate: required, authorities: [strong]}, destination: {tls: plain}}
`, base, base, base)
	}
	for name, leaf := range map[string]testpki.Leaf{"strong": {CN: "gateway", DNS: names, Key: testpki.P384}, "strong-alice": {CN: "alice", Key: testpki.P384}} {
		if _, _, err := testpki.Must(strong.Issue(leaf)).WritePEM(w.dir, name); err != nil {
			t.Fatal(err)
		}
	}
	w.origin(server(false), serveHTTP)
	w.config(rules, profiles)
	w.rewrite("  staff: {roots: ca.pem}\n", "  strong: {roots: strong-ca.pem}\n")
	config := w.rewrite("identities:\n", "identities:\n  strong: {certificate: strong.pem, key: strong.key}\n")
	w.rewrite("  pay: {certificate: pay.pem, key: pay.key}\n", "")
	w.start(config)
	for _, base := range bases {
		t.Run(base, func(t *testing.T) {
			got, code := w.probe("--sni", base+".example", "--against", base, "--cert", "strong-alice.pem", "--key", "strong-alice.key")
			if code != 0 || got.Fit == nil || !got.Fit.Fits || got.Incomplete != "" {
				t.Fatalf("code %d: %+v", code, got)
			}
			for _, q := range got.Requests {
				if q.Answer != "with our certificate the server went on" {
					t.Errorf("%+v", q)
				}
			}
		})
	}
}

// With engine: native and TLS 1.3 alone the list is kept towards a destination too, whose
// server would rather have another CipherSuite; our identity is shown to one that proved
// its own, and to no other.
func TestNativeDestination(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	testenv.Tool(t, "curl")
	addr := lab.ServerAddr(0, false).String()
	w.issue("pay", payNames(addr))
	origin := w.issue("origin", testpki.Leaf{CN: "origin", DNS: []string{"origin.example"}})
	other := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{CN: "other CA"})).Issue(testpki.Leaf{CN: "origin", DNS: []string{"origin.example"}}))
	type met struct {
		cs  tls.ConnectionState
		err error
	}
	var stolen atomic.Bool
	seen := make(chan met, 4)
	w.origin(server(false), func(c net.Conn) {
		cert := origin.TLS()
		if stolen.Load() {
			cert = other.TLS()
		}
		tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert})
		err := tc.Handshake()
		seen <- met{tc.ConnectionState(), err}
		if err == nil {
			serveHTTP(tc)
		}
	})
	w.start(w.config(`
    - name: pay
      to: ["*:443"]
      identity: pay
      client: {certificate: required, authorities: [staff]}
      destination: {tls: verify, authorities: [staff], identity: pay, name: origin.example, profile: strict}
`, `
profiles:
  strict: {base: intermediate, engine: native, versions: ["1.3"], tls13: [TLS_CHACHA20_POLY1305_SHA256], groups: [secp384r1, x25519]}
`))
	for n, want := range []string{"verified", "destination_unknown_ca"} {
		stolen.Store(want != "verified")
		out, _ := w.client("", "curl", realClients[0].args("1.3", addr, "alice")...)
		r := w.last(n + 1)
		got := testenv.Receive(t, "the destination's end", seen)
		if r.str("reason") != want || strings.Contains(out, "origin says") != (want == "verified") {
			t.Fatalf("reason %s (%s), want %s; the destination has %v; the client said:\n%s", r.str("reason"), r.str("detail"), want, got.err, out)
		}
		if want != "verified" {
			if got.err == nil || len(got.cs.PeerCertificates) != 0 {
				t.Errorf("it has seen our certificate: %v", got.err)
			}
			continue
		}
		leg, _ := r["destination_leg"].(map[string]any)
		if leg["version"] != "TLS 1.3" || leg["suite"] != "TLS_CHACHA20_POLY1305_SHA256" || leg["group"] != "secp384r1" {
			t.Errorf("destination_leg %v", leg)
		}
		if cs := got.cs; cs.CipherSuite != tls.TLS_CHACHA20_POLY1305_SHA256 || cs.CurveID != tls.CurveP384 || len(cs.PeerCertificates) == 0 || cs.ServerName != "pay.example" {
			t.Errorf("the destination has %+v", cs)
		}
	}
}
