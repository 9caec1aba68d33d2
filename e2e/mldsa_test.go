package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Chains of ML-DSA-87 and a key exchange of ML-KEM-1024 alone, with OpenSSL 3.5 as the
// client: what CNSA 2.0 wants, but for the CipherSuite, to which crypto/tls cannot be
// held. Nobody else gets in, and the destination is one of ML-DSA too.
func TestMLDSA(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	node := testenv.Node26(t)
	pq := testpki.Must(testpki.NewCA(testpki.Options{CN: "PQ CA", Key: testpki.MLDSA87}))
	issue := func(name string, kind testpki.KeyKind) *testpki.Cert {
		c := testpki.Must(pq.Issue(testpki.Leaf{CN: name, DNS: []string{name + ".example"}, Key: kind}))
		if _, _, err := c.WritePEM(w.dir, name); err != nil {
			t.Fatal(err)
		}
		return c
	}
	w.pem("ca.pem", pq.PEM()) // the authority "staff"
	classic := "alice"        // from the CA of every test
	issue("pay", testpki.MLDSA87)
	issue("bob", testpki.MLDSA87)
	issue("carol", testpki.P384) // its proof is ECDSA's
	origin := issue("origin", testpki.MLDSA87)
	w.origin(server(false), func(c net.Conn) {
		tc := tls.Server(c, &tls.Config{
			Certificates: []tls.Certificate{origin.TLS()}, CurvePreferences: []tls.CurveID{tls.MLKEM1024},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pq.Pool(),
		})
		serveHTTP(tc)
	})
	w.config(`
    - name: pay
      to: ["*:443"]
      identity: pay
      profile: cnsa2-all-suites
      client: {certificate: required, authorities: [staff]}
      destination: {tls: verify, authorities: [staff], identity: pay, name: origin.example, profile: cnsa2-all-suites}
`, `
profiles:
  cnsa2-all-suites: {base: cnsa2, tls13: [TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256]}
`)
	w.start(w.patient())

	const script = `
const tls = require("tls"), fs = require("fs");
const [cert, addr, group, sigalgs] = process.argv.slice(1);
const o = {host: addr, port: 443, servername: "pay.example", ca: fs.readFileSync("ca.pem"), minVersion: "TLSv1.3", ecdhCurve: group};
if (sigalgs) o.sigalgs = sigalgs;
if (cert) { o.cert = fs.readFileSync(cert + ".pem"); o.key = fs.readFileSync(cert + ".key"); }
const s = tls.connect(o, () => { console.log(s.getProtocol(), s.getEphemeralKeyInfo(), s.getPeerCertificate().subject.CN); s.write("GET / HTTP/1.0\r\n\r\n"); });
s.on("data", d => process.stdout.write(d));
s.on("error", e => { console.log(e.code, e.message); process.exit(1); });
`
	// crypto/tls asks for all that it knows, and what then comes is refused. The native engine
	// asks for what the profile has, so a client with another key has nothing to show.
	otherKey, otherCA := "certificate_weak_signature", "unknown_ca"
	if testenv.Engine() == "native" {
		otherKey, otherCA = "no_certificate", "no_certificate"
	}
	n := 0
	for _, c := range []struct{ cert, group, sigalgs, reason string }{
		{"bob", "MLKEM1024", "", "verified"},
		{"bob", "MLKEM1024", "mldsa87", "verified"},
		{"bob", "X25519MLKEM768:MLKEM1024", "", "verified"}, // after a HelloRetryRequest
		{"bob", "SecP384r1MLKEM1024", "", "no_common_group"},
		{"bob", "MLKEM1024", "mldsa65:mldsa44", "no_common_signature_algorithm"},
		{"carol", "MLKEM1024", "", otherKey},
		{classic, "MLKEM1024", "", otherCA},
		{"", "MLKEM1024", "", "no_certificate"},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			out, _ := w.client("", node, "-e", script, c.cert, lab.ServerAddr(0, false).String(), c.group, c.sigalgs)
			n++
			r := w.last(n)
			if got := r.str("reason"); got != c.reason {
				t.Fatalf("reason %s (%s), want %s; the client said:\n%s", got, r.str("detail"), c.reason, out)
			}
			if reached := strings.Contains(out, "origin says"); reached != (c.reason == "verified") {
				t.Errorf("origin reached: %v; the client said:\n%s", reached, out)
			}
			if c.reason != "verified" {
				return
			}
			for _, name := range []string{"client_leg", "destination_leg"} {
				if leg, _ := r[name].(map[string]any); leg["group"] != "MLKEM1024" || leg["version"] != "TLS 1.3" {
					t.Errorf("%s: %v", name, leg)
				}
			}
			if r.peer("signature") != "mldsa87" {
				t.Errorf("peer %v", r["peer"])
			}
		})
	}
}
