package revocation

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// opensslCA is a CA whose lists and OCSP answers openssl makes.
type opensslCA struct {
	t    *testing.T
	tool string
	dir  string
	ca   *testpki.CA
}

const opensslConf = `
[ca]
default_ca = here
[here]
database = index.txt
crlnumber = crlnumber
default_md = sha256
default_crl_days = 1
certificate = ca.pem
private_key = ca.key
crl_extensions = exts
[exts]
authorityKeyIdentifier = keyid
[plain]
[delta]
authorityKeyIdentifier = keyid
2.5.29.27 = critical, DER:02:01:01
[indirect]
issuingDistributionPoint = critical, @idp
[idp]
indirectCRL = TRUE
[users]
issuingDistributionPoint = critical, @idpusers
[idpusers]
onlyuser = TRUE
`

func newOpenSSL(t *testing.T, key testpki.KeyKind) *opensslCA {
	t.Helper()
	o := &opensslCA{t: t, tool: testenv.Tool(t, "openssl"), dir: t.TempDir()}
	o.ca = testpki.Must(testpki.NewCA(testpki.Options{CN: "OpenSSL CA", Key: key}))
	if _, _, err := o.ca.WritePEM(o.dir, "ca"); err != nil {
		t.Fatal(err)
	}
	o.write("index.txt", "")
	o.write("crlnumber", "01\n")
	o.write("ca.conf", opensslConf)
	return o
}

