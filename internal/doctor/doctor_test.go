package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/service"
)

// inNamespace runs f in a fresh network namespace with an interface c0 that
// is up, has its receive offload on, and is forwarded from.
func inNamespace(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	testenv.TUN(t)
	for _, tool := range []string{"ip", "nft", "ethtool", "sysctl"} {
		testenv.Tool(t, tool)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		h, err := netns.New()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = h.Close() }()
		if sh(t, `ip link set lo up
			ip link add c0 type veth peer name p0
			ip link set c0 up; ip link set p0 up; ip -6 addr add fd00:1::1/64 dev c0 nodad
			ethtool -K c0 gro on
			sysctl -qw net/ipv4/ip_forward=1 net/ipv6/conf/all/forwarding=1 net/ipv4/conf/all/rp_filter=0
			sysctl -qw net/ipv4/conf/c0/rp_filter=0 net/ipv4/conf/c0/src_valid_mark=0 net/ipv4/conf/all/src_valid_mark=0
			nft add table inet sslgate`) {
			f(t)
		}
	}()
	<-done
}

// sh says whether the script worked; FailNow may not be called off the test's goroutine.
func sh(t *testing.T, script string) bool {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
	return err == nil
}

func options(t *testing.T) Options {
	c := &config.Config{}
	c.TUN.Name = "sslgate0"
	c.Capture = config.Capture{Interfaces: []string{"c0"}, Ports: config.Ports{List: []uint16{443}}, Mark: 0x10, Mask: 0x70, Table: 5519, Preference: 5519}
	c.Limits.Flows = 100
	c.Admin.Socket = filepath.Join(t.TempDir(), "admin.sock")
	return Options{
		File: "gw.yaml", Config: c, Steer: service.SteerConfig, Built: time.Now().Add(-time.Hour),
		Clock: func(*unix.Timex) (int, error) { return unix.TIME_OK, nil },
	}
}

// bad are the findings of one check that are not good; all if check is "".
func bad(found []Finding, check string) []Finding {
	var all []Finding
	for _, f := range found {
		if f.Level != Good && (check == "" || f.Check == check) {
			all = append(all, f)
		}
	}
	return all
}

func TestHealthy(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		found := Examine(options(t))
		if b := bad(found, ""); len(b) > 0 {
			t.Errorf("%+v", b)
		}
		seen := map[string]bool{}
		for _, f := range found {
			seen[f.Check] = true
			if f.Fix != "" {
				t.Errorf("a fix for what is good: %+v", f)
			}
		}
		for _, c := range []string{"tun", "capabilities", "nft", "forwarding", "rp_filter", "interface", "gro", "rules", "local", "routes", "nat", "redirects", "firewall", "guard", "drops", "conntrack", "ports", "files", "socket", "clock"} {
			if !seen[c] {
				t.Errorf("%s is not told", c)
			}
		}
	})
}

// Each fault is found, and the printed command corrects it.
func TestFaultsAndTheirFixes(t *testing.T) {
	for _, c := range []struct {
		name, check, fault, says string
		level                    Level
	}{
		{"no IPv4 forwarding", "forwarding", "sysctl -qw net/ipv4/ip_forward=0", "IPv4 is not forwarded", Fail},
		{"no IPv6 forwarding", "forwarding", "sysctl -qw net/ipv6/conf/all/forwarding=0", "IPv6 is not forwarded", Fail},
		{"interface not forwarded from", "forwarding", "sysctl -qw net/ipv4/conf/c0/forwarding=0", "from c0", Fail},
		{"strict filter by mark", "rp_filter", "sysctl -qw net/ipv4/conf/all/rp_filter=1 net/ipv4/conf/all/src_valid_mark=1", "src_valid_mark", Fail},
		{"interface down", "interface", "ip link set c0 down", "c0 is down", Fail},
		{"port of a bridge", "interface", "ip link add br0 type bridge; ip link set c0 master br0", "bridge br0", Fail},
		{"no receive offload", "gro", "ethtool -K c0 gro off", "receive offload of c0", Warn},
		{"no segmentation offload", "gro", "ethtool -K c0 tso off", "segmentation offload of c0", Warn},
		{"forward policy", "firewall", "nft add table ip other; nft 'add chain ip other F { type filter hook forward priority 0 ; policy drop ; }'", "chain F of table ip other drops IPv4 from c0 to sslgate0", Fail},
		{"foreign route", "routes", "ip route add 192.0.2.0/24 dev p0 table 5519", "192.0.2.0/24", Fail},
		{"foreign IPv6 route", "routes", "ip -6 route add 2001:db8::/32 dev p0 table 5519", "2001:db8::/32", Fail},
		{"few ports", "ports", "sysctl -qw net/ipv4/ip_local_port_range='40000 40050'", "51 local ports", Warn},
	} {
		t.Run(c.name, func(t *testing.T) {
			inNamespace(t, func(t *testing.T) {
				o := options(t)
				if !sh(t, c.fault) {
					return
				}
				found := bad(Examine(o), c.check)
				if len(found) == 0 {
					t.Error("not found")
					return
				}
				if f := found[0]; !strings.Contains(f.Text, c.says) || f.Level != c.level {
					t.Errorf("%+v", f)
				}
				for _, f := range found {
					sh(t, f.Fix)
				}
				if left := bad(Examine(o), ""); len(left) > 0 {
					t.Errorf("not mended: %+v", left)
				}
			})
		})
	}
}

