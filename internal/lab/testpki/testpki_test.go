package testpki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// verify is what a server does with a client's chain, by the standard library.
func verify(ca *CA, c *Cert, change func(*x509.VerifyOptions)) error {
	o := x509.VerifyOptions{Roots: ca.Pool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, x := range c.Chain[1:] {
		o.Intermediates.AddCert(x)
	}
	if change != nil {
		change(&o)
	}
	_, err := c.Chain[0].Verify(o)
	return err
}

func TestSoundChainsVerify(t *testing.T) {
	root := Must(NewCA(Options{}))
	inter := Must(root.Intermediate(Options{Key: P384}))
	for _, k := range []KeyKind{P256, P384, P521, RSA2048, Ed25519} {
		for _, ca := range []*CA{root, inter} {
			c := Must(ca.Issue(Leaf{Key: k, DNS: []string{"a.example.org"}, IPs: []string{"192.0.2.1", "2001:db8::1"}, URIs: []string{"spiffe://corp/pay"}, Emails: []string{"a@example.org"}, O: []string{"Org"}, OU: []string{"Unit"}}))
			if err := verify(root, c, nil); err != nil {
				t.Errorf("%s under %s: %v", k, ca.Cert.Subject, err)
			}
			if got := len(c.Cert.DNSNames) + len(c.Cert.IPAddresses) + len(c.Cert.URIs) + len(c.Cert.EmailAddresses); got != 5 {
				t.Errorf("%s: %d names, want 5", k, got)
			}
		}
	}
	if a, b := Must(root.Issue(Leaf{})), Must(root.Issue(Leaf{})); a.Cert.SerialNumber.Cmp(b.Cert.SerialNumber) == 0 {
		t.Error("two certificates with one serial")
	}
}

func TestIssueRefusesWhatIsNoName(t *testing.T) {
	ca := Must(NewCA(Options{}))
	for _, l := range []Leaf{{IPs: []string{"192.0.2"}}, {URIs: []string{"://"}}, {Key: 99}} {
		if c, err := ca.Issue(l); err == nil || c != nil {
			t.Errorf("Issue(%+v) = %v, %v; want an error alone", l, c, err)
		}
	}
}

// invalid expects an x509.CertificateInvalidError of one reason.
func invalid(want x509.InvalidReason) func(error) bool {
	return func(err error) bool {
		var e x509.CertificateInvalidError
		return errors.As(err, &e) && e.Reason == want
	}
}

func isType[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

func passes(err error) bool { return err == nil }

// Each fault is the one that its name says: the standard library refuses it
// for that, or lets it through where the fault is of our own policy (key
// sizes, length of the chain); and with the fault excused all else is sound.
func TestFaults(t *testing.T) {
	at := func(d time.Duration) func(*x509.VerifyOptions) {
		return func(o *x509.VerifyOptions) { o.CurrentTime = time.Now().Add(d) }
	}
	cases := map[string]struct {
		refused func(error) bool
		excuse  func(*x509.VerifyOptions)
		also    func(*Cert) bool
	}{
		"other-ca":              {refused: isType[x509.UnknownAuthorityError]},
		"impostor-ca":           {refused: isType[x509.UnknownAuthorityError], also: func(c *Cert) bool { return c.Cert.Issuer.CommonName == "Test CA" }},
		"self-signed":           {refused: isType[x509.UnknownAuthorityError]},
		"missing-intermediate":  {refused: isType[x509.UnknownAuthorityError], also: func(c *Cert) bool { return len(c.Chain) == 1 }},
		"expired":               {refused: invalid(x509.Expired), excuse: at(-2 * time.Hour)},
		"expired-intermediate":  {refused: invalid(x509.Expired), also: func(c *Cert) bool { return time.Now().Before(c.Cert.NotAfter) }},
		"not-yet-valid":         {refused: invalid(x509.Expired), excuse: at(2 * time.Hour)},
		"wrong-eku":             {refused: invalid(x509.IncompatibleUsage), excuse: func(o *x509.VerifyOptions) { o.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
		"rsa-1024":              {refused: passes, also: func(c *Cert) bool { return keyBits(c.Cert) == 1024 }},
		"rsa-1024-intermediate": {refused: passes, also: func(c *Cert) bool { return keyBits(c.Chain[1]) == 1024 }},
		"p224":                  {refused: passes},
		"sha1":                  {refused: isType[x509.UnknownAuthorityError], also: func(c *Cert) bool { return c.Cert.SignatureAlgorithm == x509.ECDSAWithSHA1 }},
		"sha1-intermediate":     {refused: isType[x509.UnknownAuthorityError], also: func(c *Cert) bool { return c.Chain[1].SignatureAlgorithm == x509.ECDSAWithSHA1 }},
		"bad-signature":         {refused: isType[x509.UnknownAuthorityError]},
		"path-length":           {refused: invalid(x509.TooManyIntermediates)},
		"issuer-not-ca":         {refused: isType[x509.UnknownAuthorityError], also: func(c *Cert) bool { return !c.Chain[1].IsCA && len(c.Chain) == 2 }},
		"name-constraint":       {refused: invalid(x509.CANotAuthorizedForThisName)},
		"unknown-critical":      {refused: isType[x509.UnhandledCriticalExtension]},
		"long-chain":            {refused: passes, also: func(c *Cert) bool { return len(c.Chain) == 13 }},
	}
	ca := Must(NewCA(Options{}))
	seen := map[string]bool{}
	for _, f := range Faults() {
		seen[f.Name] = true
		t.Run(f.Name, func(t *testing.T) {
			want, ok := cases[f.Name]
			if !ok {
				t.Fatal("this fault has no case here")
			}
			if _, ok := reason.Lookup(f.Reason); !ok {
				t.Errorf("reason %q is not in the list", f.Reason)
			}
			c, err := f.Make(ca, Leaf{CN: "victim", DNS: []string{"a.inside.example.org"}})
			if err != nil {
				t.Fatal(err)
			}
			if c.Cert.Subject.CommonName != "victim" {
				t.Errorf("the leaf asked for was changed: %s", c.Cert.Subject)
			}
			if err := verify(ca, c, nil); !want.refused(err) {
				t.Errorf("verify: %v", err)
			}
			if want.excuse != nil {
				if err := verify(ca, c, want.excuse); err != nil {
					t.Errorf("with its one fault excused: %v", err)
				}
			}
			if want.also != nil && !want.also(c) {
				t.Error("it is not what its name says")
			}
			if f.Name != "bad-signature" && !pairFits(c) {
				t.Error("the key does not fit the certificate")
			}
		})
	}
	for name := range cases {
		if !seen[name] {
			t.Errorf("no fault named %s", name)
		}
	}
}

func keyBits(c *x509.Certificate) int {
	if k, ok := c.PublicKey.(interface{ Size() int }); ok {
		return k.Size() * 8
	}
	return 0
}

func pairFits(c *Cert) bool {
	_, err := tls.X509KeyPair(CertsPEM(c.Chain...), Must(KeyPEM(c.Key)))
	return err == nil
}

// handshake runs a real one over TCP and returns what the server got: the names it saw in its
// hook, and the error. Over net.Pipe, which has no buffer, a server that sends its alert while
// the client still writes would wait for the deadline.
func handshake(t *testing.T, ca *CA, server *Cert, client tls.Certificate, version uint16) (hook string, err error) {
	t.Helper()
	a, b := testenv.TCPPair(t)
	deadline := testenv.Deadline()
	_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
	sc := &tls.Config{
		Certificates: []tls.Certificate{server.TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
		MinVersion: version, MaxVersion: version,
		VerifyConnection: func(s tls.ConnectionState) error { hook = s.PeerCertificates[0].Subject.CommonName; return nil },
	}
	cc := &tls.Config{Certificates: []tls.Certificate{client}, RootCAs: ca.Pool(), ServerName: "server.example.org", MinVersion: version, MaxVersion: version}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := tls.Client(b, cc)
		if c.Handshake() == nil {
			_, _ = c.Read(make([]byte, 1)) // takes the server's alert or its end
		}
		_ = b.Close()
	}()
	err = tls.Server(a, sc).Handshake()
	_ = a.Close()
	<-done
	return hook, err
}

// A thief gets as far as the server's hook under the victim's name, in both
// versions, and no further.
func TestThief(t *testing.T) {
	ca := Must(NewCA(Options{}))
	server := Must(ca.Issue(Leaf{DNS: []string{"server.example.org"}}))
	for _, k := range []KeyKind{P256, RSA2048, Ed25519} {
		victim := Must(ca.Issue(Leaf{CN: "victim", Key: k}))
		thief := Thief(victim, Must(NewKey(k)))
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if hook, err := handshake(t, ca, server, victim.TLS(), v); err != nil || hook != "victim" {
				t.Errorf("%s %s: the victim itself: hook %q, error %v", k, tls.VersionName(v), hook, err)
			}
			hook, err := handshake(t, ca, server, thief, v)
			if err == nil {
				t.Errorf("%s %s: the thief got through", k, tls.VersionName(v))
			}
			if hook != "victim" {
				t.Errorf("%s %s: the thief did not reach the hook: %q, %v", k, tls.VersionName(v), hook, err)
			}
		}
	}
}

func TestWritePEM(t *testing.T) {
	dir := t.TempDir()
	ca := Must(NewCA(Options{}))
	c := Must(Must(ca.Intermediate(Options{})).Issue(Leaf{}))
	for range 2 { // the second time over the files of the first
		cert, key, err := c.WritePEM(dir, "leaf")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			t.Error(err)
		}
		for path, want := range map[string]os.FileMode{cert: 0o644, key: 0o600} {
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
				t.Errorf("%s: mode %v, error %v; want %v", path, st.Mode(), err, want)
			}
		}
	}
	if _, _, err := ca.WritePEM(filepath.Join(dir, "missing"), "ca"); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

func TestCRL(t *testing.T) {
	ca := Must(NewCA(Options{}))
	c, other := Must(ca.Issue(Leaf{})), Must(ca.Issue(Leaf{}))
	l := Must(ca.CRL(7, time.Now().Add(time.Hour), c.Cert))
	if err := l.CheckSignatureFrom(ca.Cert); err != nil {
		t.Error(err)
	}
	if len(l.RevokedCertificateEntries) != 1 || l.RevokedCertificateEntries[0].SerialNumber.Cmp(c.Cert.SerialNumber) != 0 {
		t.Errorf("entries %v, want %v (and not %v)", l.RevokedCertificateEntries, c.Cert.SerialNumber, other.Cert.SerialNumber)
	}
	if old := Must(ca.CRL(8, time.Now().Add(-time.Hour))); !old.ThisUpdate.Before(old.NextUpdate) {
		t.Error("a stale list begins after it ends")
	}
	if !bytes.Contains(CRLPEM(l), []byte("BEGIN X509 CRL")) {
		t.Error("not PEM")
	}
}

// OpenSSL agrees on what is wrong; -auth_level 2 is what OpenSSL-based peers
// demand by default on Debian. The numbers are those of x509_vfy.h.
func TestFaultsByOpenSSL(t *testing.T) {
	openssl := testenv.Tool(t, "openssl")
	want := map[string]string{
		"expired": "error 10 ", "expired-intermediate": "error 10 ", "not-yet-valid": "error 9 ", "wrong-eku": "error 26 ",
		"rsa-1024": "error 66 ", "rsa-1024-intermediate": "error 67 ", "sha1": "error 68 ", "sha1-intermediate": "error 68 ",
		"bad-signature": "error 7 ", "path-length": "error 25 ", "issuer-not-ca": "error 79 ",
		"name-constraint": "error 47 ", "unknown-critical": "error 34 ", "self-signed": "error 18 ",
		"other-ca": "error 20 ", "missing-intermediate": "error 20 ", "impostor-ca": "error 20 ",
		"p224": ": OK", "long-chain": ": OK",
	}
	ca := Must(NewCA(Options{}))
	dir := t.TempDir()
	root, _, err := ca.WritePEM(dir, "root")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append([]Fault{{Name: "sound", Make: (*CA).Issue}}, Faults()...) {
		c, err := f.Make(ca, Leaf{DNS: []string{"a.inside.example.org"}})
		if err != nil {
			t.Fatal(err)
		}
		leaf := filepath.Join(dir, f.Name+".pem")
		if err := os.WriteFile(leaf, CertsPEM(c.Chain...), 0o600); err != nil {
			t.Fatal(err)
		}
		// Its exit code says the same as its text.
		out, _ := exec.Command(openssl, "verify", "-purpose", "sslclient", "-auth_level", "2", "-CAfile", root, "-untrusted", leaf, leaf).CombinedOutput()
		w := want[f.Name]
		if f.Name == "sound" {
			w = ": OK"
		}
		if w == "" || !strings.Contains(string(out), w) {
			t.Errorf("%s: want %q in:\n%s", f.Name, w, out)
		}
	}
}
