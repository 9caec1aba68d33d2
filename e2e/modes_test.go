package e2e

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// rewrite changes the configuration on disk.
func (w *world) rewrite(old, replacement string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, "sslgate.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		w.t.Fatalf("%q is not in\n%s", old, text)
	}
	return w.pem("sslgate.yaml", []byte(strings.Replace(string(text), old, replacement, 1)))
}

// patient gives handshakes more time in the configuration on disk: for clients that are
// programs, which take seconds to begin where others run beside them, and for data whose
// sending is not what is measured.
func (w *world) patient() string {
	w.t.Helper()
	return w.rewrite("limits: {handshake: 3s", "limits: {handshake: 20s")
}

// attached has sslgate attach to a device of one queue that is routed to, with
// these options more, and returns its configuration.
func (w *world) attached(options string) string {
	w.t.Helper()
	w.rewrite("tun: {name: sslgate0}", "tun: {name: tap9, attach: true"+options+"}")
	w.sh("ip tuntap add dev tap9 mode tun && ip link set tap9 up && ip route add default dev tap9 table 77 && ip rule add iif " + lab.LANIface + " ipproto tcp dport 443 lookup 77")
	return w.rewrite("interfaces: ["+lab.LANIface+"], ", "")
}

// attach: somebody else makes the device and routes to it; sslgate serves it
// and leaves device, rules and firewall as they were, before and after.
func TestAttachTouchesNothing(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "ip")
	testenv.Tool(t, "nft")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.config(payRule, "")
	w.rewrite("tun: {name: sslgate0}", "tun: {name: tap9, attach: true}")
	config := w.rewrite("interfaces: ["+lab.LANIface+"], ", "")
	w.sh(`ip tuntap add dev tap9 mode tun && ip link set tap9 mtu 1400 up && ip addr add 192.0.2.9/32 dev tap9 &&
		ip route add default dev tap9 table 77 && ip rule add iif ` + lab.LANIface + ` ipproto tcp dport 443 lookup 77 &&
		echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter`)
	look := func() string {
		out, err := w.lab.Command(lab.Gateway, "sh", "-c",
			"ip -d link show tap9 | sed 's/state [A-Z]*//; s/qdisc [a-z_]*//; s/<[^>]*>//; s/addrgenmode [a-z0-9]*//'; ip addr show dev tap9 | grep inet; ip rule; ip -6 rule; ip route show table all; nft list ruleset").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	before := look()
	g := w.start(config)
	conn, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	echo(t, conn, 1<<20)
	_ = conn.Close()
	if r := w.last(1); r.str("reason") != "verified" {
		t.Errorf("record %v", r)
	}
	g.stop(syscall.SIGTERM)
	// The route dies with nothing: the device stays, for it is not ours.
	if after := look(); stable(after) != stable(before) {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// stable leaves out what the kernel itself changes once the device has a
// carrier: link-local addresses and the mark of a route without one.
func stable(s string) string {
	var keep []string
	for _, line := range strings.Split(s, "\n") {
		if !strings.Contains(line, "fe80:") && !strings.Contains(line, "ff00::/8") {
			keep = append(keep, strings.TrimSpace(strings.Replace(line, " linkdown", "", 1)))
		}
	}
	return strings.Join(keep, "\n")
}

// fail: open takes everything away on an orderly stop, and only then.
func TestFailOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	config := w.config(payRule, "fail: open")
	g := w.start(config)
	g.stop(syscall.SIGKILL)
	s := w.leak()
	w.knock(43000)
	w.nothingLeaked(s, "after kill -9 with fail: open")
	g = w.start(config)
	g.stop(syscall.SIGTERM)
	w.knock(43001)
	testenv.Eventually(t, "fail: open, stopped in order, it passes", func() bool { return s.Count() > 0 })
	out, err := w.lab.Command(lab.Gateway, "sh", "-c", "nft list ruleset; ip rule; ip -6 rule; ip route show table 5519; true").CombinedOutput()
	if err != nil || strings.Contains(string(out), "sslgate") || strings.Contains(string(out), "5519") {
		t.Errorf("left behind (%v):\n%s", err, out)
	}
}

// ports: all takes every TCP port.
func TestAllPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	for _, p := range []string{":1", ":8080", ":65535"} {
		w.origin(lab.ServerAddr(0, false).String()+p, serveEcho)
	}
	w.config(`
    - {name: pay, to: ["*:*"], identity: pay, client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}
`, "")
	w.start(w.rewrite("ports: [443, 8443]", "ports: all, except_ports: [22]"))
	leaked, err := w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool { return p.Src.Addr() == lab.ClientAddr(false) })
	if err != nil {
		t.Fatal(err)
	}
	defer leaked.Close()
	for _, p := range []uint16{1, 8080, 65535} {
		dst := netip.AddrPortFrom(lab.ServerAddr(0, false), p)
		out, err := w.client("", "openssl", "s_client", "-connect", dst.String(), "-servername", "pay.example",
			"-CAfile", "ca.pem", "-cert", "alice.pem", "-key", "alice.key", "-brief")
		if err != nil || !strings.Contains(out, "CONNECTION ESTABLISHED") {
			t.Errorf("%v: %v\n%s", dst, err, out)
		}
	}
	for i, r := range w.records(3) {
		if r.str("reason") != "verified" {
			t.Errorf("record %d: %v", i, r)
		}
	}
	w.nothingLeaked(leaked, "all ports")
}

// QUIC on a captured port is rejected, so that clients fall back to TCP; with
// quic: ignore it is routed on.
func TestQUIC(t *testing.T) {
	t.Parallel()
	for _, quic := range []string{"reject", "ignore"} {
		t.Run(quic, func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			w.config(payRule, "")
			w.start(w.rewrite("ports: [443, 8443]", "ports: [443], quic: "+quic))
			s, err := w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool { return p.Proto == 17 && p.Dst.Port() == 443 })
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, six := range []bool{false, true} {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				c, err := w.lab.Dial(ctx, lab.Client, "udp", server(six))
				if err != nil {
					t.Fatal(err)
				}
				_, _ = c.Write([]byte("initial"))
				_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				if quic == "reject" {
					_ = c.SetReadDeadline(testenv.Deadline())
				}
				_, err = c.Read(make([]byte, 1))
				if refused := err != nil && strings.Contains(err.Error(), "refused"); quic == "reject" && !refused {
					t.Errorf("six=%v: the client saw %v, want connection refused", six, err)
				}
				_ = c.Close()
				cancel()
			}
			want := map[string]int{"reject": 0, "ignore": 2}[quic]
			testenv.Eventually(t, "the sniffer sees what passes", func() bool { return s.Count() >= want })
			time.Sleep(100 * time.Millisecond) // and no more
			if s.Count() != want {
				t.Errorf("%d datagrams reached the server, want %d", s.Count(), want)
			}
		})
	}
}
