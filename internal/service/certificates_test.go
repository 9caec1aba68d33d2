package service

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// An identity that makes certificates ends with its issuer, not with the first
// leaf, which lives for a day; and of several pairs each is said with its file.
func TestCertificatesOfIdentities(t *testing.T) {
	var root, inter *testpki.CA
	h := newHouse(t, func(h *house) {
		root = testpki.Must(testpki.NewCA(testpki.Options{CN: "Interception root", NotAfter: time.Now().AddDate(1, 0, 0)}))
		inter = testpki.Must(root.Intermediate(testpki.Options{CN: "Interception CA", NotAfter: time.Now().AddDate(0, 2, 0)}))
		key, err := testpki.KeyPEM(inter.Key)
		if err != nil {
			t.Fatal(err)
		}
		h.put("mint.pem", 0o644, testpki.CertsPEM(inter.Cert, root.Cert))
		h.put("mint.key", 0o600, key)
		second := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}, Key: testpki.RSA2048}))
		if _, _, err := second.WritePEM(h.dir, "second"); err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(houseConfig, "key: srv.key}", `key: srv.key, also: [{certificate: second.pem, key: second.key}]}
  wild: {issuer: mint.pem, key: mint.key, names: ["*.example.org"]}`, 1)
		text = strings.Replace(text, "    - name: pay\n", `    - {name: wild, to: ["203.0.113.0/24:443"], sni: ["*.example.org"], identity: wild, client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}
    - name: pay
`, 1)
		h.put("sslgate.yaml", 0o644, []byte(text))
	})
	all := h.s.Certificates()
	for _, want := range []struct {
		name, file, subject string
		end                 time.Time
	}{
		{"wild", "mint.pem", inter.Cert.Subject.String(), inter.Cert.NotAfter},
		{"wild", "mint.pem", root.Cert.Subject.String(), root.Cert.NotAfter},
		{"pay", "srv.pem", "", time.Time{}},
		{"pay", "second.pem", "", time.Time{}},
	} {
		i := slices.IndexFunc(all, func(c admin.Certificate) bool {
			return c.Kind == kindIdentity && c.Name == want.name && filepath.Base(c.File) == want.file && (want.subject == "" || c.Subject == want.subject)
		})
		if i < 0 || !want.end.IsZero() && !all[i].NotAfter.Equal(want.end) {
			t.Errorf("%+v is not listed in %+v", want, all)
		}
	}
	for _, c := range all {
		if c.Name == "wild" && time.Until(c.NotAfter) < 48*time.Hour {
			t.Errorf("a leaf is listed: %+v", c)
		}
	}
	if r, err := h.api.Ready(context.Background()); err != nil || !r.Ready || strings.Contains(strings.Join(r.Reasons, " "), "wild") {
		t.Errorf("%+v %v", r, err)
	}
}
