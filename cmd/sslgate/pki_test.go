package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/reason"
)

// runCmd runs one command in this process: what it printed, and its exit code.
func runCmd(cmd *cobra.Command, out *bytes.Buffer, args ...string) (stdout string, code int, err error) {
	out.Reset()
	cmd.SetArgs(args)
	switch err = cmd.Execute(); {
	case err == nil:
		return out.String(), 0, nil
	default:
		code = 2 // as main has it for what is no exitError
		var e *exitError
		if errors.As(err, &e) {
			code = e.code
		}
		return out.String(), code, err
	}
}

func runPKI(t *testing.T, args ...string) (stdout string, code int, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	stdout, code, err = runCmd(newPKICmd(&out, &errOut), &out, args...)
	if errOut.Len() > 0 {
		t.Errorf("%v wrote to standard error, which is main's business: %s", args, &errOut)
	}
	return stdout, code, err
}

func mustPKI(t *testing.T, args ...string) string {
	t.Helper()
	out, code, err := runPKI(t, args...)
	if err != nil || code != 0 {
		t.Fatalf("sslgate pki %s: %d, %v", strings.Join(args, " "), code, err)
	}
	return out
}

// The walk that the help shows, each step with the commands that the step
// before it said to type.
func TestPKIWalk(t *testing.T) {
	t.Chdir(t.TempDir())
	made := mustPKI(t, "init", "--name", "Walk CA")
	if !strings.HasPrefix(made, "Made the CA CN=Walk CA: ECDSA P-256, valid to ") {
		t.Error(made)
	}
	for _, next := range commands(t, made, 2) {
		out := mustPKI(t, next...)
		for _, n := range commands(t, out, 1) {
			if shown := mustPKI(t, n...); !strings.Contains(shown, "issuer       CN=Walk CA\n") {
				t.Errorf("%v: %s", n, shown)
			}
		}
		for _, w := range []string{"  certificate  pki/", "  key          pki/", "  serial       ", "Note: It is for "} {
			if !strings.Contains(out, w) {
				t.Errorf("want %q in:\n%s", w, out)
			}
		}
	}
	revoked := mustPKI(t, "revoke", "pki/example.org_app.pem", "--reason", "superseded")
	if !strings.HasPrefix(revoked, "Revoked URI:spiffe://example.org/app (superseded).\n") {
		t.Error(revoked)
	}
	for _, next := range commands(t, revoked, 1) {
		if shown := mustPKI(t, next...); !strings.Contains(shown, "revoked      1\n") || !strings.Contains(shown, "superseded") {
			t.Error(shown)
		}
	}
	if out := mustPKI(t, "crl", "--days", "7"); !strings.Contains(out, "Signed revocation list 3: 1 revoked") {
		t.Error(out)
	}
}

// commands finds the `sslgate pki` commands that an output tells to type.
func commands(t *testing.T, out string, n int) [][]string {
	t.Helper()
	var all [][]string
	for _, m := range regexp.MustCompile(`(?m)^  sslgate pki (.*)$`).FindAllStringSubmatch(out, -1) {
		all = append(all, strings.Fields(m[1]))
	}
	if len(all) != n {
		t.Fatalf("%d commands to type, want %d, in:\n%s", len(all), n, out)
	}
	return all
}

// Next commands name the directory where it is not the default, quoted for a shell.
func TestPKIOtherDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "my ca")
	want := "sslgate pki issue app.example.org --dir '" + dir + "'"
	if out := mustPKI(t, "init", "--dir", dir); !strings.Contains(out, want) {
		t.Errorf("want %q in:\n%s", want, out)
	}
}

func TestPKIExitCodes(t *testing.T) {
	t.Chdir(t.TempDir())
	mustPKI(t, "init")
	mustPKI(t, "issue", "a.example.org")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"init", 1, "exists already"},
		{"init --days 0", 2, "--days 0"},
		{"init --days 99999", 2, "--days 99999"},
		{"init extra", 2, "unknown command"},
		{"issue", 2, "needs a name"},
		{"issue a.example.org", 1, "--file NAME"},
		{"issue a_.example..org", 2, "empty label"},
		{"issue b.example.org --key rsa-2047", 2, `did you mean "rsa-2048"?`},
		{"issue b.example.org --days -1", 2, "--days -1"},
		{"issue b.example.org --out none", 2, "is no directory"},
		{"issue b.example.org --nosuch", 2, "unknown flag"},
		{"issue b.example.org --dir none", 1, "sslgate pki init --dir none"},
		{"revoke", 2, "one of the two"},
		{"revoke a b", 2, "at most 1"},
		{"revoke --serial 01", 1, "not issued by this CA"},
		{"revoke --serial 01 --reason nosuch", 2, "no such reason"},
		{"revoke pki/none.pem", 1, "no such file"},
		{"crl --days 0", 2, "--days 0"},
		{"crl --dir none", 1, "sslgate pki init --dir none"},
		{"show", 2, "at least 1"},
		{"show none", 1, "no such file"},
		{"nosuch", 2, "unknown command"},
	} {
		out, code, err := runPKI(t, strings.Fields(c.args)...)
		if code != c.code || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("sslgate pki %s: exit %d, %v; want %d and %q", c.args, code, err, c.code, c.want)
		}
		if out != "" {
			t.Errorf("sslgate pki %s printed, and failed: %s", c.args, out)
		}
	}
}

