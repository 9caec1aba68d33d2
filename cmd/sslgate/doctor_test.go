package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/doctor"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Findings are told with what mends them, and ask for exit code 1; what comes
// from files cannot move the cursor.
func TestDoctorPrints(t *testing.T) {
	found := []doctor.Finding{
		{Check: "tun", Level: doctor.Good, Text: "opens"},
		{Check: "config", Level: doctor.Warn, Text: "x\x1b[31m", Fix: "mend it"},
	}
	var b bytes.Buffer
	if err := printFindings(&b, found, false); err != nil {
		t.Fatal(err)
	}
	want := "ok    tun           opens\nwarn  config        x\\x1b[31m\n                    mend it\n1 finding\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	b.Reset()
	if err := printFindings(&b, found, true); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	var m map[string]string
	if err := json.Unmarshal([]byte(lines[1]), &m); err != nil || len(lines) != 2 {
		t.Fatalf("%v in %q", err, b.String())
	}
	if m["check"] != "config" || m["level"] != "warn" || m["fix"] != "mend it" {
		t.Errorf("%v", m)
	}
}

// What ends is said with its file and what to do: no command mends it.
func TestDoctorOfWhatEnds(t *testing.T) {
	file := writeCheck(t, strings.Replace(checkConfig, "roots: ca.pem", "roots: ca.pem, crl: [ca.crl]", 1))
	dir := filepath.Dir(file)
	from, soon := time.Now().AddDate(0, 0, -20), time.Now().AddDate(0, 0, 3)
	ca := testpki.Must(testpki.NewCA(testpki.Options{NotBefore: from, NotAfter: soon}))
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.corp.example"}, NotBefore: from, NotAfter: soon})).WritePEM(dir, "pay"); err != nil {
		t.Fatal(err)
	}
	crl := testpki.CRLPEM(testpki.Must(ca.CRL(1, time.Now().Add(-time.Minute))))
	if err := os.WriteFile(filepath.Join(dir, "ca.crl"), crl, 0o600); err != nil {
		t.Fatal(err)
	}
	_, found := doctorConfig(t.Context(), file)
	for name, says := range map[string]string{
		"pay.pem": "expires in", "ca.pem": "expires in", "ca.crl": "expired on",
	} {
		path := filepath.Join(dir, name)
		mend := "put the new one into " + path + ", then `sslgate reload`"
		if name == "ca.crl" {
			mend = "put the next one into " + path + ", which is read without a reload"
		}
		if !slices.ContainsFunc(found, func(f doctor.Finding) bool {
			return f.Level == doctor.Warn && f.Fix == "" && strings.Contains(f.Text, says) && strings.HasSuffix(f.Text, mend)
		}) {
			t.Errorf("%s is not told in %+v", name, found)
		}
	}
}

func (d *door) Revocation() []admin.RevocationList { return d.lists }

// Lists that are fetched are looked at where the gateway has them.
func TestDoctorOfFetchedLists(t *testing.T) {
	const url = "http://crl.example/staff.crl"
	d := &door{}
	socket := openDoor(t, d, admin.NewHub())
	file := writeCheck(t, strings.Replace(checkConfig, "roots: ca.pem", "roots: ca.pem, crl: ["+url+"]", 1)+"state: state\nadmin: {socket: "+socket+"}\n")
	for _, c := range []struct {
		lists      []admin.RevocationList
		level      doctor.Level
		text, fix  string
		noneListen bool
	}{
		{lists: []admin.RevocationList{{Authority: "staff", Source: url, State: "fresh"}}, level: doctor.Good, text: "all fresh"},
		{lists: []admin.RevocationList{{Authority: "staff", Source: url, State: "late"}}, level: doctor.Warn, text: "is late: the CA must publish"},
		{lists: []admin.RevocationList{{Authority: "staff", Source: url, State: "expired", Error: "404"}}, level: doctor.Warn, text: "was not taken: 404", fix: "curl -fsSo /dev/null " + url},
		{lists: []admin.RevocationList{{Authority: "staff", Source: url, State: "missing", Error: "HTTP status 404"}}, level: doctor.Fail, text: "does not carry any more: HTTP status 404"},
		{lists: []admin.RevocationList{}, level: doctor.Warn, text: "does not fetch", fix: "sslgate reload --socket " + socket},
		{noneListen: true, level: doctor.Good, text: "none answers"},
	} {
		d.lists = c.lists
		if c.noneListen {
			other := strings.Replace(checkConfig, "roots: ca.pem", "roots: ca.pem, crl: ["+url+"]", 1) + "state: state\nadmin: {socket: none.sock}\n"
			file = writeCheck(t, other)
		}
		_, found := doctorConfig(t.Context(), file)
		found = slices.DeleteFunc(found, func(f doctor.Finding) bool { return f.Check != "lists" })
		if len(found) != 1 || found[0].Level != c.level || !strings.Contains(found[0].Text, c.text) || found[0].Fix != c.fix {
			t.Errorf("%+v: %+v", c, found)
		}
	}
}

// A configuration with mistakes is a finding, not a wrong usage; wrong flags are.
func TestDoctorExitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(file, []byte("version: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"doctor", "-c", file}, nil, &out, &errs); code != 1 || !strings.Contains(out.String(), "this sslgate reads version 1") {
		t.Errorf("code %d\n%s%s", code, out.String(), errs.String())
	}
	if !strings.Contains(out.String(), "sslgate check -c "+file) {
		t.Errorf("no command that tells more:\n%s", out.String())
	}
	if code := run(t.Context(), []string{"doctor", "--nonsense"}, nil, &out, &errs); code != 2 {
		t.Errorf("wrong usage: code %d", code)
	}
}
