package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/fleet/member"
	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/stack/stacktest"
	"github.com/sslgate/sslgate/tun/tuntest"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// house is a whole service with its admin listeners, on a device pair in
// memory: a client's netstack on one end, an echoing origin on the loopback.
type house struct {
	t      *testing.T
	s      *Service
	ca     *testpki.CA
	client *stacktest.Client
	level  zap.AtomicLevel
	dir    string
	token  string
	url    string // of the loopback listener
	api    *admin.Client
	far    *tuntest.Device        // the gateway's end
	seen   *observer.ObservedLogs // what was logged
	serve  func(*house, net.Conn) // the origin; nil echoes
	fleet  *member.Member         // nil: of none
	stop   func()                 // ends the service
	ended  chan struct{}          // closed when the service has ended
	asked  atomic.Bool            // it ended because a drain was asked for
}

const houseToken = "0123456789abcdef-secret-token"

var houseServer = netip.MustParseAddrPort("203.0.113.5:443")

const houseConfig = `version: 1
tun: {name: test0}
capture: {interfaces: [eth1], ports: [443]}
authorities:
  staff: {roots: ca.pem, crl: [staff.crl]}
identities:
  pay: {certificate: srv.pem, key: srv.key}
state: state
admin: {socket: a.sock, http: "127.0.0.1:9440", token_file: token}
limits: {drain: 2s}
policy:
  rules:
    - name: closed
      to: ["203.0.113.99:443"]
      action: deny
    - name: pay
      to: ["203.0.113.0/24:443"]
      sni: [pay.example]
      identity: pay
      alpn: []
      client: {certificate: required, authorities: [staff]}
      destination: {tls: plain}
`

// files are those of a house that nobody lives in yet.
func files(t *testing.T) *house {
	t.Helper()
	// A short path: that of a socket has at most 108 bytes.
	dir, err := os.MkdirTemp("", "sslgate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &house{t: t, dir: dir, token: houseToken, level: zap.NewAtomicLevel(), ended: make(chan struct{})}
	h.ca = testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff CA"}))
	srv := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
	chain, key, err := srv.PEM()
	if err != nil {
		t.Fatal(err)
	}
	h.put("ca.pem", 0o644, h.ca.PEM())
	h.put("staff.crl", 0o644, testpki.CRLPEM(testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour)))))
	h.put("srv.pem", 0o644, chain)
	h.put("srv.key", 0o600, key)
	h.put("token", 0o600, []byte(houseToken+"\n"))
	h.put("sslgate.yaml", 0o644, []byte(houseConfig))
	return h
}

