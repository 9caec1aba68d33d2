package probe

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/certread"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/keyusage"
	"github.com/sslgate/sslgate/internal/pemfile"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/times"
)

// rootFiles are the files in which systems keep trusted certificates: Debian, Fedora,
// SUSE, Alpine and the BSDs. SSL_CERT_FILE in the environment comes first, as in OpenSSL
// and Go.
func rootFiles() []string {
	files := []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	}
	if f := os.Getenv("SSL_CERT_FILE"); f != "" {
		return []string{f}
	}
	return files
}

// maxSystemRoots bounds such a file, in bytes.
const maxSystemRoots = 8 << 20

// systemRoots reads the first of rootFiles that exists. A system without any trusts
// nobody; that is no error, and the verdict shows it.
func systemRoots() ([]*x509.Certificate, error) {
	for _, f := range rootFiles() {
		_, data, err := readfile.All(context.Background(), f, maxSystemRoots, nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the system's roots: %w", err)
		}
		var roots []*x509.Certificate
		err = pemfile.Each(data, func(b pemfile.Block) error {
			// Skip a certificate that this Go cannot read: the others are still useful.
			if c, err := x509.ParseCertificate(b.Bytes); err == nil {
				roots = append(roots, c)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read the system's roots: %s: %w", f, err)
		}
		return roots, nil
	}
	return nil, nil
}

// addCertificate judges a chain once.
func (p *prober) addCertificate(shown [][]byte) {
	if len(shown) == 0 || p.seen[string(shown[0])] {
		return
	}
	p.seen[string(shown[0])] = true
	certs, err := parseChain(shown)
	if err != nil {
		p.r.Certificates = append(p.r.Certificates, Certificate{Verdict: "refused: " + escape.String(err.Error(), 0), shown: shown})
		return
	}
	leaf := certs[0]
	spki := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	c := Certificate{
		Subject: certname.Subject(leaf), Issuer: certname.Issuer(leaf), Names: sans(leaf), Key: keykind.NameOf(leaf.PublicKey),
		Signed: leaf.SignatureAlgorithm.String(), NotAfter: times.UTC(leaf.NotAfter), SPKI: hex.EncodeToString(spki[:]), shown: shown,
	}
	for _, x := range certs[1:] {
		c.Chain = append(c.Chain, certname.Subject(x)+", "+keykind.NameOf(x.PublicKey))
	}
	c.Trusted, c.Verdict = p.judge(certs, handshake.Profile{})
	p.r.Certificates = append(p.r.Certificates, c)
}

// judge does step 3 with the same code as the gateway: chain, time, usage, strength, then
// the name.
func (p *prober) judge(certs []*x509.Certificate, demands handshake.Profile) (bool, string) {
	peer, e := handshake.Verify(certs, []*handshake.Authority{p.trust}, x509.ExtKeyUsageServerAuth, &handshake.Params{Profile: demands})
	if e != nil {
		return false, "refused: " + show(string(e.Reason)+": "+e.Detail)
	}
	if err := certs[0].VerifyHostname(p.name); err != nil {
		return false, "refused: " + show(err.Error())
	}
	if demands.MaxVersion != 0 && !demands.KeyTransport() && !keyusage.Allows(certs[0], x509.KeyUsageDigitalSignature) {
		return false, "refused: key usage lacks digitalSignature, which every CipherSuite of the profile needs"
	}
	root := peer.Chain[len(peer.Chain)-1]
	return true, fmt.Sprintf("verified, by %s (%s)", certname.Subject(root), p.trust.Name)
}

// judgeShown is judge for a chain in DER, as the server showed it.
func (p *prober) judgeShown(shown [][]byte, demands handshake.Profile) (bool, string) {
	certs, err := parseChain(shown)
	if err != nil {
		return false, "refused: " + show(err.Error())
	}
	return p.judge(certs, demands)
}

func parseChain(shown [][]byte) ([]*x509.Certificate, error) {
	out := make([]*x509.Certificate, len(shown))
	for i, der := range shown {
		c, err := certread.Certificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
		out[i] = c
	}
	return out, nil
}

// maxNames bounds the names of a certificate that are shown.
const maxNames = 50

func sans(c *x509.Certificate) []string {
	var out []string
	for _, n := range certname.Alt(c.Extensions) {
		switch n.Kind {
		case "dns", "ip", "uri": // the kinds that name servers
			out = append(out, show(n.Name))
		}
	}
	if n := len(out) - maxNames; n > 0 {
		out = append(out[:maxNames], fmt.Sprintf("and %d more", n))
	}
	return out
}

func show(s string) string { return escape.String(s, 200) }
