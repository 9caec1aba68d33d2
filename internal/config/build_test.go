package config

import (
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/policy"
)

// copyExample puts docs/examples/gateway.yaml and the files that it names into
// a directory of its own.
func copyExample(t *testing.T, edit func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	writePKI(t, filepath.Join(dir, "pki"))
	text, err := os.ReadFile("../../docs/examples/gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(edit(string(text))), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestExample: the example of the documentation is without any finding, and
// becomes what the gateway runs on.
func TestExample(t *testing.T) {
	file := copyExample(t, func(s string) string { return s })
	f, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	rt, found := build(f, stdtls.New(), testNow)
	for _, x := range found {
		t.Error(x.Format(false))
	}
	if rt == nil {
		t.Fatal("no Runtime")
	}
	if rt.Set.ID() == "" || len(rt.Config.Policy.Rules) != 3 {
		t.Errorf("policy %q with %d rules", rt.Set.ID(), len(rt.Config.Policy.Rules))
	}
	dir := filepath.Dir(file)
	if got, want := rt.Config.Authorities["staff"].Roots, filepath.Join(dir, "pki", "staff-ca.pem"); got != want {
		t.Errorf("roots of staff: %s, want %s", got, want)
	}
	if got := f.Config.Authorities["staff"].Roots; got != "pki/staff-ca.pem" {
		t.Errorf("the File was changed: %s", got)
	}
	staff := rt.Environment.Authorities["staff"].Current()
	if staff == nil || len(staff.Roots) != 1 || staff.Roots[0].Subject.CommonName != "Staff CA" || staff.Name != "staff" {
		t.Errorf("authority %+v", staff)
	}
	if p := rt.Environment.Permits["staff"]; p == nil || len(p.SPIFFE) != 1 {
		t.Errorf("permits %+v", p)
	}
	if rt.Environment.Permits["services"] != nil {
		t.Error("services has permits that nobody wrote")
	}
	pay := rt.Environment.Identities["pay"]
	if len(pay.Certificates()) != 1 || pay.Certificates()[0].PrivateKey == nil || pay.Certificates()[0].Leaf == nil {
		t.Fatalf("identity %+v", pay)
	}
	roots := x509.NewCertPool()
	roots.AddCert(rt.Environment.Authorities["services"].Current().Roots[0])
	if _, err := pay.Certificates()[0].Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "pay.corp.example", CurrentTime: testNow}); err != nil {
		t.Error(err)
	}
	if p := rt.Environment.Profiles["strict"]; p.MinRSABits != 3072 || p.MinVersion != p.MaxVersion {
		t.Errorf("profile %+v", p)
	}
	// The compiled policy is the one of the file.
	facts := policy.Facts{Now: testNow, Src: netip.MustParseAddrPort("10.1.0.5:40000"), Dst: netip.MustParseAddrPort("10.30.0.9:443")}
	if v, decided := rt.Set.OnSYN(facts); !decided || v.Action != policy.Bypass || v.Rule != "old-printer" {
		t.Errorf("printer: %+v %t", v, decided)
	}
	facts.Dst = netip.MustParseAddrPort("10.99.0.9:443")
	if v, decided := rt.Set.OnSYN(facts); !decided || v.Action != policy.Deny {
		t.Errorf("elsewhere: %+v %t", v, decided)
	}
}

// TestExampleWithoutFiles: what is wrong with the example alone is that its
// files are missing, each said once.
func TestExampleWithoutFiles(t *testing.T) {
	rt, found := Check("../../docs/examples/gateway.yaml", stdtls.New())
	if rt != nil || len(found) != 6 {
		t.Errorf("%d findings", len(found))
	}
	for _, x := range found {
		if !strings.Contains(x.Msg, "no such file") {
			t.Error(x.Format(false))
		}
	}
}

