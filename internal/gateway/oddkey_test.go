package gateway

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// Clients show certificates of keys with which nothing can be verified here, as
// openssl makes them. Each is refused before the destination is dialled; the record
// names the certificate and the key, and the alert is the one that the client sees.
func TestOddKeys(t *testing.T) {
	openssl := testenv.Tool(t, "openssl")
	h := newHouse(t, mtls(), nil)
	n := 0
	for _, c := range []struct {
		name   string
		genkey []string
		reason reason.Code
		detail string
	}{
		{"brainpool", []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"}, reason.BadCertificate, "elliptic curve brainpoolP256r1"},
		{"secp256k1", []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"}, reason.BadCertificate, "elliptic curve secp256k1"},
		{"explicit", []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"}, reason.BadCertificate, "explicit curve parameters"},
		{"P-192", []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-192"}, reason.BadCertificate, "elliptic curve P-192"},
		{"Ed448", []string{"genpkey", "-algorithm", "ED448"}, reason.WeakKey, "its key is Ed448"},
		{"RSASSA-PSS", []string{"genpkey", "-algorithm", "RSA-PSS"}, reason.WeakKey, "its key is RSASSA-PSS"},
		{"DSA", nil, reason.WeakKey, "its key is DSA"},
	} {
		dir := t.TempDir()
		commands := [][]string{append(c.genkey, "-out", "k.pem")}
		if c.genkey == nil {
			commands = [][]string{{"dsaparam", "-out", "p.pem", "1024"}, {"gendsa", "-out", "k.pem", "p.pem"}}
		}
		for _, args := range append(commands, []string{"req", "-x509", "-new", "-key", "k.pem", "-subj", "/CN=odd key", "-days", "9", "-outform", "DER", "-out", "c.der"}) {
			cmd := exec.Command(openssl, args...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", c.name, err, out)
			}
		}
		der, err := os.ReadFile(filepath.Join(dir, "c.der"))
		if err != nil {
			t.Fatal(err)
		}
		// Another key signs: the certificate is judged before its signature is.
		cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: testpki.Must(testpki.NewKey(testpki.P256))}
		for _, version := range versions {
			t.Run(c.name+"/"+tls.VersionName(version), func(t *testing.T) {
				n++
				conn, err := h.tlsClient(server4, &cert, only(version))
				if err == nil { // TLS 1.3: the refusal arrives at the first read
					_, err = conn.Read(make([]byte, 1))
					_ = conn.Close()
				}
				if err == nil {
					t.Fatal("the client saw no refusal")
				}
				r := h.record(n)
				if r.str("reason") != string(c.reason) || r.str("verdict") != "refused" || !strings.Contains(r.str("detail"), c.detail) {
					t.Errorf("%s: %s, want %s: %s", r.str("reason"), r.str("detail"), c.reason, c.detail)
				}
				if !strings.Contains(r.str("detail"), "CN=odd key") {
					t.Errorf("the certificate has no name: %s", r.str("detail"))
				}
				if want := handshake.AlertOf(c.reason).String(); r.str("alert_sent") != want || r.str("alert_wanted") != want {
					t.Errorf("alert sent %s, wanted %s, want %s", r.str("alert_sent"), r.str("alert_wanted"), want)
				}
			})
		}
	}
}
