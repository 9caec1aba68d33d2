package config

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/revocation"
)

// A client that sends its own certificate alone gets in by the intermediates of
// the file, without a warning; the path that was found is what revocation is asked
// about, by the root's list and by the intermediate's.
func TestIntermediatesOfAFile(t *testing.T) {
	dir := t.TempDir()
	writePKI(t, dir)
	t.Chdir(dir)
	put := func(name string, data []byte) {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := testpki.Must(testpki.NewCA(testpki.Options{CN: "Root", NotBefore: testFrom, NotAfter: testTo}))
	inter := testpki.Must(root.Intermediate(testpki.Options{CN: "Issuing", NotBefore: testFrom, NotAfter: testTo}))
	leaf := testpki.Must(inter.Issue(testpki.Leaf{CN: "bob", NotBefore: testFrom, NotAfter: testTo}))
	put("root.pem", root.PEM())
	put("inter.pem", inter.PEM())
	list := func(ca *testpki.CA, revoked *big.Int) []byte {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testNow.AddDate(0, 0, -1), NextUpdate: testNow.AddDate(0, 0, 6)}
		if revoked != nil {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: revoked, RevocationTime: l.ThisUpdate}}
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, ca.Cert, ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		return testpki.CRLPEM(&x509.RevocationList{Raw: der})
	}
	put("root.crl", list(root, nil))
	put("root-revoked.crl", list(root, inter.Cert.SerialNumber))
	put("inter.crl", list(inter, nil))
	put("inter-revoked.crl", list(inter, leaf.Cert.SerialNumber))
	ids := map[string]string{}
	for name, c := range map[string]struct {
		authority string
		code      reason.Code // of the path, then of revocation
	}{
		"without":                     {"roots: root.pem", reason.UnknownCA},
		"with":                        {"roots: root.pem, intermediates: inter.pem", ""},
		"with lists":                  {"roots: root.pem, intermediates: inter.pem, crl: [root.crl, inter.crl]", ""},
		"the intermediate is revoked": {"roots: root.pem, intermediates: inter.pem, crl: [root-revoked.crl, inter.crl]", reason.Revoked},
		"the client is revoked":       {"roots: root.pem, intermediates: inter.pem, crl: [root.crl, inter-revoked.crl]", reason.Revoked},
		"no list of the intermediate": {"roots: root.pem, intermediates: inter.pem, crl: [root.crl]", reason.RevocationUnknown},
		"the one of another root":     {"roots: staff-ca.pem, intermediates: staff-inter.pem", reason.UnknownCA},
	} {
		text := "version: 1\ncapture: {interfaces: [eth0], ports: [443]}\nauthorities:\n  staff: {" + c.authority + "}\nidentities:\n  pay: {certificate: pay.pem, key: pay.key}\n" +
			"policy:\n  rules:\n    - {name: pay, to: [\"10.20.0.0/16:443\"], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}\n"
		rt, found := build(parse("x.yaml", []byte(text)), stdtls.New(), testNow)
		if rt == nil {
			t.Fatalf("%s: %v", name, Findings(found))
		}
		if said := Findings(found).Error(); strings.Contains(said, "intermediates:") {
			t.Errorf("%s: %s", name, said)
		}
		ids[name] = rt.Set.ID()
		p := &handshake.Params{Profile: rt.Environment.Profiles["intermediate"]}
		p.Authorities = []*handshake.Authority{rt.Environment.Authorities["staff"].Current()}
		now := testNow
		p.Now = func() time.Time { return now }
		peer, e := handshake.Verify([]*x509.Certificate{leaf.Cert}, p.Authorities, x509.ExtKeyUsageClientAuth, p)
		if e != nil {
			if e.Reason != c.code {
				t.Errorf("%s: %v", name, e)
			}
			continue
		}
		checker, err := revocation.New(rt.Revocation, revocation.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if r := checker.Check(context.Background(), peer, now); r.Code != c.code || len(peer.Chain) != 3 {
			t.Errorf("%s: %+v, a path of %d", name, r, len(peer.Chain))
		}
	}
	if ids["with"] != ids["without"] {
		t.Error("certificates of an authority are in the policy's digest")
	}
}