// Obstacles to connections under a client's address are found where these are configured,
// and the printed command removes them.
func TestClientSource(t *testing.T) {
	for _, c := range []struct{ name, fault, says string }{
		{"src_valid_mark", "sysctl -qw net/ipv4/conf/all/src_valid_mark=1", "all has src_valid_mark"},
		{"src_valid_mark of one", "sysctl -qw net/ipv4/conf/p0/src_valid_mark=1", "p0 has src_valid_mark"},
		{"foreign route", "ip route add 192.0.2.0/24 dev p0 table 5520", "table 5520 of answers"},
		{"foreign IPv6 route", "ip -6 route add 2001:db8::/32 dev p0 table 5520", "2001:db8::/32"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inNamespace(t, func(t *testing.T) {
				o := options(t)
				o.Config.Dial = config.Dial{Source: "client", Mark: 0x20, Table: 5520}
				if b := bad(Examine(o), ""); len(b) > 0 {
					t.Errorf("without a fault: %+v", b)
				}
				if !sh(t, c.fault) {
					return
				}
				found := bad(Examine(o), "source")
				if len(found) != 1 || !strings.Contains(found[0].Text, c.says) || found[0].Level != Fail {
					t.Errorf("%+v", found)
					return
				}
				o.Config.Dial.Source = "gateway"
				if b := bad(Examine(o), "source"); len(b) > 0 {
					t.Errorf("not asked for: %+v", b)
				}
				o.Config.Dial.Source = "client"
				sh(t, found[0].Fix)
				if left := bad(Examine(o), ""); len(left) > 0 {
					t.Errorf("not mended: %+v", left)
				}
			})
		})
	}
}

// A setting that the gateway switches itself is no finding.
func TestReceiveOffloadIsAuto(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		o := options(t)
		o.Config.Capture.GRO = "auto"
		if !sh(t, "ethtool -K c0 gro off") {
			return
		}
		if b := bad(Examine(o), "gro"); len(b) > 0 {
			t.Errorf("%+v", b)
		}
	})
}

// What does not concern captured packets is no finding.
func TestHarmlessRules(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		if !sh(t, `ip rule add iif p0 pref 100 lookup 42
			ip rule add fwmark 0x2/0x2 pref 101 lookup 42
			ip rule add ipproto udp pref 102 lookup 42
			ip rule add pref 6000 lookup 42`) {
			return
		}
		if b := bad(Examine(options(t)), ""); len(b) > 0 {
			t.Errorf("%+v", b)
		}
	})
}

func TestMissing(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		o := options(t)
		o.Config.Capture.Interfaces = []string{"eth9"}
		o.TUNNode = filepath.Join(t.TempDir(), "net", "tun")
		o.Config.Admin.Socket = filepath.Join(t.TempDir(), "run", "admin.sock")
		o.Now = o.Built.Add(-time.Minute)
		if !sh(t, "nft delete table inet sslgate") {
			return
		}
		found := Examine(o)
		for check, says := range map[string]string{
			"tun": "there is no " + o.TUNNode, "interface": "there is no interface eth9", "guard": "passes uninspected",
			"socket": "for the admin socket", "clock": "before sslgate was built",
		} {
			b := bad(found, check)
			if len(b) != 1 || !strings.Contains(b[0].Text, says) || b[0].Fix == "" {
				t.Errorf("%s: %+v", check, b)
			}
		}
		if f := bad(found, "guard"); len(f) == 1 && f[0].Fix != "sslgate guard -c gw.yaml" {
			t.Errorf("guard: %s", f[0].Fix)
		}
		// The findings that can be corrected here.
		for _, check := range []string{"tun", "socket"} {
			if b := bad(found, check); len(b) == 1 {
				fix := strings.ReplaceAll(b[0].Fix, "modprobe tun; ", "") // not from within a namespace
				sh(t, fix)
			}
		}
		found = Examine(o)
		if b := append(bad(found, "tun"), bad(found, "socket")...); len(b) > 0 {
			t.Errorf("not mended: %+v", b)
		}
	})
}

