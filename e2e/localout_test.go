package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// programWords are what programs say, and what no sniffer may see.
const programWords = "a word of a program in the clear"

// programHere runs a program on the gateway's own host and returns what it said.
func (w *world) programHere(uid uint32, name string, args ...string) (string, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	cmd := w.lab.Command(lab.Gateway, name, args...)
	cmd.Dir = w.dir
	if uid != 0 {
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// outWorld is a host with programs: destinations with TLS at the first server's address,
// others in the clear at the second and third, and a server of revocation lists and
// answers at a captured port.
type outWorld struct {
	*world
	plain *lab.Sniffer // of what programs say, on the destinations' side
	syns  *lab.Sniffer // to destinations, whoever sends them

	mu     sync.Mutex
	asked  map[string]int // requests for lists and answers, by path
	served map[string]int // connections to destinations, by their address
}

func newOutWorld(t *testing.T) *outWorld {
	t.Helper()
	testenv.Tool(t, "curl")
	w := &outWorld{world: newWorld(t, lab.Options{Servers: 3}), asked: map[string]int{}, served: map[string]int{}}
	origin := w.issue("origin", testpki.Leaf{CN: "origin", DNS: []string{"origin.example"}})
	count := func(serve func(net.Conn)) func(net.Conn) {
		return func(c net.Conn) {
			w.mu.Lock()
			w.served[c.LocalAddr().String()]++
			w.mu.Unlock()
			serve(c)
		}
	}
	for _, six := range []bool{false, true} {
		at := func(i int, port uint16) string { return netip.AddrPortFrom(lab.ServerAddr(i, six), port).String() }
		w.origin(at(0, port), count(func(c net.Conn) {
			serveHTTP(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{origin.TLS()}}))
		}))
		w.origin(at(1, port), count(serveHTTP))
		w.origin(at(2, port), count(serveHTTP))
		w.origin(at(0, 9000), count(serveHTTP)) // not captured
	}
	list := testpki.CRLPEM(testpki.Must(w.ca.CRL(7, time.Now().Add(time.Hour))))
	w.origin(netip.AddrPortFrom(lab.ServerAddr(0, false), 8443).String(), func(c net.Conn) {
		_ = c.SetDeadline(testenv.Deadline())
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		w.mu.Lock()
		w.asked[req.URL.Path]++
		w.mu.Unlock()
		fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(list), list)
	})
	var err error
	if w.plain, err = w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool {
		return bytes.Contains(p.Raw, []byte(programWords)) && p.Dst.Port() == port
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.plain.Close() })
	if w.syns, err = w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool {
		return p.Proto == 6 && p.Flags&lab.SYN != 0 && p.Dst.Port() == port
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.syns.Close() })
	return w
}

func (w *outWorld) outConfig(out, more string) string {
	w.t.Helper()
	own := fmt.Sprintf(`[%s, "%s"]`, lab.GatewayAddr(false), lab.GatewayAddr(true))
	to := func(i int) string {
		return fmt.Sprintf(`["%s:443", "[%s]:443"]`, lab.ServerAddr(i, false), lab.ServerAddr(i, true))
	}
	w.config(`
    - name: programs
      from: `+own+`
      to: `+to(0)+`
      action: originate
      destination: {tls: verify, authorities: [staff], name: origin.example}
    - name: inside
      to: `+to(1)+`
      identity: pay
      client: {authorities: [staff]}
      destination: {tls: plain, source: client}
    - name: asked
      to: `+to(2)+`
      identity: pay
      client: {authorities: [guests]}
      destination: {tls: plain}
`, more)
	w.rewrite("ports: [443, 8443]", "ports: [443, 8443], local: {out: "+out+"}")
	url := "http://" + netip.AddrPortFrom(lab.ServerAddr(0, false), 8443).String()
	return w.rewrite("staff: {roots: ca.pem}", "staff: {roots: ca.pem, crl: [\""+url+"/list\"]}\n  guests: {roots: ca.pem, revocation: soft, ocsp: {url: \""+url+"/ocsp\"}}")
}

// says makes a program say something to destination i; want says whether it must get an
// answer.
func (w *outWorld) says(when string, uid uint32, i int, six bool, port uint16, want bool) {
	w.t.Helper()
	at := netip.AddrPortFrom(lab.ServerAddr(i, six), port).String()
	patience := "20"
	if !want {
		patience = "1"
	}
	args := []string{"-sS", "-g", "-m", patience, "--noproxy", "*", "-A", programWords, "http://" + at + "/"}
	if i > 0 && port == 443 {
		args = append(args[:len(args)-3], "-k", "--cert", "alice.pem", "--key", "alice.key", "https://"+at+"/")
	}
	out, err := w.programHere(uid, "curl", args...)
	if got := err == nil && strings.Contains(out, "origin says"); got != want {
		w.t.Errorf("%s: user %d at %s: %v\n%s", when, uid, at, err, out)
	}
}

