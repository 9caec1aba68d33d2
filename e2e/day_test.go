package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// visit is one connection of a client that asks for a page.
type visit struct {
	what    string
	host    string
	to      netip.Addr
	args    []string // of curl; nil with ours
	through bool
	ours    string // whose certificate crypto/tls shows, in the place of curl
}

// otherClient is a second address of the client's.
const otherClient = "10.77.1.7"

func cert(name string, more ...string) []string {
	return append([]string{"--cert", name + ".pem", "--key", name + ".key"}, more...)
}

// theDay is what happens on a day in the lab; dayRules are its rules.
func theDay() []visit {
	pay, old, none := lab.ServerAddr(0, false), lab.ServerAddr(1, false), lab.ServerAddr(2, false)
	from := []string{"--interface", otherClient}
	return []visit{
		{"alice pays", "pay.example", pay, cert("alice"), true, ""},
		{"alice pays again, by TLS 1.2", "pay.example", pay, cert("alice", "--tls-max", "1.2"), true, ""},
		{"bob pays", "pay.example", pay, append(cert("bob"), from...), true, ""},
		{"alice pays over IPv6", "pay.example", lab.ServerAddr(0, true), cert("alice"), true, ""},
		{"alice pays, with ML-KEM", "pay.example", pay, nil, true, "alice"},
		{"nobody reads the wiki", "wiki.example", pay, nil, true, ""},
		{"nobody reads the wiki, without ML-KEM", "wiki.example", pay, []string{"--curves", "X25519"}, true, ""},
		{"nobody pays", "pay.example", pay, nil, false, ""},
		{"a stranger pays", "pay.example", pay, cert("mallory"), false, ""},
		{"by a name that nobody has", "other.example", pay, cert("alice"), false, ""},
		{"the old service", "old.example", old, nil, true, ""},
		{"the old service, by TLS 1.2", "old.example", old, append(from, "--tls-max", "1.2"), true, ""},
		{"where no rule leads", "pay.example", none, nil, false, ""},
	}
}

func dayRules() string {
	pay, old := server(false), netip.AddrPortFrom(lab.ServerAddr(1, false), port).String()
	return `
    - name: pay
      to: ["` + pay + `", "` + server(true) + `"]
      sni: [pay.example]
      identity: pay
      client: {authorities: [staff], allow: [{san_dns: ["*.example"]}, {key_type: [rsa], key_bits: 3072}]}
      destination: {tls: plain}
    - name: wiki
      to: ["` + pay + `"]
      sni: [wiki.example]
      identity: pay
      client: {authorities: [staff], certificate: optional}
      destination: {tls: plain}
    - {name: old, to: ["` + old + `"], action: bypass}
`
}

// visit makes the connection and says whether the page came.
func (w *world) visit(v visit) bool {
	w.t.Helper()
	to := v.to.String()
	if v.to.Is6() {
		to = "[" + to + "]"
	}
	if v.ours != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(w.dir, v.ours+".pem"), filepath.Join(w.dir, v.ours+".key"))
		if err != nil {
			w.t.Fatal(err)
		}
		c := tls.Client(w.tcp(netip.AddrPortFrom(v.to, port).String()), &tls.Config{RootCAs: w.ca.Pool(), ServerName: v.host, Certificates: []tls.Certificate{pair}})
		defer c.Close()
		_, _ = c.Write([]byte("GET / HTTP/1.0\r\n\r\n")) // what fails here fails the read too
		out, _ := io.ReadAll(c)
		return strings.HasSuffix(string(out), "\r\n\r\norigin says\n")
	}
	args := append([]string{"-sS", "-m", "60", "--cacert", "ca.pem", "--resolve", v.host + ":443:" + to}, v.args...)
	out, err := w.client("", "curl", append(args, "https://"+v.host+"/")...)
	return err == nil && out == "origin says\n"
}

