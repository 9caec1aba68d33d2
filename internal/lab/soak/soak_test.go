package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// buildGateway builds the real binary, without the race detector: these tests
// are of the soak, which can run with it.
func buildGateway(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sslgate")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/sslgate/sslgate/cmd/sslgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// A short run finds nothing, and each fault that is made finds its way into
// the report: the soak can fail.
func TestSoakFindsFaults(t *testing.T) {
	testenv.Root(t)
	testenv.TUN(t)
	binary := buildGateway(t)
	for _, c := range []struct{ inject, want string }{
		{"", ""},
		{"corrupt", "other bytes came than were sent"},
		{"lost-record", "a client's connection has no audit record"},
		{"held", "does not come to rest"},
	} {
		t.Run("inject "+c.inject, func(t *testing.T) {
			var out, progress strings.Builder
			err := Run(context.Background(), Options{Binary: binary, For: minFor, Inject: c.inject, JSON: true}, &out, &progress)
			var r Report
			if jerr := json.Unmarshal([]byte(out.String()), &r); jerr != nil {
				t.Fatalf("%v, %v\n%s\n%s", err, jerr, out.String(), progress.String())
			}
			found := strings.Contains(strings.Join(r.Problems, "\n"), c.want)
			switch {
			case c.inject == "" && (err != nil || !r.OK || len(r.Problems) > 0):
				t.Errorf("%v\n%s", err, strings.Join(r.Problems, "\n"))
			case c.inject != "" && !strings.Contains(progress.String(), "] PROBLEM  "):
				t.Errorf("the problem is told at the end only:\n%s", progress.String())
			case c.inject != "" && (!errors.Is(err, ErrFailed) || r.OK || !found):
				t.Errorf("%v, want a problem %q:\n%s", err, c.want, strings.Join(r.Problems, "\n"))
			}
			if r.Flows < 100 || r.Bytes < 1<<20 || r.Reloads == 0 || len(r.Quiet) == 0 || len(r.Kinds) < 30 {
				t.Errorf("hardly a load: %+v", r)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, o := range []Options{
		{For: time.Second}, {For: time.Minute, Inject: "nothing of the kind"}, {For: time.Minute, Binary: "/no/such/file"},
		{For: time.Minute, Binary: os.Args[0], Dir: "/"}, // not empty
	} {
		if err := Run(context.Background(), o, &strings.Builder{}, &strings.Builder{}); !errors.Is(err, ErrUsage) {
			t.Errorf("%+v: %v, want a usage error", o, err)
		}
	}
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// Every way in which the accounts of one connection can differ is a problem.
func TestBook(t *testing.T) {
	k := key{ap("10.0.0.1:1000"), ap("10.0.0.2:443")}
	at := time.Unix(1, 0)
	good := want{key: k, kind: "k", outcomes: one(clean), begun: at, id: 7, sent: 10, got: 20, exact: true}
	rec := record{audit.Parsed{Verdict: "allowed", Reason: "verified", End: "closed", BytesUp: 10, BytesDown: 20, Dialed: "x", Setup: 1}, at, k.client, k.destination}
	denied := record{audit.Parsed{Verdict: "refused", Reason: "no_certificate"}, at, k.client, k.destination}
	cut := want{key: k, kind: "k", outcomes: one("verified/client_reset"), begun: at, id: 7, sent: 12, got: 15}
	cutRec := rec
	cutRec.End = "client_reset"
	change := func(r record, f func(*record)) record { f(&r); return r }
	for _, c := range []struct {
		name    string
		wants   []want
		records []record
		served  map[uint64]served
		problem string
	}{
		{"agree", []want{good}, []record{rec}, map[uint64]served{7: {10, 20}}, ""},
		{"no record", []want{good}, nil, nil, "has no audit record"},
		{"no client", nil, []record{rec}, nil, "that no client made"},
		{"two records", []want{good}, []record{rec, rec}, map[uint64]served{7: {10, 20}}, "that no client made"},
		{"one more byte up", []want{good}, []record{change(rec, func(r *record) { r.BytesUp++ })}, map[uint64]served{7: {10, 20}}, "bytes up: client 10, record 11"},
		{"one byte lost down", []want{good}, []record{change(rec, func(r *record) { r.BytesDown-- })}, map[uint64]served{7: {10, 20}}, "record 19, client 20"},
		{"origin saw less", []want{good}, []record{rec}, map[uint64]served{7: {9, 20}}, "origin 9"},
		{"origin not reached", []want{good}, []record{rec}, nil, "origin 0"},
		{"other end", []want{good}, []record{change(rec, func(r *record) { r.End = "idle_timeout" })}, map[uint64]served{7: {10, 20}}, `"verified/idle_timeout"`},
		{"refused", []want{{key: k, kind: "k", outcomes: one("no_certificate"), begun: at, id: 7, sent: 5}}, []record{denied}, nil, ""},
		{"refused, and served", []want{{key: k, kind: "k", outcomes: one("no_certificate"), begun: at, id: 7}}, []record{denied}, map[uint64]served{7: {5, 0}}, "origin reached: true"},
		{"cut off", []want{cut}, []record{cutRec}, map[uint64]served{7: {10, 20}}, ""},
		{"cut off, more than sent", []want{cut}, []record{change(cutRec, func(r *record) { r.BytesUp = 13 })}, map[uint64]served{7: {10, 20}}, "cut off"},
		{"unknown origin", nil, nil, map[uint64]served{9: {1, 1}}, "which no client made"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook()
			for _, w := range c.wants {
				b.client(w)
			}
			for _, r := range c.records {
				b.record(r)
			}
			for id, s := range c.served {
				b.served(id, s)
			}
			b.settle()
			all := strings.Join(b.problems, "\n")
			if (c.problem == "") != (all == "") || !strings.Contains(all, c.problem) {
				t.Errorf("problems %q, want %q", all, c.problem)
			}
			if b.settle(); strings.Join(b.problems, "\n") != all {
				t.Error("settled accounts are kept")
			}
		})
	}
}

// Sums that differ from /metrics by one are problems.
func TestAgainstMetrics(t *testing.T) {
	const text = `# HELP x y
sslgate_flows_total{reason="verified",rule="pay",verdict="allowed"} 1
sslgate_flow_bytes_total{direction="up"} 10
sslgate_flow_bytes_total{direction="down"} 20
sslgate_audit_records_written_total 1
sslgate_upstream_total{result="connected"} 1
`
	for _, c := range []struct {
		from, to, problem string
		accepted          int64
	}{
		{"", "", "", 1},
		{`"} 10`, `"} 11`, "bytes up by /metrics: 11, audit log 10", 1},
		{`"} 20`, `"} 19`, "bytes down by /metrics: 19, audit log 20", 1},
		{`"} 20`, `"} 2e1`, "", 1},
		{`written_total 1`, `written_total 2`, "records written", 1},
		{`verdict="allowed"} 1`, `verdict="allowed"} 3`, "/metrics 3, audit log 1", 1},
		{`rule="pay"`, `rule="a\"}, b"`, `rule a"}, b`, 1},
		{"", "", "accepted by origins: 2", 2},
		{"# HELP x y", "sslgate_audit_records_lost_total 1", "were lost", 1},
		{"# HELP x y", `sslgate_stack_bad_packets_total{kind="checksum"} 1`, "wrong checksum", 1},
	} {
		m, err := parseMetrics(strings.Replace(text, c.from, c.to, 1))
		if err != nil {
			t.Fatal(err)
		}
		b := newBook()
		b.record(record{Parsed: audit.Parsed{Rule: "pay", Verdict: "allowed", Reason: "verified", BytesUp: 10, BytesDown: 20, Dialed: "x", Setup: 1}})
		b.againstMetrics(m, c.accepted)
		all := strings.Join(b.problems, "\n")
		if (c.problem == "") != (all == "") || !strings.Contains(all, c.problem) {
			t.Errorf("%s: problems %q, want %q", c.to, all, c.problem)
		}
	}
	for _, bad := range []string{"x", `x{a} 1`, `x{a="b} 1`, "x one"} {
		if _, err := parseMetrics(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestGrowth(t *testing.T) {
	steady := Sample{RSS: 100 << 20, Runtime: 50 << 20, Heap: 20 << 20, Goroutines: 30, FDs: 18}
	many := func(n int, f func(i int, s *Sample)) (all []Sample) {
		for i := range n {
			s := steady
			f(i, &s)
			all = append(all, s)
		}
		return all
	}
	for _, c := range []struct {
		name string
		all  []Sample
		want string // with the race detector too, but for resident memory
	}{
		{"steady", many(9, func(i int, s *Sample) { s.Heap += int64(i%3) << 20; s.Goroutines += i % 4 }), ""},
		{"goroutines", many(9, func(i int, s *Sample) { s.Goroutines += 3 * i }), "goroutines"},
		{"descriptors", many(9, func(i int, s *Sample) { s.FDs += i }), "file descriptors"},
		{"heap", many(9, func(i int, s *Sample) { s.Heap += int64(i) * 3 << 20 }), "heap"},
		{"runtime", many(9, func(i int, s *Sample) { s.Runtime += int64(i) * 10 << 20 }), "memory of Go's runtime"},
		{"memory", many(9, func(i int, s *Sample) { s.RSS += int64(i) * 15 << 20 }), "resident memory"},
		{"one", many(1, func(int, *Sample) {}), ""},
	} {
		for _, race := range []bool{false, true} {
			want := c.want
			if race && c.name == "memory" {
				want = ""
			}
			got := strings.Join(growth(c.all, race), "; ")
			if (want == "") != (got == "") || !strings.Contains(got, want) {
				t.Errorf("%s, race %t: %q, want %q", c.name, race, got, want)
			}
		}
	}
}

// The log is followed over its rotation, and a line that came in two parts is
// one.
func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	b := newBook()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&tail{path: path, book: b}).run(ctx) }()
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	const line = `{"time":"2026-01-02T03:04:05.000006Z","client":"10.0.0.1:1","destination":"10.0.0.2:443","verdict":"refused","reason":"no_rule"}` + "\n"
	wait := func(n int64) {
		t.Helper()
		testenv.Eventually(t, fmt.Sprintf("%d records", n), func() bool { return b.counts().written >= n }, func() any { return b.counts().written })
	}
	write(line + line[:20])
	wait(1)
	write(line[20:])
	wait(2)
	write(line)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(line + line)
	wait(5)
	write("no record\n")
	testenv.Eventually(t, "a line that is no record is a problem", func() bool { return b.failed() > 0 })
	cancel()
	if err := <-done; err != nil || b.failed() != 1 || b.counts().written != 5 {
		t.Errorf("%v, %d problems, %d records", err, b.failed(), b.counts().written)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(request{opBoth, 1, 2, 3}.bytes())
	f.Add([]byte("SOAKX"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err == nil && (r.n > maxBytes || string(r.bytes()[8:]) != string(b[8:])) {
			t.Errorf("%q: %+v", b, r)
		}
	})
}
