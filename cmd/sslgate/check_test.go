package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

const checkConfig = `version: 1
capture: {interfaces: [eth1], ports: [443]}
authorities: {staff: {roots: ca.pem}}
identities: {pay: {certificate: pay.pem, key: pay.key}}
policy:
  rules:
    - name: pay
      to: ["10.20.0.9:443"]
      identity: pay
      alpn: [http/1.1]
      client: {authorities: [staff]}
      destination: {tls: plain}
`

// writeCheck makes a directory with a configuration and its files.
func writeCheck(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	from, to := time.Now().AddDate(-1, 0, 0), time.Now().AddDate(1, 0, 0)
	ca := testpki.Must(testpki.NewCA(testpki.Options{NotBefore: from, NotAfter: to}))
	pay := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.corp.example"}, NotBefore: from, NotAfter: to}))
	if _, _, err := pay.WritePEM(dir, "pay"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sslgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// runCheck is `sslgate check`, with what main prints for its error.
func runCheck(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), append([]string{"check"}, args...), strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), code
}

// attached is checkConfig with a device that somebody else routes: nothing of this
// host is looked at.
func attached() string {
	return strings.Replace(checkConfig, "capture: {interfaces: [eth1], ports: [443]}", "capture: {ports: [443]}\ntun: {name: tun7, attach: true}", 1)
}

func TestCheckGood(t *testing.T) {
	t.Setenv("COLUMNS", "300") // the name of the file is long
	file := writeCheck(t, attached())
	out, errOut, code := runCheck(t, "-c", file)
	want := regexp.MustCompile(`^` + regexp.QuoteMeta(file) + `: ok \(1 rule, policy [0-9a-f]{12}, snapshot [0-9a-f]{12}\)\n$`)
	if errOut != "" || code != 0 || !want.MatchString(out) {
		t.Errorf("code %d, %s:\n%s", code, errOut, out)
	}
	if out, errOut, code := runCheck(t, "-c", file, "--json"); errOut != "" || code != 0 || out != "" {
		t.Errorf("code %d, %s:\n%s", code, errOut, out)
	}
}

func TestCheckWarning(t *testing.T) {
	t.Setenv("COLUMNS", "5000") // lines stay whole for those who look for them
	file := writeCheck(t, attached()+"profiles: {spare: {base: modern}}\n")
	out, errOut, code := runCheck(t, "-c", file)
	if errOut != "" || code != 0 || !strings.Contains(out, ":14:12: warning: profiles.spare: no rule uses it\n") ||
		!strings.HasSuffix(out, "), 1 warning\n") {
		t.Errorf("code %d, %s:\n%s", code, errOut, out)
	}
}

// Interfaces that this host does not have are told of, each at its place, with what
// there is. It is a warning: the file may be for another host.
func TestCheckAbsentInterfaces(t *testing.T) {
	t.Setenv("COLUMNS", "5000") // lines stay whole for those who look for them
	text := strings.Replace(checkConfig, "interfaces: [eth1]", "interfaces: [nosuch0], exempt: [nosuch1, nosuch2]", 1)
	file := writeCheck(t, text)
	out, errOut, code := runCheck(t, "-c", file)
	for _, want := range []string{
		`:2:24: warning: capture.interfaces[0]: on this host there is no interface "nosuch0"`,
		`:2:43: warning: capture.exempt[0]: on this host there is no interface "nosuch1"`,
		`:2:52: warning: capture.exempt[1]: on this host there is no interface "nosuch2"`,
		": nothing is captured there until one comes\n    2 | capture: {interfaces: [nosuch0]", ": it exempts nothing until one comes\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if errOut != "" || code != 0 || !strings.HasSuffix(out, ", 3 warnings\n") {
		t.Errorf("code %d, %s:\n%s", code, errOut, out)
	}
}

func TestCheckBad(t *testing.T) {
	t.Setenv("COLUMNS", "5000") // lines stay whole for those who look for them
	file := writeCheck(t, strings.NewReplacer("ports: [443]", "ports: [443, 0]", "key: pay.key", "key: gone.key", "identity:", "identiti:").Replace(checkConfig))
	out, errOut, code := runCheck(t, "-c", file)
	if code != 2 || errOut != "" {
		t.Errorf("code %d, %s", code, errOut)
	}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != 10 || lines[9] != file+": 3 errors" || strings.Contains(out, "\x1b") {
		t.Fatalf("got\n%s", out)
	}
	for i, want := range []string{
		file + `:2:44: capture.ports[1]: 0 is no port: 1 to 65535`,
		file + `:4:47: identities.pay.key: `,
		file + `:9:7: policy.rules[0].identiti: unknown key (did you mean "identity"?)`,
	} {
		if !strings.HasPrefix(lines[3*i], want) {
			t.Errorf("line %d is %q, want %q", 3*i, lines[3*i], want)
		}
	}
	out, _, code = runCheck(t, "--config", file, "--json")
	objects := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if code != 2 || len(objects) != 3 {
		t.Fatalf("code %d:\n%s", code, out)
	}
	var last map[string]any
	if err := json.Unmarshal([]byte(objects[2]), &last); err != nil {
		t.Fatal(err)
	}
	if last["file"] != file || last["line"] != 9.0 || last["column"] != 7.0 || last["path"] != "policy.rules[0].identiti" ||
		last["message"] != `unknown key (did you mean "identity"?)` || last["warning"] != false || len(last) != 6 {
		t.Errorf("%v", last)
	}
}

func TestCheckUsage(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	if out, _, code := runCheck(t, "-c", missing); code != 2 || !strings.Contains(out, "no such file") || !strings.HasSuffix(out, ": 1 error\n") {
		t.Errorf("code %d:\n%s", code, out)
	}
	for _, args := range [][]string{nil, {"-c"}, {"-c", "a", "b"}} {
		if _, errOut, code := runCheck(t, args...); code != 2 || !strings.HasPrefix(errOut, "sslgate: ") {
			t.Errorf("%v: code %d, %s", args, code, errOut)
		}
	}
}