// TestLocalOut: programs of the gateway's own host speak in the clear, and their
// destinations get TLS; or they have a certificate and are verified. Nothing they say leaves
// in the clear: not before the first start, not after kill -9. Everything else of the host
// passes all the time, and nothing that sslgate opens itself comes back to it: neither what
// it dials nor the lists and answers that it fetches from a captured port.
func TestLocalOut(t *testing.T) {
	t.Parallel()
	w := newOutWorld(t)
	w.origin(netip.AddrPortFrom(lab.ServerAddr(0, false), 22).String(), serveHTTP)
	config := w.outConfig("true", "")
	others := func(when string) {
		t.Helper()
		w.says(when, 0, 0, false, 9000, true)
		w.says(when, 0, 0, true, 9000, true)
		w.says(when, 0, 0, false, 22, true)
	}
	if out, err := w.command("guard", "-c", config).CombinedOutput(); err != nil {
		t.Fatalf("guard: %v\n%s", err, out)
	}
	for _, six := range []bool{false, true} {
		w.says("guard alone", 0, 0, six, port, false)
	}
	others("guard alone")
	if n := w.syns.Count(); n != 0 {
		t.Errorf("guard alone: %d SYNs to destinations", n)
	}

	g := w.start(config)
	n := 0
	record := func(i int, six bool, reason string) record {
		t.Helper()
		n++
		r := w.last(n)
		if r.str("direction") != "local_out" || r.str("reason") != reason || !strings.HasPrefix(r.str("client"), netip.AddrPortFrom(lab.GatewayAddr(six), 0).String()[:9]) {
			t.Errorf("destination %d: %v", i, r)
		}
		return r
	}
	for _, six := range []bool{false, true} {
		w.says("running", 0, 0, six, port, true)
		record(0, six, "originated")
		w.says("running", 0, 1, six, port, true)
		if r := record(1, six, "verified"); !strings.HasPrefix(r.str("dialed_from"), netip.AddrPortFrom(lab.GatewayAddr(six), 0).String()[:9]) {
			t.Errorf("source: client of a program of this host: %v", r)
		}
		w.says("running", 0, 2, six, port, true)
		record(2, six, "verified")
		others("running")
	}
	out, err := w.programHere(0, "curl", "-sS", "-m", "20", "-k", "https://"+netip.AddrPortFrom(lab.ServerAddr(1, false), port).String()+"/")
	if err == nil || strings.Contains(out, "origin says") {
		t.Errorf("a program without a certificate: %v %s", err, out)
	}
	record(1, false, "no_certificate")
	w.countedOnce(n)

	g.stop(syscall.SIGKILL)
	before := testenv.Settled(t, "SYNs to destinations", w.syns.Count)
	for _, six := range []bool{false, true} {
		w.says("after kill -9", 0, 0, six, port, false)
		w.says("after kill -9", 0, 1, six, port, false)
	}
	others("after kill -9")
	if n := w.syns.Count() - before; n != 0 {
		t.Errorf("after kill -9: %d SYNs to destinations", n)
	}
	g = w.start(config)
	w.says("restarted", 0, 0, true, port, true)
	g.stop(syscall.SIGTERM)
	before = testenv.Settled(t, "SYNs to destinations", w.syns.Count)
	w.says("after an orderly stop", 0, 0, false, port, false)
	if n := w.syns.Count() - before; n != 0 {
		t.Errorf("after an orderly stop: %d SYNs to destinations", n)
	}
	others("after an orderly stop")
	if n := w.plain.Count(); n != 0 {
		t.Errorf("%d packets of programs' words in the clear: %v", n, w.plain.Packets())
	}
	if out, err := w.command("release", "-c", config, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
	before = w.syns.Count()
	w.says("released", 0, 0, false, port, false) // the destination speaks TLS
	testenv.Eventually(t, "released, it passes", func() bool { return w.syns.Count() > before })
}

// countedOnce says that the gateway has had the flows of programs and no other, and has
// fetched what it needs.
func (w *outWorld) countedOnce(flows int) {
	w.t.Helper()
	all := w.records(flows)
	for _, r := range all {
		if strings.HasSuffix(r.str("destination"), ":8443") {
			w.t.Errorf("what sslgate fetches came to itself: %v", r)
		}
	}
	if len(all) != flows {
		w.t.Errorf("%d records of %d flows", len(all), flows)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked["/list"] == 0 || w.asked["/ocsp"] == 0 {
		w.t.Errorf("fetched: %v", w.asked)
	}
	for i, want := range []int{1, 1, 1} {
		for _, six := range []bool{false, true} {
			if at := netip.AddrPortFrom(lab.ServerAddr(i, six), port).String(); w.served[at] != want {
				w.t.Errorf("%s was dialled %d times, not %d", at, w.served[at], want)
			}
		}
	}
}

// TestLocalOutByUser: the programs of one user are captured, those of others are not,
// whatever happens to the gateway. And no interface is captured.
func TestLocalOutByUser(t *testing.T) {
	t.Parallel()
	testenv.Root(t) // for another user's programs
	const user = 65534
	w := newOutWorld(t)
	w.outConfig(fmt.Sprintf("{users: [%d], ports: [443]}", user), "")
	config := w.rewrite("interfaces: ["+lab.LANIface+"], ", "")
	if err := w.lab.Sysctl(lab.Gateway, "net.ipv4.ip_forward", "0"); err != nil {
		t.Fatal(err)
	}
	g := w.start(config)
	tlsTo := func(when string, six bool) {
		t.Helper()
		at := netip.AddrPortFrom(lab.ServerAddr(0, six), port).String()
		if out, err := w.programHere(0, "curl", "-sS", "-g", "-m", "20", "-k", "--noproxy", "*", "https://"+at+"/"); err != nil || !strings.Contains(out, "origin says") {
			t.Errorf("%s: another user at %s: %v\n%s", when, at, err, out)
		}
	}
	for _, six := range []bool{false, true} {
		w.says("running", user, 0, six, port, true)
		tlsTo("running", six)
	}
	if all := w.records(2); len(all) != 2 {
		t.Errorf("%d records: %v", len(all), all)
	}
	g.stop(syscall.SIGKILL)
	for _, six := range []bool{false, true} {
		w.says("after kill -9", user, 0, six, port, false)
		tlsTo("after kill -9", six)
	}
	if n := w.plain.Count(); n != 0 {
		t.Errorf("%d packets of the user's words in the clear", n)
	}
}

// TestLocalOutUpgrade: connections of programs are held over a hand-over to another process,
// and new ones begin there.
func TestLocalOutUpgrade(t *testing.T) {
	t.Parallel()
	w := newOutWorld(t)
	origin, err := tls.LoadX509KeyPair(w.dir+"/origin.pem", w.dir+"/origin.key")
	if err != nil {
		t.Fatal(err)
	}
	var to []string
	for _, six := range []bool{false, true} {
		at := netip.AddrPortFrom(lab.ServerAddr(3, six), port).String()
		to = append(to, fmt.Sprintf("%q", at))
		w.origin(at, func(c net.Conn) {
			_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
			tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{origin}})
			_, _ = io.Copy(tc, tc)
		})
	}
	w.outConfig("true", upgradeMore)
	config := w.rewrite("    - name: inside", "    - {name: held, local: true, to: ["+strings.Join(to, ", ")+"], action: originate, destination: {tls: verify, authorities: [staff], name: origin.example}}\n    - name: inside")
	w.start(config)
	var held []net.Conn
	talk := func(when string) {
		t.Helper()
		for _, c := range held {
			_ = c.SetDeadline(testenv.Deadline())
			_, err := io.WriteString(c, programWords)
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, len(programWords)))
			}
			if err != nil {
				t.Errorf("%s: %s: %v", when, c.RemoteAddr(), err)
			}
		}
	}
	open := func() {
		t.Helper()
		for _, six := range []bool{false, true} {
			ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
			c, err := w.lab.Dial(ctx, lab.Gateway, "tcp", netip.AddrPortFrom(lab.ServerAddr(3, six), port).String())
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			held = append(held, c)
		}
	}
	open()
	talk("at once")
	if out, code, _ := w.upgrade("-c", config, "--watch", "1s"); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	talk("after the hand-over")
	open()
	talk("young")
	w.says("after the hand-over", 0, 0, false, port, true)
	w.rewrite("out: true", "out: {mark: 0x60}")
	if out, code, _ := w.upgrade("-c", config, "--watch", "1s"); code == 0 || !strings.Contains(out, "capture.local.out.mark") && !strings.Contains(out, "before the last upgrade") {
		t.Errorf("another mark: exit code %d: %s", code, out)
	}
	talk("at the end")
	if n := w.plain.Count(); n != 0 {
		t.Errorf("%d packets of programs' words in the clear", n)
	}
}
