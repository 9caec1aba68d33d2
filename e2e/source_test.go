package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// sourceRules has a destination for each kind of rule that dials: 0 is plain,
// 1 bypass, 2 TLS, 3 PROXY v2, 4 dial: first, and 5 is for rules that say
// `source: gateway`.
func sourceRules() string {
	to := func(i int) string {
		return fmt.Sprintf(`["%s:443", "[%s]:443"]`, lab.ServerAddr(i, false), lab.ServerAddr(i, true))
	}
	rule := func(i int, name, destination string) string {
		return fmt.Sprintf("    - {name: %s, to: %s, identity: pay, client: {certificate: required, authorities: [staff]}, destination: {%s}}\n", name, to(i), destination)
	}
	return "\n" + rule(0, "plain", "tls: plain") +
		fmt.Sprintf("    - {name: bypass, to: %s, action: bypass}\n", to(1)) +
		rule(2, "tls", "tls: verify, authorities: [staff], name: pay.example") +
		rule(3, "proxy", "tls: plain, proxy_protocol: v2") +
		rule(4, "first", "tls: plain, dial: first") +
		rule(5, "gateway", "tls: plain, source: gateway") +
		fmt.Sprintf("    - {name: bypass-gateway, to: [\"%s:8443\"], action: bypass, destination: {source: gateway}}\n", lab.ServerAddr(5, false))
}

const clientSource = "dial: {source: client, timeout: 2s}"

// serveSeen says whom it sees, and then sends back what it reads.
func serveSeen(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String()+"\n"); err != nil {
		return
	}
	_, _ = io.Copy(c, c)
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

// seen reads whom the destination sees, and sends n bytes there and back.
func seen(t *testing.T, c net.Conn, n int) string {
	t.Helper()
	_ = c.SetDeadline(testenv.Deadline())
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Errorf("no word of the destination: %v", err)
			return ""
		}
		if b[0] == '\n' {
			break
		}
	}
	data := make([]byte, n)
	_, _ = rand.Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- err
	}()
	back := make([]byte, n)
	_, err := io.ReadFull(c, back)
	if werr := <-sent; err != nil || werr != nil || sha256.Sum256(back) != sha256.Sum256(data) {
		t.Errorf("%d bytes there and back: %v, %v", n, err, werr)
	}
	return string(line)
}

// sourceWorld has the origins of sourceRules.
func sourceWorld(t *testing.T) *world {
	t.Helper()
	testenv.Tool(t, "ip")
	testenv.Tool(t, "nft")
	w := newWorld(t, lab.Options{Servers: 5})
	for _, six := range []bool{false, true} {
		at := func(i int) string { return netip.AddrPortFrom(lab.ServerAddr(i, six), port).String() }
		for _, i := range []int{0, 1, 4, 5} {
			w.origin(at(i), serveSeen)
		}
		w.origin(at(2), func(c net.Conn) {
			serveSeen(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{w.pay.TLS()}}))
		})
		w.origin(at(3), func(c net.Conn) {
			pc := proxyproto.NewConn(c)
			h := pc.ProxyHeader()
			if h == nil || h.SourceAddr.(*net.TCPAddr).AddrPort().Addr().Unmap() != lab.ClientAddr(six) {
				_, _ = io.WriteString(c, fmt.Sprintf("PROXY header %v\n", h))
				return
			}
			_, _ = io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String()+"\n")
			_, _ = io.Copy(c, pc)
		})
	}
	w.origin(lab.ServerAddr(5, false).String()+":8443", serveSeen)
	return w
}

