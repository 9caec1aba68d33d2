package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func verifyFor(ca, leaf *x509.Certificate, u x509.ExtKeyUsage) error {
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{u}})
	return err
}

func TestIssue(t *testing.T) {
	dir, ca := newCA(t, InitOptions{})
	for name, c := range map[string]struct {
		o              IssueOptions
		client, server bool
		file, subject  string
		names          []string
	}{
		"server by its names": {IssueOptions{Names: []string{"app.example.org", "192.0.2.1"}}, false, true, "app.example.org+1", "CN=app.example.org", []string{"DNS:app.example.org", "IP:192.0.2.1"}},
		"client by its names": {IssueOptions{Names: []string{"spiffe://corp/pay"}}, true, false, "corp_pay", "", []string{"URI:spiffe://corp/pay"}},
		"client by e-mail":    {IssueOptions{Names: []string{"ann@example.org"}}, true, false, "ann@example.org", "CN=ann@example.org", []string{"email:ann@example.org"}},
		"client by flag":      {IssueOptions{Names: []string{"host.example.org"}, Client: true, CN: "Ann", Org: []string{"O"}, OU: []string{"U", "V"}}, true, false, "host.example.org", "CN=Ann,OU=U+OU=V,O=O", []string{"DNS:host.example.org"}},
		"both":                {IssueOptions{Names: []string{"*.both.example.org"}, Client: true, Server: true}, true, true, "wildcard.both.example.org", "CN=*.both.example.org", []string{"DNS:*.both.example.org"}},
		"client by CN alone":  {IssueOptions{CN: "Bob Müller"}, true, false, "bob_m_ller", "CN=Bob Müller", nil},
		"named file":          {IssueOptions{Names: []string{"x.example.org"}, File: "gw-1"}, false, true, "gw-1", "CN=x.example.org", []string{"DNS:x.example.org"}},
		"rsa":                 {IssueOptions{Names: []string{"rsa.example.org"}, Key: "RSA-2048"}, false, true, "rsa.example.org", "CN=rsa.example.org", []string{"DNS:rsa.example.org"}},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			res, cert := issue(t, dir, c.o)
			if want := filepath.Join(dir, c.file+".pem"); res.CertFile != want {
				t.Errorf("file %s, want %s", res.CertFile, want)
			}
			checkMode(t, res.CertFile, 0o644)
			checkMode(t, res.KeyFile, 0o600)
			if _, err := tls.LoadX509KeyPair(res.CertFile, res.KeyFile); err != nil {
				t.Error(err)
			}
			if got := cert.Subject.String(); got != c.subject {
				t.Errorf("subject %s, want %s", got, c.subject)
			}
			if got := sans(cert.Extensions); !reflect.DeepEqual(got, c.names) || !reflect.DeepEqual(res.Certificate.Names, c.names) {
				t.Errorf("names %v and %v, want %v", got, res.Certificate.Names, c.names)
			}
			if err := verifyFor(ca, cert, x509.ExtKeyUsageClientAuth); (err == nil) != c.client {
				t.Errorf("as a client: %v", err)
			}
			if err := verifyFor(ca, cert, x509.ExtKeyUsageServerAuth); (err == nil) != c.server {
				t.Errorf("as a server: %v", err)
			}
			if got := cert.NotAfter.Sub(now).Round(time.Minute); got != 90*day || *res.Certificate.DaysLeft != 90 {
				t.Errorf("valid for %v, %d days left", got, *res.Certificate.DaysLeft)
			}
			if cert.IsCA || len(cert.SerialNumber.Bytes()) != 16 {
				t.Errorf("CA %v, serial %x", cert.IsCA, cert.SerialNumber)
			}
			if chosen := c.o.Client || c.o.Server; (len(res.Notes) == 0) != chosen {
				t.Errorf("the guess is said exactly if there was one: %v", res.Notes)
			}
		})
	}
}