func TestCheckSaysAllAtOnce(t *testing.T) {
	file := copyExample(t, func(s string) string {
		s = strings.Replace(s, "mtu: 1500", "mtu: many", 1)         // found by the decoder
		s = strings.Replace(s, "pki/pay.key", "pki/gone.key", 1)    // by the loader
		s = strings.Replace(s, "10.30.0.9:443", "10.30.0.9:0", 1)   // by the compiler of rules
		return strings.Replace(s, "base: modern", "base: modem", 1) // by the one of profiles
	})
	rt, found := build(load(file), stdtls.New(), testNow)
	if rt != nil || len(found) != 4 {
		t.Errorf("%d findings, want 4:\n%v", len(found), Findings(found))
	}
	if f, err := Load(file); f != nil || err == nil || strings.Contains(err.Error(), "gone.key") {
		t.Errorf("Load opens no files: %v", err)
	}
}

func TestWarningsAlone(t *testing.T) {
	file := copyExample(t, func(s string) string { return strings.ReplaceAll(s, "pki/pay.", "pki/soon.") })
	rt, found := build(load(file), stdtls.New(), testNow)
	if rt == nil || len(found) != 1 || !found[0].Warning || !strings.Contains(found[0].Msg, "expires in 20 days") {
		t.Errorf("Runtime %v, %v", rt, Findings(found))
	}
	// One day later than the rest of its life it is an error.
	rt, found = build(load(file), stdtls.New(), testNow.Add(20*24*time.Hour))
	if rt != nil || len(found) != 1 || found[0].Warning || !strings.Contains(found[0].Msg, "expired on") {
		t.Errorf("Runtime %v, %v", rt, Findings(found))
	}
}

func TestShortLivedCertificate(t *testing.T) {
	file := copyExample(t, func(s string) string { return strings.ReplaceAll(s, "pki/pay.", "pki/short.") })
	for days, want := range map[int]int{0: 0, 2: 1} { // 4 and 2 of 9 days are left
		_, found := build(load(file), stdtls.New(), testNow.AddDate(0, 0, days))
		if len(found) != want {
			t.Errorf("after %d days: %v", days, Findings(found))
		}
	}
}

func TestKeyModes(t *testing.T) {
	file := copyExample(t, func(s string) string { return s })
	key := filepath.Join(filepath.Dir(file), "pki", "pay.key")
	for mode, good := range map[os.FileMode]bool{0o400: true, 0o600: true, 0o640: true, 0o644: false, 0o602: false, 0o601: false} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		rt, found := build(load(file), stdtls.New(), testNow)
		if (rt != nil) != good {
			t.Errorf("mode %o: %v", mode, Findings(found))
		}
		if !good && !strings.Contains(Findings(found).Error(), "chmod o= "+key) {
			t.Errorf("mode %o: no command to type: %v", mode, Findings(found))
		}
	}
}

// TestOddFiles: a named pipe without a writer does not hold the check.
func TestOddFiles(t *testing.T) {
	file := copyExample(t, func(s string) string { return strings.Replace(s, "pki/staff-ca.pem", "pki/pipe", 1) })
	pipe := filepath.Join(filepath.Dir(file), "pki", "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, found := build(load(file), stdtls.New(), testNow)
	if len(found) != 1 || !strings.Contains(found[0].Msg, "not a regular file") {
		t.Errorf("pipe: %v", Findings(found))
	}
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pipe, make([]byte, maxPEM+1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, found = build(load(file), stdtls.New(), testNow)
	if len(found) != 1 || !strings.Contains(found[0].Msg, "too large") {
		t.Errorf("large: %v", Findings(found))
	}
}

func TestAuditFile(t *testing.T) {
	file := copyExample(t, func(s string) string { return strings.Replace(s, `file: "-"`, `file: audit.jsonl`, 1) })
	want := filepath.Join(filepath.Dir(file), "audit.jsonl")
	rt, found := build(load(file), stdtls.New(), testNow)
	if rt == nil || rt.Config.Audit.File != want {
		t.Fatalf("%v", Findings(found))
	}
	if _, err := os.Stat(want); err == nil {
		t.Error("check made the file")
	}
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if rt, found = build(load(file), stdtls.New(), testNow); rt == nil {
		t.Errorf("an existing file: %v", Findings(found))
	}
}