// The table of tracked connections belongs to the whole host: here a /proc of
// files stands in.
func TestConntrack(t *testing.T) {
	for _, c := range []struct {
		max, count string
		level      Level
		fix        string
	}{
		{"262144", "10", Good, ""},
		{"100", "10", Warn, "sysctl -w net/netfilter/nf_conntrack_max=200"},
		{"1000", "850", Warn, "sysctl -w net/netfilter/nf_conntrack_max=2000"},
		{"1000", "1000", Fail, "sysctl -w net/netfilter/nf_conntrack_max=2000"},
	} {
		o := options(t)
		o.Proc = t.TempDir()
		dir := filepath.Join(o.Proc, "sys/net/netfilter")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, v := range map[string]string{"nf_conntrack_max": c.max, "nf_conntrack_count": c.count} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(v+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d := &doctor{o: o}
		d.conntrack()
		if f := d.found[0]; f.Level != c.level || f.Fix != c.fix {
			t.Errorf("%s of %s: %+v", c.count, c.max, f)
		}
	}
}

func TestClock(t *testing.T) {
	for _, c := range []struct {
		state  int
		status int32
		level  Level
	}{{unix.TIME_OK, 0, Good}, {unix.TIME_ERROR, 0, Warn}, {unix.TIME_OK, unix.STA_UNSYNC, Warn}} {
		o := options(t)
		o.Now = time.Now()
		o.Clock = func(tx *unix.Timex) (int, error) { tx.Status = c.status; return c.state, nil }
		d := &doctor{o: o}
		d.clock()
		if d.found[0].Level != c.level {
			t.Errorf("%+v", d.found)
		}
	}
}

// A process without the capability is told how to have it.
func TestCapabilities(t *testing.T) {
	for caps, want := range map[string]bool{"0000000000001000": true, "00000000a80405fb": false, "000001ffffffffff": true} {
		file := filepath.Join(t.TempDir(), "status")
		if err := os.WriteFile(file, []byte("Name:\tx\nCapEff:\t"+caps+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := hasNetAdmin(file); err != nil || got != want {
			t.Errorf("%s: %v, %v", caps, got, err)
		}
	}
}

// Open files: a process with a low limit is reported, and the printed command, run by its
// shell, raises the limit.
func TestFiles(t *testing.T) {
	if os.Getenv("SSLGATE_TEST_FILES") != "" {
		d := &doctor{o: options(t)}
		d.files()
		fmt.Printf("\nlevel=%s fix=%s\n", d.found[0].Level, d.found[0].Fix)
		return
	}
	testenv.Root(t)
	testenv.Tool(t, "prlimit")
	cmd := exec.Command("sh", "-ec", `ulimit -n 200
		said=$("$0" -test.run='^TestFiles$' | grep '^level='); echo "$said"
		eval "${said#*fix=}"
		"$0" -test.run='^TestFiles$' | grep '^level='`, os.Args[0])
	cmd.Env = append(os.Environ(), "SSLGATE_TEST_FILES=1")
	out, err := cmd.CombinedOutput()
	want := "level=warn fix=prlimit --pid $$ --nofile=356\nlevel=ok fix=\n"
	if strings.Contains(string(out), "Operation not permitted") {
		// A root without CAP_SYS_RESOURCE, as in containers: nobody raises it here.
		want, out, err = want[:strings.Index(want, "\n")+1], out[:strings.Index(string(out), "\n")+1], nil
	}
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s, want\n%s", err, out, want)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"/etc/a-b.yaml": "/etc/a-b.yaml", "": "''", "a b": "'a b'", "it's;rm": `'it'\''s;rm'`} {
		if got := Quote(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
		out, err := exec.Command("sh", "-c", "printf %s "+Quote(in)).Output()
		if err != nil || string(out) != in {
			t.Errorf("the shell reads %q as %q", in, out)
		}
	}
}

func TestUnknownLevelFails(t *testing.T) {
	if Level(7).String() != "fail" || Level(0) != Fail || !Bad([]Finding{{}}) {
		t.Error("the zero value must be a failure")
	}
}
