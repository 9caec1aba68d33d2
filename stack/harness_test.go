package stack_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/stack/stacktest"
	"github.com/sslgate/sslgate/tun/tuntest"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

var (
	client4 = netip.MustParseAddr("10.1.0.2")
	client6 = netip.MustParseAddr("fd01::2")
	server4 = netip.MustParseAddrPort("192.0.2.7:443")
	server6 = netip.MustParseAddrPort("[2001:db8::7]:443")
)

// patience is how long a test waits for what must happen.
var patience = testenv.Patience()

// lab is a stack, a device and a client.
type lab struct {
	t      testing.TB
	stack  *stack.Stack
	near   *tuntest.Device // the stack's end
	far    *tuntest.Device // the client's end
	client *stacktest.Client

	nearFilter func(pkt []byte) bool // what a test has set at near, to add to it

	cancel context.CancelFunc
	ran    chan error
}

// newLab starts a stack with the given handler behind a device, and a client.
func newLab(t testing.TB, mtu int, offload bool, cfg stack.Config) *lab {
	t.Helper()
	near, far := tuntest.Pair(mtu, offload)
	cfg.Device = near
	return newLabOn(t, near, far, cfg)
}

// newLabOn is newLab on a device of the caller's: near, or one around it that
// is cfg.Device.
func newLabOn(t testing.TB, near, far *tuntest.Device, cfg stack.Config) *lab {
	t.Helper()
	l := &lab{t: t, ran: make(chan error, 1), near: near, far: far}
	if cfg.Ports == nil && !cfg.AllPorts {
		cfg.Ports = []uint16{443}
	}
	var err error
	if l.stack, err = stack.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go func() { l.ran <- l.stack.Run(ctx) }()
	if l.client, err = stacktest.NewClient(l.far, client4, client6); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// close stops everything and checks what must hold after every test.
func (l *lab) close() {
	if l.ran != nil {
		if err := l.stop(); err != nil {
			l.t.Errorf("Run: %v", err)
		}
	}
	l.client.Close()
	if n := l.near.Refused() + l.far.Refused(); n > 0 {
		l.t.Errorf("the device refused %d packets", n)
	}
	if n := l.client.BadPackets(); n > 0 {
		l.t.Errorf("the client got %d bad packets", n)
	}
	if st := l.stack.Stats(); st.FlowsLive != 0 {
		l.t.Errorf("%d flows live after Run", st.FlowsLive)
	}
}

// stop ends Run and returns its error.
func (l *lab) stop() error {
	l.cancel()
	defer func() { l.ran = nil }()
	select {
	case err := <-l.ran:
		return err
	case <-time.After(patience):
		l.t.Fatal("Run does not return")
		return nil
	}
}

func (l *lab) dial(dst netip.AddrPort) *stacktest.Conn {
	l.t.Helper()
	c, err := l.tryDial(dst, patience)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (l *lab) tryDial(dst netip.AddrPort, timeout time.Duration) (*stacktest.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.client.Dial(ctx, dst)
}

// eventually waits until the condition holds.
func (l *lab) eventually(what string, cond func() bool) {
	l.t.Helper()
	testenv.Eventually(l.t, what, cond, func() any { return l.stack.Stats() })
}

// handler is a stack.Handler of two functions.
type handler struct {
	onSYN  func(stack.SYN) stack.SYNAnswer // nil passes
	handle func(context.Context, *stack.Flow)
	syns   atomic.Int64
}

func (h *handler) OnSYN(s stack.SYN) stack.SYNAnswer {
	h.syns.Add(1)
	if h.onSYN == nil {
		return stack.SYNPass
	}
	return h.onSYN(s)
}

func (h *handler) HandleFlow(ctx context.Context, f *stack.Flow) { h.handle(ctx, f) }

// echo sends back what comes, and FIN for FIN.
func echo(_ context.Context, f *stack.Flow) {
	if _, err := io.Copy(f.Conn, struct{ io.Reader }{f.Conn}); err != nil {
		return
	}
	_ = f.Conn.CloseWrite()
	_ = f.Conn.Close()
}

// given hands flows to the test, which owns them.
func given() (*handler, <-chan *stack.Flow) {
	flows := make(chan *stack.Flow, 16)
	return &handler{handle: func(ctx context.Context, f *stack.Flow) {
		flows <- f
		<-ctx.Done()
	}}, flows
}

func get(t *testing.T, flows <-chan *stack.Flow) *stack.Flow {
	t.Helper()
	select {
	case f := <-flows:
		return f
	case <-time.After(patience):
		t.Fatal("no flow")
		return nil
	}
}

type halfCloser interface {
	io.ReadWriter
	CloseWrite() error
}

// pump writes n random bytes and FIN, and says what it wrote.
func pump(w halfCloser, n int, seed uint64) ([32]byte, error) {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	h := sha256.New()
	buf := make([]byte, 100_000)
	for n > 0 {
		b := buf[:min(n, len(buf))]
		_, _ = r.Read(b)
		h.Write(b)
		if _, err := w.Write(b); err != nil {
			return [32]byte{}, err
		}
		n -= len(b)
	}
	return [32]byte(h.Sum(nil)), w.CloseWrite()
}

// drain reads to the end and says what it read.
func drain(r io.Reader) ([32]byte, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, struct{ io.Reader }{r})
	return [32]byte(h.Sum(nil)), n, err
}

// roundTrip pumps n bytes through an echo.
func roundTrip(c halfCloser, n int, seed uint64) error {
	type sent struct {
		sum [32]byte
		err error
	}
	done := make(chan sent, 1)
	go func() {
		sum, err := pump(c, n, seed)
		done <- sent{sum, err}
	}()
	sum, got, err := drain(c)
	s := <-done
	switch {
	case err != nil || s.err != nil:
		return errors.Join(err, s.err)
	case got != int64(n) || sum != s.sum:
		return errors.New("other bytes came back")
	}
	return nil
}
