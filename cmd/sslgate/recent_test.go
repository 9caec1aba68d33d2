package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

// endedFlow is a flow that has ended so long ago.
func endedFlow(id, client, sni string, code reason.Code, ago time.Duration) *audit.Record {
	r := audit.NewRecord(id, time.Now().Add(-ago), netip.MustParseAddrPort(client), netip.MustParseAddrPort("[2001:db8:1234:5678:9abc:def0:1234:5678]:443"))
	r.Rule, r.Reason, r.Step, r.SNI, r.Detail = "payments-of-the-north", code, 6, sni, "said \x1b[31m\u202e "+strings.Repeat("very long ", 30)
	return r
}

func narrow(t *testing.T, out string) {
	t.Helper()
	for _, l := range strings.Split(out, "\n") {
		if n := len([]rune(l)); n > 80 {
			t.Errorf("%d columns: %q", n, l)
		}
	}
	if strings.ContainsAny(out, "\x1b\u202e\t") {
		t.Errorf("a peer reached the terminal: %q", out)
	}
}

func TestRecentCommand(t *testing.T) {
	hub := admin.NewHub()
	socket := openDoor(t, &door{}, hub)
	if code, out, errs := called("recent", "--socket", socket); code != 0 || out != "no refusal is remembered\n" || errs != "" {
		t.Errorf("none: %d %q %q", code, out, errs)
	}
	for i := range 5 {
		hub.Finished(endedFlow(fmt.Sprint("exp-", i), fmt.Sprint("192.0.2.7:", 1000+i), strings.Repeat("x", 63)+"."+strings.Repeat("y", 180)+"\x1b", reason.Expired, time.Hour-time.Duration(i)*time.Minute))
	}
	hub.Finished(endedFlow("ok-1", "192.0.2.7:1", "a.example", reason.OK, 2*time.Second))
	hub.Finished(endedFlow("no-1", "[2001:db8::9]:5", "a.example", reason.NoCertificate, time.Second))

	code, out, errs := called("recent", "--socket", socket)
	narrow(t, out)
	if code != 0 || errs != "" || strings.Count(out, "refused ") != 2 || strings.Contains(out, "ok-1") {
		t.Errorf("%d %q\n%s", code, errs, out)
	}
	expired, _ := reason.Lookup(reason.Expired)
	for _, want := range []string{"5 times since ", "id           exp-4", "id           no-1", firstWords(expired.Sentence), firstWords(expired.Advice), "sslgate flows ID", "client       192.0.2.7:1004"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Index(out, "no-1") > strings.Index(out, "exp-4") {
		t.Error("the newest is not the first")
	}
	for args, want := range map[string][2]string{ // what is there, what is not
		"--client 192.0.2.7":      {"exp-4", "no-1"},
		"--client 2001:db8::/64":  {"no-1", "exp-4"},
		"--reason no_certificate": {"no-1", "exp-4"},
		"--since 10m":             {"no-1", "exp-4"},
		"--since 2h":              {"exp-4", "ok-1"},
		"-n 1":                    {"and 1 more", "exp-4"},
		"--verdict allowed":       {"ok-1", "no-1"},
		"--rule nobody":           {"no refusal of that kind is remembered", "advice"},
		"--client 192.0.2.7 --reason no_certificate": {"no refusal of that kind", "exp"},
		"--since 1ms": {"no refusal in the last 1ms is remembered", "advice"},
	} {
		code, out, errs := called(append([]string{"recent", "--socket", socket}, strings.Fields(args)...)...)
		narrow(t, out)
		if code != 0 || errs != "" || !strings.Contains(out, want[0]) || strings.Contains(out, want[1]) {
			t.Errorf("%s: %d %q\n%s", args, code, errs, out)
		}
	}
	code, out, _ = called("recent", "--socket", socket, "--json", "--limit", "2", "--client", "192.0.2.0/24")
	var got []struct {
		ID, Reason, Sentence, Advice, SNI string
		At                                time.Time
	}
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil || len(got) != 2 || got[0].ID != "exp-4" || got[0].Sentence != expired.Sentence || got[0].Advice != expired.Advice {
		t.Errorf("%d %v %q", code, err, out)
	}
	if code, out, _ = called("recent", "--socket", socket, "--json", "--rule", "nobody"); code != 0 || out != "[]\n" {
		t.Errorf("%d %q", code, out)
	}
	for args, want := range map[string]string{
		"--client x": "x", "--reason certificat_expired": "certificate_expired", "--since x": "--since", "--since -1m": "--since",
		"--since 0": "--since", "--limit -1": "--limit", "--step 10": "step", "--verdict maybe": "verdict", "one": "one",
	} {
		if code, out, errs := called(append([]string{"recent", "--socket", socket}, strings.Fields(args)...)...); code != 2 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %q %q", args, code, out, errs)
		}
	}
	if code, _, errs := called("recent", "--socket", socket+"x"); code != 1 || !strings.Contains(errs, "no gateway answers") {
		t.Errorf("no gateway: %d %q", code, errs)
	}
}

func firstWords(s string) string { return strings.Join(strings.Fields(s)[:3], " ") }

// What is forgotten is said, unless it is older than what is asked for.
func TestRecentSaysWhatIsForgotten(t *testing.T) {
	hub := admin.NewHub()
	socket := openDoor(t, &door{}, hub)
	for i := range 200 {
		hub.Finished(endedFlow(fmt.Sprint("f-", i), "192.0.2.7:1", "", reason.NoCertificate, 200*time.Minute-time.Duration(i)*time.Minute))
	}
	const note = "only some are remembered"
	for args, want := range map[string]bool{"": true, "--since 3h": true, "--since 30m": false, "--verdict allowed": false} {
		_, out, _ := called(append([]string{"recent", "--socket", socket}, strings.Fields(args)...)...)
		narrow(t, out)
		if strings.Contains(strings.ReplaceAll(out, "\n", " "), note) != want {
			t.Errorf("%q:\n%s", args, out)
		}
	}
}
