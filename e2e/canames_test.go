package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// manyCAs are n CAs in PEM, each with a name of about a hundred bytes: roots, or
// signed by the given CA.
func manyCAs(t *testing.T, n int, by *testpki.CA) []byte {
	t.Helper()
	key := testpki.Must(testpki.NewKey(testpki.P256))
	var out bytes.Buffer
	for i := range n {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour),
			Subject:               pkix.Name{Organization: []string{"Customer " + strings.Repeat("x", 50)}, CommonName: fmt.Sprintf("Customer CA %05d", i)},
			BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}
		parent, signer := c, key
		if by != nil {
			parent, signer = by.Cert, by.Key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
		if err == nil {
			err = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// What a client of another TLS library is told of the acceptable CAs, and that it
// gets in where their names do not fit the vector of 65,535 bytes (RFC 5246, section
// 7.4.4; RFC 8446, section 4.2.4). check has the figures.
func TestAcceptableCANames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveHTTP)
	// Other libraries look for a certificate of theirs among the names before they show one.
	others := map[string]func(version string) string{}
	for i := range realClients {
		c := &realClients[i]
		testenv.Tool(t, c.name)
		others[c.name] = func(version string) string {
			out, _ := w.client(c.stdin, c.name, c.args(version, lab.ServerAddr(0, false).String(), "alice")...)
			return out
		}
	}
	for i := range programs {
		if p := &programs[i]; p.name == "java" {
			testenv.Tool(t, p.name)
			p.prepare(w)
			others[p.name] = func(version string) string { return p.run(w, version, lab.ServerAddr(0, false).String(), "alice") }
		}
	}
	n := 0 // records
	for _, c := range []struct {
		name          string
		roots, below  []byte
		check         string // it says
		names, absent []string
	}{
		{"a few", append(w.ca.PEM(), manyCAs(t, 5, nil)...), nil, "", []string{"e2e CA", "Customer CA 00000", "Customer CA 00004"}, nil},
		{"with intermediates", w.ca.PEM(), manyCAs(t, 5, w.ca), "", []string{"e2e CA", "Customer CA 00004"}, nil},
		{"700 roots", append(w.ca.PEM(), manyCAs(t, 700, nil)...), nil, "the names of 701 CAs take", nil, []string{"e2e CA", "Customer CA"}},
		{"intermediates that do not fit", w.ca.PEM(), manyCAs(t, 900, w.ca), "", []string{"e2e CA"}, []string{"Customer CA"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.pem("roots.pem", c.roots)
			anchors := "{roots: roots.pem}"
			if c.below != nil {
				w.pem("below.pem", c.below)
				anchors = "{roots: roots.pem, intermediates: below.pem}"
			}
			w.config(payRule, "")
			config := w.patient()
			text, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			config = w.pem("sslgate.yaml", bytes.Replace(text, []byte("{roots: ca.pem}"), []byte(anchors), 1))
			out, err := w.command("check", "-c", config).CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.check) {
				t.Errorf("check: %v, want %q\n%s", err, c.check, out)
			}
			g := w.start(config)
			defer g.stop(syscall.SIGTERM)
			for _, version := range []string{"-tls1_2", "-tls1_3"} {
				out, err := w.client("GET / HTTP/1.0\r\n\r\n", "openssl", "s_client", version, "-connect", server(false), "-servername", "pay.example",
					"-CAfile", "ca.pem", "-ign_eof", "-cert", "alice.pem", "-key", "alice.key")
				if err != nil || !strings.Contains(out, "origin says") {
					t.Errorf("%s: %v\n%s", version, err, out)
				}
				_, list, sent := strings.Cut(out, "Acceptable client certificate CA names")
				list, _, _ = strings.Cut(list, "Requested Signature Algorithms")
				if sent != (c.names != nil) || !sent && !strings.Contains(out, "No client certificate CA names sent") {
					t.Errorf("%s: names sent: %v\n%s", version, sent, out)
				}
				for _, name := range c.names {
					if !strings.Contains(list, "CN = "+name) {
						t.Errorf("%s: %q is not among\n%s", version, name, list)
					}
				}
				for _, name := range c.absent {
					if strings.Contains(list, "CN = "+name) {
						t.Errorf("%s: %q is there", version, name)
					}
				}
				n++
				if r := w.last(n); r.str("verdict") != "allowed" {
					t.Errorf("%s: %v", version, r)
				}
			}
			for name, connect := range others {
				for _, version := range []string{"1.2", "1.3"} {
					out := connect(version)
					if !strings.Contains(out, "origin says") {
						t.Errorf("%s, TLS %s: %s", name, version, out)
					}
					n++
					if r := w.last(n); r.str("verdict") != "allowed" || r.peer("subject") == "" {
						t.Errorf("%s, TLS %s: %v", name, version, r)
					}
				}
			}
		})
	}
}
