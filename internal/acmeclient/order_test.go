package acmeclient

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/pebble"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// hook is a program for dns-01 behind a socket. For each connection a shell reads the line, as
// with a socket unit of systemd and Accept=yes; what it makes of it changes the zone before it
// is answered.
func hook(t *testing.T, zone *pebble.DNS, script string) string {
	t.Helper()
	dir := testpki.Must(os.MkdirTemp("", "hook")) // a short path: that of a socket has at most 108 bytes
	path := filepath.Join(dir, "s.sock")
	ln := testpki.Must(net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}))
	serve := func(c *net.UnixConn) {
		defer func() { _ = c.Close() }()
		f, err := c.File()
		if err != nil {
			t.Error(err)
			return
		}
		cmd := exec.Command("sh", "-euc", script)
		cmd.Stdin = f
		out, err := cmd.Output()
		_ = f.Close()
		if err != nil {
			return // it ends without an answer
		}
		answer := "ok\n"
		switch said := strings.Fields(string(out)); {
		case len(said) == 3 && said[0] == "present":
			zone.Put(said[1], said[2])
		case len(said) == 3 && said[0] == "remove":
			zone.Drop(said[1])
		default:
			answer = string(out)
		}
		_, _ = io.WriteString(c, answer)
	}
	var run sync.WaitGroup
	run.Go(func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			serve(c)
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		run.Wait()
		_ = os.RemoveAll(dir)
	})
	return path
}

const goodHook = `read -r what name value; echo "$what $name $value"`

func rootsOf(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(testpki.Must(os.ReadFile(file))) {
		t.Fatal("no roots")
	}
	return pool
}

