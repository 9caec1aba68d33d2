package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/doctor"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/reason"
)

// tooWide are the lines over n columns. A line cannot be broken where a word in it
// is nearly as long, nor may an excerpt of a file.
func tooWide(text string, n int) []string {
	var wide []string
	excerpt := regexp.MustCompile(`^ *[0-9]* \|`)
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\n"); len([]rune(line)) > n && !excerpt.MatchString(line) &&
			!slices.ContainsFunc(strings.Fields(line), func(word string) bool { return len(word) > n-20 }) {
			wide = append(wide, line)
		}
	}
	return wide
}

// sentence is what somebody may have to read.
const sentence = "captured ports arrive on eth1, which is not captured, and so the guard drops them: add it to capture.interfaces, and reload"

// longStatus has a long text in each place that takes one.
func longStatus() (admin.Status, admin.Readiness) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return admin.Status{
		Version: "1", Config: "/etc/sslgate/" + strings.Repeat("deep/", 30) + "sslgate.yaml", Policy: "1a2b3c", Rules: 1, Started: at, CRLs: sentence,
		Revocation: []admin.AuthorityRevocation{{Authority: "customers", Mode: "hard", State: "stale", NextUpdate: &at, Lists: 3, Entries: 70000, OCSP: "x", Errors: []string{sentence}}},
		Dropped:    []admin.Dropped{{Reason: "not_captured", Packets: 7, Cause: sentence}, {Reason: "other", Packets: 8, Cause: sentence}},
		Memory:     &admin.Memory{Ceiling: 512 << 20, InUse: 80 << 20, Resident: 90 << 20, Level: "short", Refused: 123456, Shed: 123456, Loaned: 1 << 20},
		LastReload: &admin.ReloadResult{At: at, Error: sentence},
	}, admin.Readiness{Reasons: []string{sentence, sentence}}
}

// tooNarrow says whether a table that always has 80 columns is not to be tried.
func tooNarrow(w *strings.Builder) bool {
	if columns(w) >= usualColumns {
		return false
	}
	w.WriteString("not narrower\n")
	return true
}

