package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// acmeDir is a directory with a configuration that orders a certificate, and the file of that.
type acmeDir struct {
	t   *testing.T
	dir string
	ca  *testpki.CA
}

func newACMEDir(t *testing.T) *acmeDir {
	d := &acmeDir{t, t.TempDir(), testpki.Must(testpki.NewCA(testpki.Options{}))}
	d.put("ca.pem", d.ca.PEM())
	return d
}

func (d *acmeDir) put(name string, text []byte) {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o600)); err != nil {
		d.t.Fatal(err)
	}
}

// issued puts a certificate where an ordered one stands.
func (d *acmeDir) issued(l testpki.Leaf) *x509.Certificate {
	d.t.Helper()
	c := testpki.Must(d.ca.Issue(l))
	chain, key, err := c.PEM()
	if err != nil {
		d.t.Fatal(err)
	}
	d.put("state/acme/pay.pem", append(key, chain...))
	return c.Cert
}

// load checks a configuration that orders names, with more below acme.
func (d *acmeDir) load(ports, names, more string) (*Own, string) {
	d.t.Helper()
	d.put("gateway.yaml", fmt.Appendf(nil, `version: 1
capture: {interfaces: [eth1], ports: %s}
authorities: {staff: {roots: ca.pem}}
state: state
identities:
  pay: {acme: {directory: "https://ca.example/dir", names: [%s], agree_terms: true%s}}
policy:
  rules:
    - {name: r, to: ['10.0.0.0/8:443', '10.0.0.0/8:8443'], identity: pay, alpn: [], client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}
`, ports, names, more))
	rt, found := Check(filepath.Join(d.dir, "gateway.yaml"), stdtls.New())
	if rt == nil {
		d.t.Fatal(messages(found))
	}
	return rt.Own[0], messages(found)
}

// A name that is added to acme.names, or taken out, leaves the certificate of before in use for
// the names that it has, until the one that is ordered at once has come; that is said. One that
// cannot stand in is shown to nobody.
func TestNamesThatChange(t *testing.T) {
	now := time.Now()
	shown := func(o *Own, sni string) (*x509.Certificate, reason.Code) {
		t.Helper()
		h := &handshake.ClientHello{SNIPresent: sni != "", ServerName: sni}
		certs, err := o.source.For(t.Context(), h, now)
		var e *handshake.Error
		if errors.As(err, &e) {
			return nil, e.Reason
		}
		if err != nil || len(certs) != 1 {
			t.Fatal(err)
		}
		return certs[0].Leaf, ""
	}
	for what, c := range map[string]struct {
		before    testpki.Leaf
		names     string
		serves    []string // by the certificate of before
		lacks     []string
		standsNot bool
	}{
		"a name more":         {testpki.Leaf{DNS: []string{"pay.example"}}, "pay.example, more.example", []string{"pay.example", "PAY.example", ""}, []string{"more.example"}, false},
		"a name less":         {testpki.Leaf{DNS: []string{"pay.example", "more.example"}}, "pay.example", []string{"pay.example"}, nil, false},
		"one for another":     {testpki.Leaf{DNS: []string{"pay.example", "old.example"}}, "pay.example, new.example", []string{"pay.example"}, []string{"new.example"}, false},
		"other names alone":   {testpki.Leaf{DNS: []string{"old.example"}}, "new.example", nil, []string{"new.example", "old.example"}, true},
		"another kind of key": {testpki.Leaf{DNS: []string{"pay.example"}, Key: testpki.RSA2048}, "pay.example, more.example", nil, []string{"pay.example", "more.example"}, true},
		"one for clients":     {testpki.Leaf{DNS: []string{"pay.example"}, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, "pay.example, more.example", nil, []string{"pay.example", "more.example"}, true},
		"one that has ended":  {testpki.Leaf{DNS: []string{"pay.example"}, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}, "pay.example, more.example", nil, []string{"pay.example", "more.example"}, true},
	} {
		d := newACMEDir(t)
		before := d.issued(c.before)
		o, said := d.load("[443]", c.names, "")
		if !strings.Contains(said, "other names") && what != "one for clients" && what != "one that has ended" {
			t.Errorf("%s: the check says %q", what, said)
		}
		for _, sni := range c.serves {
			if leaf, why := shown(o, sni); !before.Equal(leaf) {
				t.Errorf("%s: a client that asks for %q: %s", what, sni, why)
			}
		}
		for _, sni := range c.lacks {
			if leaf, why := shown(o, sni); leaf != nil || why != reason.IdentityEnded {
				t.Errorf("%s: a client that asks for %q is shown a certificate: %q", what, sni, why)
			}
		}
		if o.Leaf() != nil {
			t.Errorf("%s: nothing is ordered before two thirds of the life of the one of before", what)
		}
		if err := o.Failed(); err == nil || !strings.Contains(err.Error(), "being ordered") {
			t.Errorf("%s: it is not said: %v", what, err)
		}
		if ends := o.Ends(); ends.IsZero() != c.standsNot || !c.standsNot && !ends.Equal(before.NotAfter) {
			t.Errorf("%s: it ends at %v", what, ends)
		}
		if changed, _ := o.Renew(now); changed {
			t.Errorf("%s: the one of before is taken for the one that was ordered", what)
		}
		after := d.issued(testpki.Leaf{DNS: strings.Split(c.names, ", ")})
		if changed, err := o.Renew(now); !changed || err != nil || o.Failed() != nil || !after.Equal(o.Leaf()) {
			t.Errorf("%s: what was ordered is not taken: %v, %v", what, err, o.Failed())
		}
		for _, sni := range strings.Split(c.names, ", ") {
			if leaf, why := shown(o, sni); !after.Equal(leaf) {
				t.Errorf("%s: afterwards %q: %s", what, sni, why)
			}
		}
	}
}

// Where the names are proven by a handshake and port 443 is not captured, the check says so.
func TestCheckOfTheValidatorsPort(t *testing.T) {
	const warning = "capture.ports does not have it"
	for _, c := range []struct {
		ports, more string
		warned      bool
	}{
		{"[8443]", "", true},
		{"[8443]", ", dns: /run/dns.sock", false},
		{"[443, 8443]", "", false},
		{"all, except_ports: [22]", "", false},
	} {
		if _, said := newACMEDir(t).load(c.ports, "pay.example", c.more); strings.Contains(said, warning) != c.warned {
			t.Errorf("ports %s%s: the check says %q", c.ports, c.more, said)
		}
	}
}