// A real CA issues for names that are proven in the DNS by a program behind a socket, a wildcard
// among them, to a customer of it; then again, for another key, by the same account. What stands on the disk is open
// to nobody else, and the records are gone afterwards. A program that says why not is heard, one
// that ends without a word too, and both leave what was there.
func TestOrderByDNS(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{Accounts: map[string]string{"customer-7": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}})
	dir := filepath.Join(t.TempDir(), "acme")
	o := &Order{
		Directory: ca.Directory, Roots: rootsOf(t, ca.Roots), Names: []string{"pay.example", "*.pay.example"}, Contact: []string{"mailto:pki@pay.example"},
		File: filepath.Join(dir, "pay.pem"), DNS: hook(t, ca.DNS, goodHook),
	}
	if err := o.Obtain(testenv.Context(t), 0, &Challenges{}); err == nil || !strings.Contains(err.Error(), "externalAccount") {
		t.Errorf("without an external account: %v", err)
	}
	o.External = External{ID: "customer-7", Key: testpki.Must(ParseExternalKey([]byte("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")))}
	obtain := func() error { return o.Obtain(testenv.Context(t), 0, &Challenges{}) }
	var keys []any
	for range 2 {
		var err error
		testenv.Eventually(t, "the order is done", func() bool { // a validator has no patience
			err = attempt(t, o)
			return err == nil
		}, func() any { return err })
		c, err := tls.LoadX509KeyPair(o.File, o.File)
		if err != nil {
			t.Fatal(err)
		}
		leaf := testpki.Must(x509.ParseCertificate(c.Certificate[0]))
		if !IsFor(leaf, o.Names) || len(c.Certificate) < 2 {
			t.Errorf("%d certificates for %v", len(c.Certificate), leaf.DNSNames)
		}
		keys = append(keys, leaf.PublicKey)
		if left := ca.DNS.TXT("_acme-challenge.pay.example"); left != nil {
			t.Errorf("records are left: %q", left)
		}
	}
	if keys[0].(*ecdsa.PublicKey).Equal(keys[1]) {
		t.Error("the second certificate has the key of the first")
	}
	entries := testpki.Must(os.ReadDir(dir))
	if len(entries) != 2 {
		t.Errorf("%v: more than a certificate and an account", entries)
	}
	for _, e := range entries {
		if info := testpki.Must(e.Info()); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", e.Name(), info.Mode().Perm())
		}
	}
	before := testpki.Must(os.ReadFile(o.File))
	o.Names = []string{"more.example"}
	for script, want := range map[string]string{
		`read -r x; echo "the zone is\x1b[31m locked"`: `the zone is\x1b[31m locked`,
		`read -r x; exit 1`:                            "it ended without an answer",
	} {
		o.DNS = hook(t, ca.DNS, script)
		if err := obtain(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	o.DNS = filepath.Join(dir, "nowhere.sock")
	if err := obtain(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	if string(testpki.Must(os.ReadFile(o.File))) != string(before) {
		t.Error("an order that failed has changed what was there")
	}
}

// What a CA answers is bounded, escaped, and nothing but a proper certificate is written; one
// that limits how often it is asked says for how long.
func TestCAThatFails(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"no directory": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"newNonce":"`+strings.Repeat("a", 8<<20))
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusFound)
		},
		"limited": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "7200")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"slow\u001b down"}`)
		},
	}
	for what, answer := range answers {
		s := httptest.NewTLSServer(answer)
		pool := x509.NewCertPool()
		pool.AddCert(s.Certificate())
		o := &Order{Directory: s.URL, Roots: pool, Names: []string{"pay.example"}, File: filepath.Join(t.TempDir(), "pay.pem")}
		err := o.Obtain(testenv.Context(t), 0, &Challenges{})
		if err == nil || strings.ContainsRune(err.Error(), 0x1b) || what == "endless" && !strings.Contains(err.Error(), "too large") {
			t.Errorf("%s: %v", what, err)
		}
		if _, missing := os.Stat(o.File); !errors.Is(missing, os.ErrNotExist) {
			t.Errorf("%s: a certificate is there", what)
		}
		var limited *RetryAfter
		if is := errors.As(err, &limited); is != (what == "limited") || is && (limited.For < time.Hour || limited.For > 2*time.Hour) {
			t.Errorf("%s: %v %+v", what, err, limited)
		}
		s.Close()
	}
}

// A name is answered for as long as it is awaited, whatever its case, and by the last of two.
func TestChallenges(t *testing.T) {
	var c Challenges
	if c.Pending() || c.For("a.example") != nil {
		t.Error("something is awaited from the start")
	}
	first, second := &tls.Certificate{}, &tls.Certificate{}
	over := c.Await("A.example", first)
	if !c.Pending() || c.For("a.EXAMPLE") != first || c.For("b.example") != nil {
		t.Error("it is not awaited")
	}
	again := c.Await("a.example", second)
	over()
	over()
	if !c.Pending() || c.For("a.example") != second {
		t.Error("the end of the first order has ended the second")
	}
	again()
	if c.Pending() || c.For("a.example") != nil {
		t.Error("it is awaited still")
	}
}

// The program for dns-01 of docs/identities.md, as it stands there, says to nsupdate what it is
// asked for.
func TestProgramOfTheDocument(t *testing.T) {
	page := string(testpki.Must(os.ReadFile("../../docs/identities.md")))
	_, rest, ok := strings.Cut(page, "```sh\n#!/bin/sh -eu\nread -r what name value\n")
	program, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("docs/identities.md has no such program")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nsupdate"), []byte("#!/bin/sh\n[ \"$1\" = -k ] && [ \"$(cat \"$2\")\" = secret ] && cat >>"+dir+"/said\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("CREDENTIALS_DIRECTORY", dir) // as LoadCredential= has it
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("secret\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	socket := hook(t, nil, "read -r what name value\n"+program)
	for _, do := range []string{"present", "remove"} {
		if err := askHook(testenv.Context(t), socket, do, "_acme-challenge.pay.example", "a-b_c"); err != nil {
			t.Fatal(err)
		}
	}
	want := "update add _acme-challenge.pay.example. 60 TXT \"a-b_c\"\nsend\nupdate delete _acme-challenge.pay.example. TXT \"a-b_c\"\nsend\n"
	if said := string(testpki.Must(os.ReadFile(filepath.Join(dir, "said")))); said != want {
		t.Errorf("nsupdate was told %q, want %q", said, want)
	}
}