// What was suggested of the records of a real day, put in force, decides each flow of that day
// as it was, and lets nothing else through. The reports of the day have it.
func TestDayIsSuggested(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	w := newWorld(t, lab.Options{Servers: 3})
	w.issue("pay", testpki.Leaf{DNS: []string{"pay.example", "wiki.example"}})
	w.issue("bob", testpki.Leaf{CN: "bob", DNS: []string{"bob.example"}})
	w.issue("carol", testpki.Leaf{CN: "carol", DNS: []string{"carol.example"}})
	old := w.issue("old", testpki.Leaf{CN: "old", DNS: []string{"old.example", "other.example"}}).TLS()
	foreign := testpki.Must(testpki.NewCA(testpki.Options{CN: "foreign CA"}))
	if _, _, err := testpki.Must(foreign.Issue(testpki.Leaf{CN: "mallory", DNS: []string{"mallory.example"}})).WritePEM(w.dir, "mallory"); err != nil {
		t.Fatal(err)
	}
	if out, err := w.client("", "sh", "-c", `ip addr add `+otherClient+`/24 dev "$(ip -o -4 addr show to `+lab.ClientAddr(false).String()+` | awk '{print $2}')"`); err != nil {
		t.Fatal(err, out)
	}
	w.origin(server(false), serveHTTP)
	w.origin(server(true), serveHTTP)
	w.origin(netip.AddrPortFrom(lab.ServerAddr(1, false), port).String(), func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{old}})
		serveHTTP(s)
		_ = s.Close()
	})
	w.config(dayRules(), "")
	was := w.spend(w.patient(), nil)
	if err := os.Rename(filepath.Join(w.dir, "audit.jsonl"), filepath.Join(w.dir, "day.jsonl")); err != nil {
		t.Fatal(err)
	}
	w.keepDay()

	says := func(code int, args ...string) string {
		t.Helper()
		cmd := w.command(args...)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("sslgate %s: exit code %d, want %d: %v\n%s", strings.Join(args, " "), got, code, err, out)
		}
		return string(out)
	}
	has := func(out string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !regexp.MustCompile("(?m)" + want).MatchString(out) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
	}
	has(says(0, "report", "crypto", "day.jsonl"), `^13 flows from `, `negotiated with clients, in 7 flows`, `negotiated by clients and servers themselves \(bypass\), in 2 flows`, `^  refused   no_certificate +1 `, `^  ML-KEM    offered  +\d+ `)
	has(says(0, "report", "certificates", "day.jsonl"), `CN=alice`, `of         a client, 4 flows, proven in 4`, `of         a destination, 1 flow, proven in 0`, `where      old.example, `)
	has(says(0, "report", "clients", "day.jsonl"), `^10\.77\.1\.7 +2 flows`, `proven as +CN=bob`)
	has(says(0, "suggest", "-c", "sslgate.yaml", "--out", "next.yaml", "day.jsonl"), ` rules for 13 records in next.yaml`)
	says(0, "check", "-c", "next.yaml")
	has(says(0, "test", "next_test.yaml"), ` 0 failed`)
	if out := says(1, "replay", "-c", "next.yaml", "day.jsonl"); strings.Contains(out, "NOW ") {
		t.Errorf("by replay:\n%s", out)
	}
	says(0, "replay", "-c", "sslgate.yaml", "--strict", "day.jsonl")

	is := w.spend(filepath.Join(w.dir, "next.yaml"), []visit{
		{"carol pays, whom the old rule let in", "pay.example", lab.ServerAddr(0, false), cert("carol"), false, ""},
		{"bob pays from where alice does", "pay.example", lab.ServerAddr(0, false), cert("bob"), false, ""},
		{"alice at the wiki, which asks for no certificate", "wiki.example", lab.ServerAddr(0, false), cert("alice"), true, ""},
		{"the old service by another name", "other.example", lab.ServerAddr(1, false), nil, false, ""},
		{"the wiki from elsewhere", "wiki.example", lab.ServerAddr(0, false), []string{"--interface", otherClient}, false, ""},
		{"the old service over IPv6", "old.example", lab.ServerAddr(1, true), nil, false, ""},
	})
	for i, v := range theDay() {
		if a, b := was[i], is[i]; a.str("verdict") != b.str("verdict") || a.str("action") != b.str("action") {
			t.Errorf("%s: was %s by %s (%s), is %s by %s (%s)", v.what, a.str("action"), a.str("rule"), a.str("reason"), b.str("action"), b.str("rule"), b.str("reason"))
		}
	}
}

// spend is the day, and more, under a configuration. It returns the records, one a visit.
func (w *world) spend(config string, more []visit) []record {
	w.t.Helper()
	g := w.start(config)
	all := append(theDay(), more...)
	for i, v := range all {
		if through := w.visit(v); through != v.through {
			w.t.Errorf("%s: through is %v", v.what, through)
		}
		w.last(i + 1)
	}
	g.stop(syscall.SIGTERM)
	return w.records(len(all))
}

// keepDay leaves the day for the transcripts of docs/report.md, where it is asked for:
// SSLGATE_TEST_KEEP_DAY=cmd/sslgate/testdata/day, with the path from the root. Its CA is not kept:
// it ends.
func (w *world) keepDay() {
	dir := os.Getenv("SSLGATE_TEST_KEEP_DAY")
	if dir == "" {
		return
	}
	for _, name := range []string{"sslgate.yaml", "day.jsonl"} {
		b, err := os.ReadFile(filepath.Join(w.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			w.t.Error(err)
		}
	}
}