func TestPKIJSON(t *testing.T) {
	t.Chdir(t.TempDir())
	var made pki.InitResult
	unmarshal(t, mustPKI(t, "init", "--json", "--key", "ed25519"), &made)
	if made.CertFile != "pki/ca.pem" || !made.Certificate.CA || made.Certificate.Key != "Ed25519" {
		t.Errorf("%+v", made)
	}
	var issued pki.IssueResult
	unmarshal(t, mustPKI(t, "issue", "--json", "--client", "spiffe://corp/a", "--org", "Mü"), &issued)
	if issued.KeyFile != "pki/corp_a.key" || issued.Certificate.Names[0] != "URI:spiffe://corp/a" {
		t.Errorf("%+v", issued)
	}
	var revoked pki.RevokeResult
	unmarshal(t, mustPKI(t, "revoke", "--json", "--serial", issued.Certificate.Serial), &revoked)
	if revoked.Serial != issued.Certificate.Serial || revoked.CRL.Revoked != 1 || revoked.Reason != "unspecified" {
		t.Errorf("%+v", revoked)
	}
	var crl pki.CRLResult
	unmarshal(t, mustPKI(t, "crl", "--json"), &crl)
	if crl.Number != "3" || crl.File != "pki/crl.pem" {
		t.Errorf("%+v", crl)
	}
	var shown struct{ Files []shownFile }
	unmarshal(t, mustPKI(t, "show", "--json", "pki/ca.pem", "pki/corp_a.pem"), &shown)
	if len(shown.Files) != 2 || shown.Files[1].Items[0].SPKI != issued.Certificate.SPKI || shown.Files[1].Items[0].Subject != "O=Mü" {
		t.Errorf("%+v", shown)
	}
}

func unmarshal(t *testing.T, s string, v any) {
	t.Helper()
	if strings.Count(s, "\n") != 1 {
		t.Errorf("not one line: %q", s)
	}
	d := json.NewDecoder(strings.NewReader(s))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, s)
	}
}

// Not one byte of the hostile name reaches the terminal as it is, in text or
// in JSON, which has it as RFC 4514 writes it.
func TestPKIShowHostile(t *testing.T) {
	evil := "a\x1b[2J\u202e\u0085\U0001F600\x7f"
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: evil}))
	file := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(file, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	text := mustPKI(t, "show", file)
	js := mustPKI(t, "show", "--json", file)
	for _, s := range []string{text, js} {
		if strings.ContainsAny(s, "\x1b\u202e\u0085\x7f") {
			t.Errorf("%q", s)
		}
	}
	var shown struct{ Files []shownFile }
	unmarshal(t, js, &shown)
	if got := shown.Files[0].Items[0].Subject; !strings.Contains(got, `CN=a\1B[2J\E2\80\AE\C2\85😀\7F`) {
		t.Errorf("subject %q", got)
	}
}

func TestReason(t *testing.T) {
	run := func(args ...string) (string, int, error) {
		var out bytes.Buffer
		return runCmd(newReasonCmd(&out, &out), &out, args...)
	}
	out, code, err := run("certificate_expired")
	want := `certificate_expired (refused)
  the client's certificate, or one of its issuers, has expired.
  step    6, client verified
  alert   certificate_expired(45)
  advice  renew the certificate
`
	if out != want || code != 0 || err != nil {
		t.Errorf("%d, %v:\n%s", code, err, out)
	}
	out, code, err = run("certificate_expird")
	if out != "" || code != 2 || err == nil || !strings.Contains(err.Error(), `did you mean "certificate_expired"?`) {
		t.Errorf("%d, %v: %s", code, err, out)
	}
	if _, code, _ = run("a", "b"); code != 2 {
		t.Errorf("two codes: exit %d", code)
	}
	out, _, _ = run()
	if got, want := strings.Count(out, ": step "), len(reason.All()); got != want {
		t.Errorf("%d codes, want %d:\n%s", got, want, out)
	}
	for _, e := range reason.All() {
		if !strings.Contains("\n"+out, fmt.Sprintf("\n%s: step %d, ", e.Code, e.Step)) {
			t.Errorf("%s is not in the list", e.Code)
		}
		if e.Alert != reason.NoAlert && (e.Alert < 0 || e.Alert > 254) {
			t.Errorf("%s: alert %d", e.Code, e.Alert)
		}
	}
	var one reasonJSON
	out, _, _ = run("--json", "certificate_expired")
	unmarshal(t, out, &one)
	if one.Alert == nil || *one.Alert != 45 || one.AlertName != "certificate_expired" || one.Step != 6 || one.Kind != "refused" {
		t.Errorf("%+v", one)
	}
	var all struct{ Reasons []reasonJSON }
	out, _, _ = run("--json")
	unmarshal(t, out, &all)
	if len(all.Reasons) != len(reason.All()) {
		t.Errorf("%d reasons, want %d", len(all.Reasons), len(reason.All()))
	}
	for _, r := range all.Reasons {
		if e, _ := reason.Lookup(r.Code); (r.Alert == nil) != (e.Alert == reason.NoAlert) {
			t.Errorf("%s: alert %v, want %d", r.Code, r.Alert, e.Alert)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	var b bytes.Buffer
	in := "a<\x00\u00e9\u202e\U0001F600\x7f\"\\"
	if err := writeJSON(&b, in); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), `"a<\u0000\u00e9\u202e\ud83d\ude00\u007f\"\\"`+"\n"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
	var back string
	unmarshal(t, b.String(), &back)
	if back != in {
		t.Errorf("read back %q, want %q", back, in)
	}
	if err := writeJSON(&b, func() {}); err == nil {
		t.Error("a function was written as JSON")
	}
}
