package native

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// peerServer runs a server until the test ends, and returns the address that it prints.
// said is all of its output so far.
func peerServer(t *testing.T, name string, args ...string) (addr string, said func() string) {
	t.Helper()
	addr, said, _ = toldServer(t, name, args...)
	return addr, said
}

// toldServer is peerServer of a server that can be told something through its standard input.
func toldServer(t *testing.T, name string, args ...string) (addr string, said func() string, tell func(string)) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	cmd.WaitDelay = testenv.Patience()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all strings.Builder
	found, done := make(chan string, 1), make(chan struct{})
	listens := regexp.MustCompile(`(127\.0\.0\.1:\d+)`)
	go func() {
		defer close(done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			mu.Lock()
			all.WriteString(lines.Text() + "\n")
			mu.Unlock()
			if m := listens.FindString(lines.Text()); m != "" {
				select {
				case found <- m:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	return testenv.Receive(t, "the address of "+name, found), func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}, func(line string) { _, _ = io.WriteString(in, line+"\n") }
}

// called connects to a server, and asks it for a page where it serves some.
func called(t *testing.T, addr string, p *handshake.ClientParams) outcome {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return dialedBy(t, New(stdtls.New()), c, p, []byte("GET / HTTP/1.0\r\n\r\n"))
}

// OpenSSL's server, with every suite, with a HelloRetryRequest and with a certificate of
// ours; and it refuses one that it does not know behind our handshake.
func TestOpenSSLServer(t *testing.T) {
	f, dir := handshaketest.Fixtures(), t.TempDir()
	ca, _, err := f.CA.WritePEM(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := f.Gateway.WritePEM(dir, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	openssl := testenv.Tool(t, "openssl")
	start := func(args ...string) string {
		addr, _ := peerServer(t, openssl, append([]string{"s_server", "-accept", "127.0.0.1:0", "-www", "-cert", cert, "-key", key, "-CAfile", ca}, args...)...)
		return addr
	}
	open, closed := start("-groups", "P-384:X25519"), start("-Verify", "3", "-verify_return_error", "-groups", "P-384:X25519")
	alpn := start("-alpn", "h2")
	for name, c := range map[string]struct {
		addr  string
		plan  func(*handshake.ClientParams)
		retry bool
		want  handshake.Alert // that comes behind the handshake
	}{
		"AES-128":  {open, func(p *handshake.ClientParams) { p.Profile.Suites13 = []uint16{tls.TLS_AES_128_GCM_SHA256} }, false, handshake.AlertNone},
		"AES-256":  {open, func(p *handshake.ClientParams) { p.Profile.Suites13 = []uint16{tls.TLS_AES_256_GCM_SHA384} }, false, handshake.AlertNone},
		"ChaCha20": {open, func(p *handshake.ClientParams) { p.Profile.Suites13 = []uint16{tls.TLS_CHACHA20_POLY1305_SHA256} }, false, handshake.AlertNone},
		"retry": {open, func(p *handshake.ClientParams) {
			p.Profile.Groups = []uint16{uint16(tls.CurveP256), uint16(tls.CurveP384)}
		}, true, handshake.AlertNone},
		"our certificate": {closed, func(p *handshake.ClientParams) { p.Certificates = []tls.Certificate{alice()} }, false, handshake.AlertNone},
		"retry, and our certificate": {closed, func(p *handshake.ClientParams) {
			p.Certificates, p.Profile.Groups = []tls.Certificate{alice()}, []uint16{uint16(tls.CurveP521), uint16(tls.CurveP384)}
		}, true, handshake.AlertNone},
		"none of ours": {closed, func(*handshake.ClientParams) {}, false, handshake.Alert(116)}, // certificate_required
		"ALPN":         {alpn, func(p *handshake.ClientParams) { p.ALPN = []string{"h2"} }, false, handshake.AlertNone},
	} {
		o := called(t, c.addr, clientPlan(c.plan))
		switch {
		case o.err != nil || o.s.HelloRetry != c.retry || !o.s.Peer.Proven || o.s.ALPN != strings.Join(clientPlan(c.plan).ALPN, ""):
			t.Errorf("%s: %v, %+v", name, o.err, o.s)
		case c.want == handshake.AlertNone && !strings.Contains(o.data, "TLSv1.3"):
			t.Errorf("%s: read %q, %v", name, o.data, o.end)
		case c.want != handshake.AlertNone && o.l.AlertReceived() != c.want:
			t.Errorf("%s: %v, %s", name, o.end, o.l.AlertReceived())
		}
	}
	// It has nothing in common with us, and says so.
	o := called(t, alpn, clientPlan(func(p *handshake.ClientParams) { p.ALPN = []string{"only"} }))
	if o.err == nil || o.err.Reason != "destination_alpn_mismatch" || o.err.Received != handshake.AlertNoApplicationProtocol {
		t.Errorf("%v", o.err)
	}
	o = called(t, start("-tls1_2"), clientPlan())
	if o.err == nil || o.err.Reason != "destination_weak_cryptography" || o.err.Received != handshake.AlertProtocolVersion {
		t.Errorf("%v", o.err)
	}
}

// Node's OpenSSL 3.5: what CNSA 2.0 wants, on both sides.
func TestNodeServer(t *testing.T) {
	node, dir := testenv.Node26(t), t.TempDir()
	pq := testpki.Must(testpki.NewCA(testpki.Options{CN: "PQ CA", Key: testpki.MLDSA87}))
	issue := func(name string) *testpki.Cert {
		c := testpki.Must(pq.Issue(testpki.Leaf{CN: name, DNS: []string{name + ".test"}, Key: testpki.MLDSA87}))
		if _, _, err := c.WritePEM(dir, name); err != nil {
			t.Fatal(err)
		}
		return c
	}
	issue("gateway")
	bob := issue("bob")
	if _, _, err := pq.WritePEM(dir, "ca"); err != nil {
		t.Fatal(err)
	}
	const script = `
const tls = require("tls"), fs = require("fs"), dir = process.argv[1], groups = process.argv[2];
const s = tls.createServer({cert: fs.readFileSync(dir + "/gateway.pem"), key: fs.readFileSync(dir + "/gateway.key"), ca: fs.readFileSync(dir + "/ca.pem"),
  requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3", ecdhCurve: groups}, c => c.end(c.getPeerCertificate().subject.CN));
s.listen(0, "127.0.0.1", () => console.log("127.0.0.1:" + s.address().port));
`
	for _, group := range []tls.CurveID{tls.MLKEM1024, tls.SecP384r1MLKEM1024, tls.SecP256r1MLKEM768, tls.X25519MLKEM768} {
		addr, said := peerServer(t, node, "-e", script, dir, handshake.GroupName(uint16(group)))
		for _, retry := range []bool{false, true} {
			o := called(t, addr, clientPlan(func(p *handshake.ClientParams) {
				p.Profile = handshaketest.Named(t, "cnsa2")
				p.Profile.Groups = []uint16{uint16(group)}
				if retry {
					p.Profile.Groups = []uint16{uint16(tls.X25519), uint16(group)}
				}
				p.Authorities = []*handshake.Authority{handshaketest.Authority("pq", pq)}
				p.Certificates = []tls.Certificate{bob.TLS()}
			}))
			if o.err != nil || o.data != "bob" || o.s.Group != uint16(group) || o.s.Suite != tls.TLS_AES_256_GCM_SHA384 || o.s.HelloRetry != retry || o.s.Peer.SignatureScheme != uint16(tls.MLDSA87) {
				t.Errorf("%s: %v, read %q, %v\n%s", group, o.err, o.data, o.end, said())
			}
		}
	}
}

// Both engines write the same ledger of the same handshake with a destination.
func TestDestinationLedgerAsTheOther(t *testing.T) {
	for name, c := range map[string]struct {
		plan   func(*handshake.ClientParams)
		server func(*handshake.ServerParams)
	}{
		"our certificate":   {func(p *handshake.ClientParams) { p.Certificates = []tls.Certificate{alice()} }, func(*handshake.ServerParams) {}},
		"none is asked for": {func(*handshake.ClientParams) {}, func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }},
		"none of ours": {func(*handshake.ClientParams) {}, func(p *handshake.ServerParams) {
			p.ClientAuth = handshake.ClientAuthOptional
		}},
		"none that fits": {func(p *handshake.ClientParams) { p.Certificates = []tls.Certificate{stranger()} }, func(p *handshake.ServerParams) {
			p.ClientAuth = handshake.ClientAuthOptional
		}},
		"HelloRetryRequest": {func(*handshake.ClientParams) {}, func(p *handshake.ServerParams) {
			p.ClientAuth, p.Profile.Groups = handshake.ClientAuthNone, []uint16{uint16(tls.CurveP384)}
		}},
		"unknown CA":        {func(p *handshake.ClientParams) { p.Authorities = nil }, func(*handshake.ServerParams) {}},
		"another name":      {func(p *handshake.ClientParams) { p.VerifyName = "other.test" }, func(*handshake.ServerParams) {}},
		"another key":       {func(p *handshake.ClientParams) { p.Pins = [][32]byte{{1}} }, func(*handshake.ServerParams) {}},
		"insecure":          {func(p *handshake.ClientParams) { p.Insecure, p.Authorities = true, nil }, func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }},
		"observed, unknown": {func(p *handshake.ClientParams) { p.Observe, p.Authorities = true, nil }, func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }},
		"the steps alone":   {func(p *handshake.ClientParams) { p.Ledger = handshake.LedgerSteps }, func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }},
		"no suite": {func(*handshake.ClientParams) {}, func(p *handshake.ServerParams) {
			p.Profile.MaxVersion = tls.VersionTLS12
			p.Profile.MinVersion = tls.VersionTLS12
		}},
		"no protocol": {func(p *handshake.ClientParams) { p.ALPN = []string{"only"} }, func(p *handshake.ServerParams) { p.ALPN = []string{"h2"} }},
		"no name":     {func(p *handshake.ClientParams) { p.VerifyName = "" }, func(*handshake.ServerParams) {}},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[bool]outcome{}
			for _, native := range []bool{false, true} {
				r := newRig(params(c.server))
				r.engine = stdtls.New()
				r.with(t, func(conn *net.TCPConn) {
					engine := handshake.Engine(stdtls.New())
					if native {
						engine = New(engine)
					}
					got[native] = dialedBy(t, engine, conn, clientPlan(c.plan), nil)
				})
			}
			std, own := got[false], got[true]
			if d := cmp.Diff(clientLines(std.l), clientLines(own.l)); d != "" {
				t.Errorf("the ledgers differ (- the other engine's):\n%s", d)
			}
			if (std.err == nil) != (own.err == nil) || std.err != nil && (std.err.Step != own.err.Step || std.err.Reason != own.err.Reason || std.err.Side != own.err.Side || std.err.Wanted != own.err.Wanted || std.err.Detail != own.err.Detail) {
				t.Errorf("refused with %+v, the other engine with %+v", own.err, std.err)
			}
			if std.l.Reached() != own.l.Reached() {
				t.Errorf("reached %v, the other engine %v", own.l.Reached(), std.l.Reached())
			}
			if std.err == nil && (std.s.Peer.Authority != own.s.Peer.Authority || (std.s.Observed == nil) != (own.s.Observed == nil)) {
				t.Errorf("the peer is %+v, the other engine's %+v", own.s.Peer, std.s.Peer)
			}
		})
	}
}

// clientLines are lines, without what a hello says of its lists, which differ.
func clientLines(l *handshake.Ledger) []string {
	var out []string
	for _, line := range lines(l) {
		if !strings.Contains(line, handshake.MsgClientHello) {
			out = append(out, line)
		}
	}
	return out
}