// What the commands print can be read on 80 columns, and on those of COLUMNS. Words
// that cannot be broken (paths, addresses), the excerpts of a file and the commands
// that mend something are longer where they must.
func TestColumns(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "sslgate.yaml")
	if err := os.WriteFile(broken, []byte("policy:\n  rules:\n    - {name: a, action: let-it-pass, sni: [\"*.*.example\"]}\n    - {name: a}\ncapture: {interfaces: []}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	outputs := map[string]func(w *strings.Builder) error{
		"reasons": func(w *strings.Builder) error { return printReasons(w, false) },
		"each reason": func(w *strings.Builder) error {
			for _, e := range reason.Sorted() {
				if err := printReason(w, e); err != nil {
					return err
				}
			}
			return nil
		},
		"status": func(w *strings.Builder) error {
			s, ready := longStatus()
			return printStatus(w, s, ready)
		},
		"doctor": func(w *strings.Builder) error {
			return printFindings(w, []doctor.Finding{{Check: "forwarding", Level: doctor.Fail, Text: sentence}, {Check: "config", Level: doctor.Warn, Text: sentence + "; " + sentence}}, false)
		},
		"finding": func(w *strings.Builder) error {
			return printFinding(w, config.Finding{File: "/etc/sslgate/sslgate.yaml", Line: 12, Col: 3, Path: "capture.interfaces", Msg: sentence, Warning: true})
		},
		"check": func(w *strings.Builder) error {
			if code := run(t.Context(), []string{"check", broken}, nil, w, w); code != 2 {
				t.Errorf("check: %d", code)
			}
			return nil
		},
		"pki show": func(w *strings.Builder) error {
			usages := []string{"serverAuth", "clientAuth", "codeSigning", "emailProtection", "timeStamping", "OCSPSigning"}
			return showItem(w, pki.Item{Type: "certificate", Subject: "CN=alice", Serial: "12", ExtKeyUse: usages, KeyUsage: usages, Warnings: []string{sentence, sentence}})
		},
		"pki issue": func(w *strings.Builder) error {
			at, days := time.Now(), 90
			return printIssue(w, &pkiFlags{dir: "ca"}, &pki.IssueResult{Certificate: pki.Item{Names: []string{"DNS:a.example"}, NotAfter: &at, DaysLeft: &days}, Notes: []string{sentence}})
		},
		"profiles": func(w *strings.Builder) error {
			if tooNarrow(w) {
				return nil
			}
			if code := run(t.Context(), []string{"profiles"}, nil, w, w); code != 0 {
				t.Errorf("profiles: %d", code)
			}
			return nil
		},
		"flows, on a terminal": func(w *strings.Builder) error {
			if tooNarrow(w) {
				return nil
			}
			f := admin.Flow{ID: "5f1c22ab-3e", Rule: strings.Repeat("rule-", 9), Client: "[2001:db8:1111:2222:3333:4444:5555:6666]:54321", Since: time.Now().Add(-400 * time.Hour), BytesUp: 1 << 40, SNI: strings.Repeat("name.", 20) + "example"}
			return printFlows(w, []admin.Flow{f, f}, true)
		},
		"reload": func(w *strings.Builder) error {
			return printReload(w, w, admin.ReloadResult{Error: sentence, Findings: []string{"sslgate.yaml:1:2: " + sentence}}, false)
		},
		"reload that was taken": func(w *strings.Builder) error {
			c := &admin.Certificate{Subject: "CN=" + sentence, Serial: "1234567890abcdef", NotAfter: time.Now()}
			return printReload(w, w, admin.ReloadResult{Certificates: []admin.CertificateChange{{Kind: "identity", Name: "pay", Old: c, New: c}, {Kind: "authority", Name: "staff", Old: c}}, CertificatesMore: 3}, true)
		},
	}
	for name, output := range outputs {
		for _, width := range []int{0, 40, 60, 80, 200} {
			t.Setenv("COLUMNS", "")
			want := usualColumns
			if width > 0 {
				t.Setenv("COLUMNS", strconv.Itoa(width))
				want = width
			}
			var b strings.Builder
			if err := output(&b); err != nil {
				t.Fatal(err)
			}
			if b.Len() == 0 {
				t.Errorf("%s says nothing", name)
			}
			for _, line := range tooWide(b.String(), want) {
				t.Errorf("%s, %d columns: %d in\n%s", name, want, len([]rune(line)), line)
			}
		}
	}
}

// A command stays on its line whole, so that it can be copied.
func TestCommandsAreNotBroken(t *testing.T) {
	t.Setenv("COLUMNS", "50")
	fix := "sysctl -w net.ipv4.conf.eth0.forwarding=1 net.ipv4.conf.eth1.forwarding=1 net.ipv6.conf.all.forwarding=1"
	var b strings.Builder
	if err := printFindings(&b, []doctor.Finding{{Check: "forwarding", Level: doctor.Fail, Text: "off here, and so nothing of what is captured leaves", Fix: fix}}, false); err != nil {
		t.Fatal(err)
	}
	want := `fail  forwarding    off here, and so nothing of
                    what is captured leaves
                    ` + fix + "\n1 finding\n"
	if b.String() != want {
		t.Errorf("\n%s\nwant\n%s", b.String(), want)
	}
}

// Nonsense in COLUMNS is the usual width.
func TestColumnsOfNonsense(t *testing.T) {
	for value, want := range map[string]int{"": 80, "x": 80, "0": 80, "-5": 80, "1e9": 80, "1": 40, "79": 79, "200": 200, "999999": 10000} {
		t.Setenv("COLUMNS", value)
		if got := columns(&strings.Builder{}); got != want {
			t.Errorf("%q: %d", value, got)
		}
	}
}
