package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/policy"
)

const goodAuditLine = `{"msg":"flow","id":"ab-1","time":"2026-11-23T10:00:00.000001Z","client":"10.1.0.7:40000","destination":"10.20.0.9:443",` +
	`"sni":"pay.corp.example","alpn_offered":["h2"],"policy":"0123456789abcdef","rule":"pay","verdict":"refused","reason":"identity_not_allowed",` +
	`"step":6,"client_leg":{"version":"TLS 1.3"},"peer":{"proven":false,"subject":"CN=x","sans":["dns:x.example"]}}`

// FuzzAuditLog: the log that `explain --flow` reads may hold anything. What is
// no record is said with its line and column and changes nothing about the
// others; a record that is found is the one of that line alone; and explaining
// it writes nothing to the terminal but text.
func FuzzAuditLog(f *testing.F) {
	set, _, err := standInPolicy("../../docs/examples/gateway.yaml", policytest.NewStandIns())
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", goodAuditLine, goodAuditLine + "\n" + goodAuditLine[:100] + "\n", `{"id":"ab-1"}`, `{"id":"ab-1","step":"x"}`, `["ab-1"]`, `ab-1`, "\x00\nab-1\r\n{",
		strings.Replace(goodAuditLine, "10.1.0.7:40000", "nowhere", 1), strings.Replace(goodAuditLine, `"step":6`, `"step":-1`, 1),
		strings.Replace(goodAuditLine, "pay.corp.example", `a\u001b[31m\n..`+strings.Repeat("x", 300), 1),
		strings.Replace(goodAuditLine, "pay.corp.example", strings.Repeat("y", 70000), 1),
		strings.Replace(goodAuditLine, `["h2"]`, `["`+strings.Repeat(strings.Repeat("z", 255)+`","`, 260)+`"]`, 1),
		strings.Replace(goodAuditLine, "TLS 1.3", "TLS 9", 1), strings.Replace(goodAuditLine, "CN=x", `CN=\u202e`, 1),
	} {
		f.Add([]byte(seed), "ab-1")
	}
	f.Fuzz(func(t *testing.T, log []byte, id string) {
		if id == "" || strings.ContainsAny(id, "\r\n") {
			return // no flow has such an id, and explain does not come so far with an empty one
		}
		found, bad, err := scanFlow(bytes.NewReader(log), id)
		if err != nil {
			if found != nil || bad != nil || !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("%v %v, %v", found, bad, err)
			}
			return
		}
		all := strings.Split(string(log), "\n")
		kept := append([]string(nil), all...)
		for i, b := range bad {
			if b.n > len(all) || i > 0 && b.n <= bad[i-1].n || !strings.HasPrefix(b.err.Error(), fmt.Sprintf("line %d, column ", b.n)) {
				t.Fatalf("bad line %d: %v", b.n, b.err)
			}
			kept[b.n-1] = ""
		}
		clean, none, err := scanFlow(strings.NewReader(strings.Join(kept, "\n")), id)
		if err != nil || len(none) != 0 && len(bad) < maxBadLines || (clean == nil) != (found == nil) || found != nil && clean.place != found.place {
			t.Fatalf("with the bad lines %+v, without %+v; %v %v", found, clean, none, err)
		}
		if found == nil {
			return
		}
		var n int
		if _, err := fmt.Sscanf(found.place, "line %d", &n); err != nil || found.ID != id || n < 1 || n > len(all) {
			t.Fatalf("%q is at %q", found.ID, found.place)
		}
		alone, _, err := scanFlow(strings.NewReader(all[n-1]), id)
		if err != nil || alone == nil {
			t.Fatalf("line %d alone: %v %v", n, alone, err)
		}
		facts, err := found.facts()
		if err != nil {
			if !strings.HasPrefix(err.Error(), found.place+": flow ") {
				t.Fatalf("no place in %q", err)
			}
			return
		}
		if !facts.Src.IsValid() || !facts.Dst.IsValid() || facts.Now.IsZero() && !strings.Contains(found.Time, "0001-01-01") || (facts.Hello == nil) != (found.Step == 0) {
			t.Fatalf("facts %+v of %+v", facts, found)
		}
		checkExplained(t, set, facts, found)
	})
}

func checkExplained(t *testing.T, set *policy.Set, facts policy.Facts, record *auditLine) {
	t.Helper()
	why := policytest.Ask(set, facts, nil)
	if record.Peer != nil && why.Moment == "peer" {
		record.settle(why)
	}
	var text bytes.Buffer
	explainText(&text, facts, why, record, "")
	for _, r := range text.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%q is written to the terminal:\n%q", r, text.String())
		}
	}
	if !strings.Contains(text.String(), "verdict") {
		t.Fatalf("no verdict:\n%s", text.String())
	}
}