// newHouse starts a service; change, where given, is called before its files
// are read.
func newHouse(t *testing.T, change ...func(*house)) *house {
	t.Helper()
	h := files(t)
	for _, f := range change {
		f(h)
	}
	dir := h.dir
	rt, found := config.Check(filepath.Join(dir, "sslgate.yaml"), engines.New())
	if rt == nil {
		t.Fatalf("%v", found)
	}
	rt.Config.Admin.HTTP = "127.0.0.1:0"
	if rt.Config.Admin.Metrics.Listen != "" {
		rt.Config.Admin.Metrics.Listen = "127.0.0.1:0"
	}
	var core zapcore.Core
	core, h.seen = observer.New(h.level)
	log := zaptest.NewLogger(t, zaptest.Level(h.level), zaptest.WrapOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewTee(c, core)
	})))
	var err error
	h.s, err = newService(context.Background(), rt, Options{
		File: filepath.Join(dir, "sslgate.yaml"), Stdout: io.Discard, Log: log, Level: &h.level, Version: "test", Fleet: h.fleet,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.start(rt)
	return h
}

func (h *house) put(name string, mode os.FileMode, text []byte) {
	h.t.Helper()
	if name == "sslgate.yaml" {
		text = []byte(lab.WithEngine(string(text), testenv.Engine()))
	}
	if err := os.WriteFile(filepath.Join(h.dir, name), text, mode); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) start(rt *config.Runtime) {
	t := h.t
	t.Helper()
	origin := h.origin()
	var err error
	if h.s.revocation, err = openRevocation(context.Background(), rt, h.s.memory, h.s.log); err != nil {
		t.Fatal(err)
	}
	gc := h.s.gatewayConfig()
	gc.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", origin)
	}
	gc.Own = func() ([]netip.Prefix, error) { return nil, nil }
	if h.s.gateway, err = gateway.New(gc); err != nil {
		t.Fatal(err)
	}
	near, far := tuntest.Pair(1500, true)
	if h.client, err = stacktest.NewClient(near, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")); err != nil {
		t.Fatal(err)
	}
	h.far, h.s.device = far, named{far}
	if h.s.stack, err = stack.New(h.s.stackConfig()); err != nil {
		t.Fatal(err)
	}
	if err := h.s.openAdmin(); err != nil {
		t.Fatal(err)
	}
	h.url = "http://" + h.s.web.String()
	h.api = admin.NewClient(filepath.Join(h.dir, "a.sock"))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(h.ended)
		err := h.s.supervise(ctx)
		h.asked.Store(errors.Is(err, ErrDrained))
		if err != nil && !h.asked.Load() {
			t.Errorf("service: %v", err)
		}
	}()
	h.stop = func() {
		cancel()
		<-h.ended
		h.s.agents.Close()
	}
	t.Cleanup(func() {
		if t.Failed() { // a test that has failed does not wait for a delay of an hour
			h.s.mu.Lock()
			hasty, config := *h.s.rt, *h.s.rt.Config
			config.Limits.ShutdownDelay, config.Limits.Drain = 0, 0
			hasty.Config, h.s.rt = &config, &hasty
			h.s.mu.Unlock()
		}
		h.stop()
		h.client.Close()
		_ = near.Close()
		if err := h.s.records.Close(); err != nil {
			t.Error(err)
		}
	})
}

// named gives the end of a pair a name.
type named struct{ stack.Device }

func (named) Name() string { return "test0" }

func (h *house) origin() string {
	h.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if h.serve != nil {
					h.serve(h, c)
					return
				}
				_, _ = io.Copy(c, c)
			})
		}
	})
	h.t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// connect does a handshake as alice, or without a certificate, which is taken
// for refused unless lax says that it is let in. The caller closes the
// connection.
func (h *house) connect(name string, withCert bool, lax ...bool) (*tls.Conn, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	raw, err := h.client.Dial(ctx, houseServer)
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(testenv.Deadline())
	cfg := &tls.Config{RootCAs: h.ca.Pool(), ServerName: name}
	if withCert {
		cert := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}})).TLS()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	conn := tls.Client(raw, cfg)
	if err = conn.Handshake(); err == nil && !withCert && len(lax) == 0 {
		_, err = conn.Read(make([]byte, 1)) // TLS 1.3: the refusal comes with the first read
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// good makes a flow that is let through, and returns it while it is live.
func (h *house) good() *tls.Conn {
	h.t.Helper()
	c, err := h.connect("pay.example", true)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// bad makes a flow that is refused for want of a certificate.
func (h *house) bad() {
	h.t.Helper()
	if c, err := h.connect("pay.example", false); err == nil {
		_ = c.Close()
		h.t.Fatal("a client without certificate was let through")
	}
}

// finished waits until so many flows have.
func (h *house) finished(n uint64) {
	h.t.Helper()
	testenv.Eventually(h.t, fmt.Sprintf("%d flows have finished", n), func() bool {
		p := h.s.Policy(0)
		sum := p.Default.Refused + p.Default.Failed
		for _, r := range p.Rules {
			sum += r.Hits.Allowed + r.Hits.Refused + r.Hits.Failed
		}
		return sum >= n
	}, func() any { return h.s.Policy(0) })
}
