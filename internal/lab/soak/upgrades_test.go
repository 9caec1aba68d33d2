package soak

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestUpgradesUsage(t *testing.T) {
	for _, o := range []UpgradeOptions{{}, {N: 1, Binary: "/no/such/file"}} {
		if err := RunUpgrades(context.Background(), o, &strings.Builder{}, &strings.Builder{}); !errors.Is(err, ErrUsage) {
			t.Errorf("%+v: %v, want a usage error", o, err)
		}
	}
}

// Only what a killed process may have had is excused; a failure is counted; and the accounts
// must agree again after a kill, but for what was lost with it.
func TestExcused(t *testing.T) {
	at := time.Unix(1000, 0)
	k := key{ap("10.77.1.2:1000"), ap("10.0.0.2:443")}
	conn := func(begun, ended time.Duration) want {
		return want{key: k, kind: "k", outcomes: one(clean), begun: at.Add(begun), ended: at.Add(ended)}
	}
	strict, broken := conn(0, time.Minute), conn(2*time.Minute, 3*time.Minute)
	strict.strict, broken.err = true, errors.New("reset")
	for _, c := range []struct {
		name    string
		w       want
		problem string
		failed  int64
	}{
		{"before", conn(0, time.Second), "has no audit record", 0},
		{"over it", conn(0, time.Minute), "", 0},
		{"over it, and must live", strict, "has no audit record", 0},
		{"began meanwhile", conn(31*time.Second, time.Minute), "", 0},
		{"after", conn(40*time.Second, time.Minute), "has no audit record", 0},
		{"failed later", broken, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook()
			b.handOvers = true
			b.disturb(span{at.Add(30 * time.Second), at.Add(35 * time.Second)})
			b.client(c.w)
			b.settle()
			all := strings.Join(b.problems, "\n")
			if (c.problem == "") != (all == "") || !strings.Contains(all, c.problem) || b.failed1 != c.failed {
				t.Errorf("problems %q, %d failed; want %q, %d", all, b.failed1, c.problem, c.failed)
			}
		})
	}

	b := newBook()
	rec := record{Parsed: audit.Parsed{Rule: "pay", Verdict: "allowed", Reason: "verified", Dialed: "x", Setup: 1}}
	b.record(rec)
	m, err := parseMetrics("sslgate_audit_records_written_total 3\n")
	if err != nil {
		t.Fatal(err)
	}
	b.rebase(m, 7)
	if b.againstMetrics(m, 7); len(b.problems) > 0 {
		t.Errorf("after a kill: %q", b.problems)
	}
	// What was ended while it connected, its origin may have seen or not.
	b.record(record{Parsed: audit.Parsed{Rule: "pay", Verdict: "allowed", Reason: "verified", End: "client_certificate_revoked"}})
	for accepted, wrong := range map[int64]bool{6: true, 7: false, 8: false, 9: true} {
		n := len(b.problems)
		b.againstOrigins(accepted)
		if (len(b.problems) > n) != wrong {
			t.Errorf("%d accepted: %q", accepted, b.problems[n:])
		}
	}
	b.problems = nil
	b.record(rec)
	if b.againstMetrics(m, 7); len(b.problems) == 0 {
		t.Error("a record that /metrics does not count is no problem after a kill")
	}
}

// A process that was killed counts as gone once it has ended, not before, and though nobody has
// waited for it.
func TestGone(t *testing.T) {
	cmd := exec.Command(testenv.Tool(t, "sleep"), "3600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	pid, over := cmd.Process.Pid, testenv.Context(t)
	if gone(over, pid, 20*time.Millisecond) || !alive(pid) {
		t.Error("a process that lives is gone")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !gone(over, pid, testenv.Patience()) || alive(pid) {
		t.Error("a process that was killed is not gone")
	}
}

func TestShakes(t *testing.T) {
	at := time.Unix(1000, 0)
	var s shakes
	for i := range 200 {
		s.add(at.Add(time.Duration(i)*time.Second), time.Duration(i)*time.Millisecond)
	}
	quiet, n, during, m := s.p99([]span{{at.Add(100 * time.Second), at.Add(149 * time.Second)}}, []span{{at.Add(150 * time.Second), at.Add(time.Hour)}})
	if quiet != 99*time.Millisecond || n != 100 || during != 149*time.Millisecond || m != 50 {
		t.Errorf("quiet %v of %d, during %v of %d", quiet, n, during, m)
	}
}

// What a client sends once, and a full queue has dropped, is no problem, nor is a SYN that was
// sent again because the gateway had not read the first. Whatever else ends so is one.
func TestLostOnTheWay(t *testing.T) {
	at := time.Unix(1000, 0)
	rst := want{key: key{ap("10.77.1.2:1000"), ap("10.0.0.2:443")}, kind: "k", outcomes: one("hello_reset"), begun: at, ended: at.Add(time.Millisecond)}
	syn := want{key: key{ap("10.77.1.2:1001"), ap("10.0.0.2:81")}, kind: "k", outcomes: one("rule_deny"), begun: at, ended: at.Add(1500 * time.Millisecond)}
	other := rst
	other.outcomes = one("hello_eof")
	long := syn
	long.ended = at.Add(2100 * time.Millisecond)
	near, far := span{at.Add(-time.Second), at.Add(time.Millisecond)}, span{at.Add(time.Minute), at.Add(time.Hour)}
	late, soon := 1100*time.Millisecond, time.Millisecond
	for _, c := range []struct {
		name    string
		w       want
		drop    span
		read    time.Duration // when the gateway has read its packet
		records int
		reason  string
		problem string
	}{
		{"a RST is lost", rst, near, soon, 1, "hello_timeout", ""},
		{"nothing was lost then", rst, far, soon, 1, "hello_timeout", "hello_timeout"},
		{"another reason", rst, near, soon, 1, "hello_eof", "hello_eof"},
		{"the ACK before it is lost", rst, near, soon, 0, "", ""},
		{"no record, and nothing was lost", rst, far, soon, 0, "", "has no audit record"},
		{"no record of one that goes on", other, near, soon, 0, "", "has no audit record"},
		{"a SYN is late", syn, far, late, 2, "rule_deny", ""},
		{"a third SYN that cannot be", syn, far, late, 3, "rule_deny", "that no client made"},
		{"a third SYN", long, far, late, 3, "rule_deny", ""},
		{"the answer was lost", syn, near, soon, 2, "rule_deny", "that no client made"},
	} {
		b := newBook()
		b.handOvers = true
		b.dropped(c.drop)
		b.client(c.w)
		for range c.records {
			b.record(record{audit.Parsed{Verdict: "refused", Reason: c.reason}, at.Add(c.read), c.w.client, c.w.destination})
		}
		if even := b.even(); even == (strings.Contains(c.problem, "no client") || strings.Contains(c.problem, "no audit")) {
			t.Errorf("%s: even before: %v", c.name, even)
		}
		b.settle()
		all := strings.Join(b.problems, "\n")
		if (c.problem == "") != (all == "") || !strings.Contains(all, c.problem) || c.problem == "" && !b.even() {
			t.Errorf("%s: %q, want %q", c.name, all, c.problem)
		}
	}
}