func (o *opensslCA) write(name, text string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o *opensslCA) run(args ...string) {
	o.t.Helper()
	cmd := exec.Command(o.tool, args...)
	cmd.Dir = o.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		o.t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// enter puts a certificate into the CA's database.
func (o *opensslCA) enter(c *testpki.Cert, revoked string) {
	o.t.Helper()
	f, err := os.OpenFile(filepath.Join(o.dir, "index.txt"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		o.t.Fatal(err)
	}
	defer f.Close()
	status := "V"
	if revoked != "" {
		status, revoked = "R", time.Now().UTC().Add(-time.Minute).Format("060102150405Z")+","+revoked
	}
	// Whole octets in capital letters, as openssl writes them.
	serial := fmt.Sprintf("%X", c.Cert.SerialNumber.Bytes())
	if _, err := fmt.Fprintf(f, "%s\t%s\t%s\t%s\tunknown\t/CN=x\n", status, c.Cert.NotAfter.UTC().Format("060102150405Z"), revoked, serial); err != nil {
		o.t.Fatal(err)
	}
}

func (o *opensslCA) crl(args ...string) []byte {
	o.t.Helper()
	o.run(append([]string{"ca", "-config", "ca.conf", "-gencrl", "-out", "out.crl"}, args...)...)
	data, err := os.ReadFile(filepath.Join(o.dir, "out.crl"))
	if err != nil {
		o.t.Fatal(err)
	}
	return data
}

// Lists as openssl makes them, PEM and DER, ECDSA and RSA; and those that it
// can make and we refuse.
func TestListsOfOpenSSL(t *testing.T) {
	for _, kind := range []testpki.KeyKind{testpki.P256, testpki.RSA2048} {
		t.Run(kind.String(), func(t *testing.T) {
			o := newOpenSSL(t, kind)
			good, bad := testpki.Must(o.ca.Issue(testpki.Leaf{CN: "good"})), testpki.Must(o.ca.Issue(testpki.Leaf{CN: "bad"}))
			o.enter(good, "")
			o.enter(bad, "keyCompromise")
			data := o.crl()
			block, _ := pem.Decode(data)
			for _, form := range [][]byte{data, block.Bytes} {
				lists, err := ParseLists(form, []*x509.Certificate{o.ca.Cert})
				if err != nil {
					t.Fatal(err)
				}
				l := lists[0]
				if l.Entries != 1 || !l.Has(bad.Cert) || l.Has(good.Cert) || l.Number.Int64() != 1 || !l.Fresh(time.Now()) {
					t.Errorf("%+v", l)
				}
			}
			second := testpki.Must(ParseLists(o.crl(), []*x509.Certificate{o.ca.Cert}))
			first := testpki.Must(ParseLists(data, []*x509.Certificate{o.ca.Cert}))
			if err := plainOrder().check(first, second, true); err != nil {
				t.Error(err)
			}
			if err := plainOrder().check(second, first, true); !errors.Is(err, ErrOlder) {
				t.Error(err)
			}
			for exts, want := range map[string]error{"delta": ErrDelta, "indirect": ErrIndirect, "users": nil} {
				if _, err := ParseLists(o.crl("-crlexts", exts), []*x509.Certificate{o.ca.Cert}); !errors.Is(err, want) {
					t.Errorf("%s: %v", exts, err)
				}
			}
			if kind == testpki.RSA2048 {
				if _, err := ParseLists(o.crl("-md", "sha1"), []*x509.Certificate{o.ca.Cert}); !errors.Is(err, ErrSignature) {
					t.Errorf("sha1: %v", err)
				}
				if _, err := ParseLists(o.crl("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"), []*x509.Certificate{o.ca.Cert}); err != nil {
					t.Errorf("pss: %v", err)
				}
			}
			// Without number, and without anything that needs version 2.
			o.write("ca.conf", strings.ReplaceAll(strings.ReplaceAll(opensslConf, "crl_extensions = exts\n", ""), "crlnumber = crlnumber\n", ""))
			if l, err := ParseLists(o.crl(), []*x509.Certificate{o.ca.Cert}); err != nil || l[0].Number != nil {
				t.Errorf("without number: %v", err)
			}
			o.write("index.txt", "")
			if _, err := ParseLists(o.crl(), []*x509.Certificate{o.ca.Cert}); !errors.Is(err, ErrNotCRL) || !strings.Contains(err.Error(), "version 1") {
				t.Errorf("version 1: %v", err)
			}
		})
	}
}

// openssl as the responder, with a delegate: our request, its nonce, its answer.
func TestResponderOfOpenSSL(t *testing.T) {
	o := newOpenSSL(t, testpki.P256)
	good, bad := testpki.Must(o.ca.Issue(testpki.Leaf{CN: "good"})), testpki.Must(o.ca.Issue(testpki.Leaf{CN: "bad"}))
	stranger := testpki.Must(o.ca.Issue(testpki.Leaf{CN: "stranger"}))
	o.enter(good, "")
	o.enter(bad, "superseded")
	d := delegate(o.ca, nil)
	if _, _, err := d.WritePEM(o.dir, "responder"); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, o.tool, "ocsp", "-index", "index.txt", "-port", port, "-rsigner", "responder.pem", "-rkey", "responder.key", "-CA", "ca.pem", "-nmin", "5")
	cmd.Dir = o.dir
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It takes one connection at a time, so do not try to connect; it says when it
	// listens.
	ready, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		ready <- line
		_, _ = io.Copy(io.Discard, stdout)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = cmd.Wait() // killed
	})
	if line := <-ready; !strings.HasPrefix(line, "ACCEPT") {
		t.Fatalf("openssl says %q", line)
	}
	k := checker(t, Options{}, Authority{Name: "staff", Roots: []*x509.Certificate{o.ca.Cert}, OCSP: &OCSP{URL: "http://" + addr, Timeout: testenv.Patience()}})
	for _, c := range []struct {
		who    *testpki.Cert
		status Status
		code   reason.Code
		says   string
	}{{good, Good, "", ""}, {bad, Revoked, reason.Revoked, "CN=bad"}, {stranger, Unknown, reason.RevocationUnknown, "does not know"}} {
		p := &handshake.Peer{Shown: c.who.Chain, Chain: []*x509.Certificate{c.who.Cert, o.ca.Cert}, Authority: "staff"}
		r := k.Check(t.Context(), p, time.Now())
		if r.Status != c.status || r.Code != c.code || !strings.Contains(r.Detail, c.says) {
			t.Errorf("%s: %+v", c.who.Cert.Subject, r)
		}
	}
	if s := k.Stats().Authorities["staff"]; s.OCSPAsked != 3 || s.OCSPFailures != 1 {
		t.Errorf("%+v", s)
	}
}