// reach connects to a destination of sourceRules as its rule wants it.
func (w *world) reach(i int, six bool) (net.Conn, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	raw, err := w.lab.Dial(ctx, lab.Client, "tcp", netip.AddrPortFrom(lab.ServerAddr(i, six), port).String())
	if err != nil || i == 1 {
		return raw, err
	}
	pair, err := tls.LoadX509KeyPair(w.dir+"/alice.pem", w.dir+"/alice.key")
	if err != nil {
		w.t.Fatal(err)
	}
	conn := tls.Client(raw, &tls.Config{RootCAs: w.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{pair}})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// gatewayPackets watches for TCP to the origins from the gateway's addresses.
func (w *world) gatewayPackets() *lab.Sniffer {
	w.t.Helper()
	g4, g6 := lab.GatewayAddr(false), lab.GatewayAddr(true)
	s, err := w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool {
		return p.Proto == 6 && (p.Src.Addr() == g4 || p.Src.Addr() == g6)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

// The destination sees the client's address, IPv4 and IPv6, by every kind of
// rule, on a host that masquerades; only where a rule says so it sees the
// gateway's. Bulk arrives unchanged both ways.
func TestDestinationSeesTheClient(t *testing.T) {
	t.Parallel()
	w := sourceWorld(t)
	w.sh("nft add table inet home; nft add chain inet home post '{ type nat hook postrouting priority 100; }'; nft add rule inet home post oifname " + lab.WANIface + " masquerade")
	w.start(w.config(sourceRules(), clientSource))
	fromGateway := w.gatewayPackets()
	n := 0
	for i := range 6 {
		for _, six := range []bool{false, true} {
			if i == 5 && !six && fromGateway.Count() > 0 {
				t.Errorf("%d packets came from the gateway's address: %v", fromGateway.Count(), fromGateway.Packets()[0])
			}
			want := lab.ClientAddr(six)
			if i == 5 {
				want = lab.GatewayAddr(six)
			}
			conn, err := w.reach(i, six)
			if err != nil {
				t.Fatalf("destination %d: %v", i, err)
			}
			if got := seen(t, conn, 8<<20); got != want.String() {
				t.Errorf("destination %d sees %s, want %s", i, got, want)
			}
			_ = conn.Close()
			n++
			r := w.last(n)
			from, err := netip.ParseAddrPort(r.str("dialed_from"))
			if i == 5 && r.str("dialed_from") != "" || i != 5 && (err != nil || from.Addr() != want) {
				t.Errorf("destination %d: dialed_from %q", i, r.str("dialed_from"))
			}
			if r["bytes_up"] != float64(8<<20) {
				t.Errorf("destination %d: %v %v %v", i, r.str("reason"), r.str("end"), r["bytes_up"])
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	conn, err := w.lab.Dial(ctx, lab.Client, "tcp", lab.ServerAddr(5, false).String()+":8443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := seen(t, conn, 1000); got != lab.GatewayAddr(false).String() {
		t.Errorf("bypass with source: gateway: %s", got)
	}
}

// curl and openssl get an answer too.
func TestProgramsSeenAsThemselves(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	w := newWorld(t, lab.Options{})
	for _, six := range []bool{false, true} {
		w.origin(server(six), func(c net.Conn) {
			peer := c.RemoteAddr().(*net.TCPAddr).IP.String()
			serveHTTP(c)
			_, _ = io.WriteString(c, peer)
		})
	}
	w.start(w.config(payRule, clientSource))
	for _, six := range []bool{false, true} {
		addr := lab.ClientAddr(six).String()
		out, err := w.client("GET / HTTP/1.0\r\n\r\n", "openssl", "s_client", "-quiet", "-connect", server(six), "-servername", "pay.example",
			"-CAfile", "ca.pem", "-cert", "alice.pem", "-key", "alice.key")
		if !strings.Contains(out, "origin says\n"+addr) {
			t.Errorf("openssl: %v\n%s", err, out)
		}
		target := lab.ServerAddr(0, six).String()
		if six {
			target = "[" + target + "]"
		}
		out, err = w.client("", "curl", "-sS", "--ignore-content-length", "--connect-to", "pay.example:443:"+target+":443",
			"--cacert", "ca.pem", "--cert", "alice.pem", "--key", "alice.key", "https://pay.example/")
		if err != nil || !strings.Contains(out, "origin says\n"+addr) {
			t.Errorf("curl: %v\n%s", err, out)
		}
	}
}

// hostAll is everything that steering may touch, whatever its numbers.
func (w *world) hostAll() string {
	w.t.Helper()
	out, err := w.lab.Command(lab.Gateway, "sh", "-c",
		"ip rule; ip -6 rule; ip route show table all; ip -6 route show table all | grep -v sslgate0; nft list ruleset; ethtool -k "+lab.LANIface+" | grep generic-receive").CombinedOutput()
	if err != nil {
		w.t.Errorf("%v\n%s", err, out)
	}
	// What was dropped is counted on over a restart, however many those were.
	return regexp.MustCompile(`counter packets \d+ bytes \d+`).ReplaceAllString(string(out), "counter")
}

// The gateway is killed in the middle of a download: nothing of the client passes, no answer
// of the destination is forwarded to the client, the next start works like the first, and
// release leaves nothing behind.
func TestClientSourceKilled(t *testing.T) {
	w := newWorld(t, lab.Options{})
	before := w.hostAll()
	for _, six := range []bool{false, true} {
		w.origin(server(six), func(c net.Conn) {
			_ = c.SetDeadline(testenv.Deadline())
			_, _ = io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String()+"\n")
			for block := bytes.Repeat([]byte("secret!\n"), 4096); ; { // without an end
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		})
	}
	config := w.config(payRule, clientSource)
	g := w.start(config)
	first := w.hostAll()
	for round := range 2 {
		own := map[uint16]bool{}
		for _, six := range []bool{false, true} {
			conn, err := w.dialTLS(six, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			own[uint16(conn.LocalAddr().(*net.TCPAddr).Port)] = true
			want := lab.ClientAddr(six).String() + "\n"
			got := make([]byte, len(want))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
				t.Fatalf("round %d: %q, %v", round, got, err)
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
		stray, err := w.lab.Sniff(lab.Client, lab.ClientIface, func(p lab.Packet) bool {
			return p.Proto == 6 && p.Src.Port() == port && p.Flags&lab.SYN == 0 && !own[p.Dst.Port()]
		})
		if err != nil {
			t.Fatal(err)
		}
		defer stray.Close()
		time.Sleep(100 * time.Millisecond) // the downloads run
		g.stop(syscall.SIGKILL)
		s := w.leak()
		time.Sleep(100 * time.Millisecond) // the kernel's own farewell to the destinations
		farewell := s.Count()
		w.knock(40100 + uint16(round))
		time.Sleep(100 * time.Millisecond)
		for _, p := range s.Packets()[farewell:] {
			if p.Flags&lab.SYN != 0 || p.Fragment {
				t.Errorf("round %d: killed, and %v passed", round, p)
			}
		}
		time.Sleep(300 * time.Millisecond) // retransmissions of the destinations
		if n := stray.Count(); n > 0 {
			t.Errorf("round %d: %d packets of the destinations' answers were forwarded to the client: %v", round, n, stray.Packets()[0])
		}
		g = w.start(config)
		if now := w.hostAll(); now != first {
			t.Errorf("round %d: the host is not as after the first start:\n%s\nbut was:\n%s", round, now, first)
		}
	}
	g.stop(syscall.SIGTERM)
	if out, err := w.command("release", "-c", config, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
	if after := w.hostAll(); stable(after) != stable(before) {
		t.Errorf("before:\n%s\nafter release:\n%s", before, after)
	}
}

// A reload switches connections from the client's address on and off; only a restart can
// change the numbers. A host that would drop the answers is refused, at the start and at a
// reload.
func TestClientSourceByReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveSeen)
	config := w.config(payRule, "admin: {socket: admin.sock}\ndial: {source: gateway}")
	w.start(config)
	sees := func(want netip.Addr) {
		t.Helper()
		conn, err := w.dialTLS(false, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := seen(t, conn, 1000); got != want.String() {
			t.Errorf("the destination sees %s, want %s", got, want)
		}
	}
	sees(lab.GatewayAddr(false))
	w.rewrite("dial: {source: gateway}", "dial: {source: client}")
	w.sh("sysctl -qw net/ipv4/conf/all/src_valid_mark=1")
	if out, err := w.sslgate("reload", "--socket", w.socket()); err == nil || !strings.Contains(out, "sysctl -w net/ipv4/conf/all/src_valid_mark=0") {
		t.Errorf("a host that drops answers: %v\n%s", err, out)
	}
	sees(lab.GatewayAddr(false))
	w.sh("sysctl -qw net/ipv4/conf/all/src_valid_mark=0")
	for _, step := range []struct {
		old, replacement string
		want             netip.Addr
	}{
		{"nothing", "nothing", lab.ClientAddr(false)},
		{"dial: {source: client}", "dial: {source: gateway}", lab.GatewayAddr(false)},
		{"destination: {tls: plain}", "destination: {tls: plain, source: client}", lab.ClientAddr(false)},
	} {
		if step.old != "nothing" {
			w.rewrite(step.old, step.replacement)
		}
		if out, err := w.sslgate("reload", "--socket", w.socket()); err != nil {
			t.Fatalf("%s: %v\n%s", step.replacement, err, out)
		}
		sees(step.want)
	}
	w.rewrite("dial: {source: gateway}", "dial: {source: gateway, table: 7700}")
	if out, err := w.sslgate("reload", "--socket", w.socket()); err == nil || !strings.Contains(out, "only a restart can change dial.table;") {
		t.Errorf("another table: %v\n%s", err, out)
	}
}

// If the answers do not come back, or somebody changes the source, the flow ends with a
// reason, and no packet leaves from the gateway's own address.
func TestClientSourceOrNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, fault, reason string }{
		{"source changed", "nft add table inet home; nft add chain inet home post '{ type nat hook postrouting priority -195; }'; nft add rule inet home post oifname " + lab.WANIface + " masquerade", "destination_timeout"},
		{"answers dropped", "sysctl -qw net/ipv4/conf/all/src_valid_mark=1", "destination_timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			w.origin(server(false), serveSeen)
			w.start(w.config(payRule, "dial: {source: client, timeout: 500ms}"))
			w.sh(c.fault)
			s := w.gatewayPackets()
			conn, err := w.dialTLS(false, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if n, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("read %d bytes", n)
			}
			r := w.last(1)
			if r.str("reason") != c.reason || !strings.Contains(r.str("detail"), "from the client's address") || r.str("dialed") != "" {
				t.Errorf("%v", r)
			}
			if s.Count() > 0 {
				t.Errorf("%d packets from the gateway's address: %v", s.Count(), s.Packets()[0])
			}
		})
	}
	w := newWorld(t, lab.Options{})
	w.sh("sysctl -qw net/ipv4/conf/all/src_valid_mark=1")
	out, err := w.command("run", "-c", w.config(payRule, clientSource)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sysctl -w net/ipv4/conf/all/src_valid_mark=0") {
		t.Errorf("a host that would drop the answers: %v\n%s", err, out)
	}
}

// CAP_NET_ADMIN, which the systemd unit gives, is all that it takes.
func TestClientSourceUnprivileged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveSeen)
	w.origin(server(true), serveSeen)
	w.config(payRule, clientSource)
	cmd := w.unprivileged("run", "-c", w.rewrite("capture: {", "capture: {gro: auto, "))
	g := &gateway{w: w, cmd: cmd, stderr: newLogBuffer()}
	cmd.Stderr, cmd.Stdout = g.stderr, g.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer g.stop(syscall.SIGTERM)
	if !g.stderr.wait("ready", cmd.Done()) {
		t.Fatalf("not ready:\n%s", g.stderr.String())
	}
	for _, six := range []bool{false, true} {
		conn, err := w.dialTLS(six, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := seen(t, conn, 1<<20); got != lab.ClientAddr(six).String() {
			t.Errorf("the destination sees %s", got)
		}
		_ = conn.Close()
	}
	if s := g.stderr.String(); !strings.Contains(s, "receive offload (GRO) switched") {
		t.Errorf("the log says:\n%s", s)
	}
}