func TestIssueNeverOverwrites(t *testing.T) {
	dir, _ := newCA(t, InitOptions{})
	o := IssueOptions{Names: []string{"a.example.org"}}
	res, cert := issue(t, dir, o)
	index := testpki.Must(os.ReadFile(filepath.Join(dir, "index.jsonl")))
	_, err := Issue(dir, o)
	if !errors.Is(err, ErrExists) {
		t.Errorf("error %v, want ErrExists", err)
	}
	wantErr(t, err, "--file NAME")
	if !load(t, res.CertFile).Equal(cert) {
		t.Error("the certificate was overwritten")
	}
	if got := testpki.Must(os.ReadFile(filepath.Join(dir, "index.jsonl"))); string(got) != string(index) {
		t.Error("a certificate that was not written is in the index")
	}
	// A lost certificate beside a key that is still there.
	if err := os.Remove(res.CertFile); err != nil {
		t.Fatal(err)
	}
	if _, err := Issue(dir, o); !errors.Is(err, ErrExists) {
		t.Errorf("key alone: %v, want ErrExists", err)
	}
}

func TestIssueElsewhere(t *testing.T) {
	dir, _ := newCA(t, InitOptions{})
	out := t.TempDir()
	res, _ := issue(t, dir, IssueOptions{Names: []string{"a.example.org"}, Out: out})
	if res.KeyFile != filepath.Join(out, "a.example.org.key") {
		t.Errorf("key file %s", res.KeyFile)
	}
	_, err := Issue(dir, IssueOptions{Names: []string{"a.example.org"}, Out: filepath.Join(out, "none")})
	wantErr(t, err, "is no directory")
}

func TestIssueUsage(t *testing.T) {
	dir, _ := newCA(t, InitOptions{})
	names := []string{"a.example.org"}
	for name, c := range map[string]struct {
		o    IssueOptions
		want string
	}{
		"no name":              {IssueOptions{}, "needs a name, for example `sslgate pki issue"},
		"server without names": {IssueOptions{CN: "x", Server: true}, "needs a name"},
		"negative life":        {IssueOptions{Names: names, Life: -1}, "positive"},
		"bad name":             {IssueOptions{Names: []string{"a b"}}, "cannot stand"},
		"long CN":              {IssueOptions{Names: names, CN: strings.Repeat("x", 65)}, "at most 64"},
		"hostile CN":           {IssueOptions{Names: names, CN: "a\x1b[31m"}, "cannot be shown"},
		"kind of key":          {IssueOptions{Names: names, Key: "ed25518"}, `did you mean "ed25519"?`},
		"file outside":         {IssueOptions{Names: names, File: "../x"}, "--file"},
		"file of the CA":       {IssueOptions{Names: names, File: "ca"}, "--file"},
		"name of the CA":       {IssueOptions{Names: []string{"ca"}}, "--file NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Issue(dir, c.o)
			var u *UsageError
			if !errors.As(err, &u) {
				t.Errorf("%v is no UsageError", err)
			}
			wantErr(t, err, c.want)
		})
	}
	if got := string(testpki.Must(os.ReadFile(filepath.Join(dir, "index.jsonl")))); got != "" {
		t.Errorf("entered: %s", got)
	}
}

// A certificate never outlives its CA, and an expired CA issues none.
func TestIssueWithinTheCA(t *testing.T) {
	now := time.Now()
	dir, ca := newCA(t, InitOptions{Life: 10 * day, Now: now})
	res, cert := issue(t, dir, IssueOptions{Names: []string{"a.example.org"}, Server: true})
	if !cert.NotAfter.Equal(ca.NotAfter) || len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "earlier than asked for") {
		t.Errorf("ends %v, the CA %v; notes %v", cert.NotAfter, ca.NotAfter, res.Notes)
	}
	if cert.NotBefore.Before(ca.NotBefore) {
		t.Errorf("begins %v, before the CA: %v", cert.NotBefore, ca.NotBefore)
	}
	_, err := Issue(dir, IssueOptions{Names: []string{"b.example.org"}, Now: now.Add(11 * day)})
	wantErr(t, err, "ran out on")
}
