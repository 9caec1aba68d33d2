package stack_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack"
)

var (
	errClosed     = net.ErrClosed
	errFileClosed = os.ErrClosed
)

func TestClientReset(t *testing.T) {
	for _, dst := range []netip.AddrPort{server4, server6} {
		t.Run(dst.Addr().String(), func(t *testing.T) {
			h, flows := given()
			l := newLab(t, 1500, true, stack.Config{Handler: h})

			// A reader is blocked, a writer comes later; both get the error, and again at
			// later calls.
			c := l.dial(dst)
			f := get(t, flows)
			read := make(chan error, 1)
			go func() {
				_, err := f.Conn.Read(make([]byte, 1))
				read <- err
			}()
			time.Sleep(10 * time.Millisecond)
			c.Reset()
			wantReset(t, "blocked Read", <-read)
			for range 2 {
				_, err := f.Conn.Read(make([]byte, 1))
				wantReset(t, "Read", err)
				_, err = f.Conn.Write([]byte("x"))
				wantReset(t, "Write", err)
			}
			wantReset(t, "CloseWrite", f.Conn.CloseWrite())
			if err := f.Conn.Close(); err != nil {
				t.Error(err)
			}

			// The reader gets the data before the RST, then ECONNRESET, never EOF.
			c = l.dial(dst)
			f = get(t, flows)
			if _, err := c.Write([]byte("last words")); err != nil {
				t.Fatal(err)
			}
			l.eventually("words received", func() bool {
				_ = f.Conn.SetReadDeadline(time.Now().Add(patience))
				b := make([]byte, 4)
				_, err := io.ReadFull(f.Conn, b)
				return err == nil && string(b) == "last"
			})
			c.Reset()
			b, err := io.ReadAll(f.Conn)
			if string(b) != " words" {
				t.Errorf("read %q", b)
			}
			wantReset(t, "ReadAll", err)

			// A blocked writer gets the error too.
			c = l.dial(dst)
			f = get(t, flows)
			wrote := make(chan error, 1)
			go func() {
				_, err := f.Conn.Write(make([]byte, 32<<20))
				wrote <- err
			}()
			time.Sleep(50 * time.Millisecond)
			c.Reset()
			wantReset(t, "blocked Write", <-wrote)

			// Half closed by the client, then reset: the writer gets the error.
			c = l.dial(dst)
			f = get(t, flows)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Conn.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // a bare io.EOF: io.Copy compares
				t.Fatalf("Read: %v", err)
			}
			c.Reset()
			l.eventually("the writer learns of the RST", func() bool {
				_, err = f.Conn.Write([]byte("x"))
				return err != nil
			})
			wantReset(t, "Write", err)
		})
	}
}

func wantReset(t *testing.T, what string, err error) {
	t.Helper()
	var op *net.OpError
	if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) {
		t.Errorf("%s: %v, want ECONNRESET in an OpError", what, err)
	}
}

func TestReset(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h})
	c := l.dial(server4)
	f := get(t, flows)
	read := make(chan error, 1)
	go func() {
		_, err := f.Conn.Read(make([]byte, 1))
		read <- err
	}()
	time.Sleep(10 * time.Millisecond)
	f.Conn.Reset()
	f.Conn.Reset()
	if err := f.Conn.Close(); err != nil {
		t.Errorf("Close after Reset: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client: %v", err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("blocked Read: %v", err)
	}
	for what, err := range afterEnd(f.Conn) {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Reset: %v", what, err)
		}
	}
	if st := l.stack.Stats(); st.FlowsLive != 0 || st.FlowsLingering != 0 {
		t.Errorf("stats: %+v", st)
	}
}

func TestClose(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h})

	// What was written is still sent, then FIN.
	c := l.dial(server4)
	f := get(t, flows)
	sum, err := pump(f.Conn, 500_000, 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Conn.Close(); err != nil {
		t.Fatal(err)
	}
	if got, n, err := drain(c); err != nil || got != sum {
		t.Errorf("client read %d bytes, %v", n, err)
	}
	for what, err := range afterEnd(f.Conn) {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}

	// With unread data it sends RST.
	c = l.dial(server4)
	f = get(t, flows)
	if _, err := c.Write([]byte("never read")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Conn.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	_ = f.Conn.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client: %v", err)
	}
}

func afterEnd(c *stack.Conn) map[string]error {
	errs := make(map[string]error)
	_, errs["Read"] = c.Read(make([]byte, 1))
	_, errs["Write"] = c.Write([]byte("x"))
	errs["CloseWrite"] = c.CloseWrite()
	errs["SetDeadline"] = c.SetDeadline(time.Now())
	return errs
}

func TestDeadlines(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h, BufferSize: 64 << 10, ReceiveMax: 64 << 10, SendMax: 64 << 10})
	c := l.dial(server4)
	f := get(t, flows)
	wantDeadline := func(what string, err error) {
		t.Helper()
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%s: %v", what, err)
		}
	}
	read := func() error {
		_, err := f.Conn.Read(make([]byte, 1))
		return err
	}
	_ = f.Conn.SetReadDeadline(time.Now().Add(-time.Second))
	wantDeadline("past", read())
	_ = f.Conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	wantDeadline("soon", read())
	wantDeadline("again", read())

	// Moved while a read is blocked: nearer, and further.
	_ = f.Conn.SetReadDeadline(time.Time{})
	blocked := make(chan error, 1)
	go func() { blocked <- read() }()
	time.Sleep(10 * time.Millisecond)
	_ = f.Conn.SetReadDeadline(time.Now())
	wantDeadline("moved nearer", <-blocked)
	for {
		near := time.Now().Add(200 * time.Millisecond)
		_ = f.Conn.SetReadDeadline(near)
		go func() { blocked <- read() }()
		time.Sleep(5 * time.Millisecond) // so that it is blocked
		_ = f.Conn.SetReadDeadline(time.Now().Add(patience))
		if time.Now().Before(near) {
			time.Sleep(time.Until(near) + 20*time.Millisecond)
			break
		}
		_ = f.Conn.SetReadDeadline(time.Now()) // this machine was too slow: once more
		wantDeadline("moved too late", <-blocked)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-blocked; err != nil {
		t.Errorf("moved further: %v", err)
	}

	// A write says how much went, and the connection lives on.
	const size = 16 << 20
	much := make([]byte, size)
	n := 0
	testenv.Eventually(t, "part of it is written", func() bool {
		_ = f.Conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		var err error
		n, err = f.Conn.Write(much)
		wantDeadline("Write", err)
		return n > 0 // not on a machine that pauses for as long
	})
	if n >= size {
		t.Errorf("wrote %d", n)
	}
	_ = f.Conn.SetDeadline(time.Time{})
	rest := make(chan error, 1)
	go func() {
		_, err := f.Conn.Write(make([]byte, size-n))
		rest <- errors.Join(err, f.Conn.CloseWrite())
	}()
	if got, err := io.Copy(io.Discard, struct{ io.Reader }{c}); got != size || err != nil {
		t.Errorf("client read %d, %v", got, err)
	}
	if err := <-rest; err != nil {
		t.Error(err)
	}
}

// A client that no longer answers leads to a timeout, not an orderly end: with data under
// way by UserTimeout, without by keepalive.
func TestUnresponsiveClient(t *testing.T) {
	for _, writes := range []bool{true, false} {
		t.Run(fmt.Sprintf("writes=%t", writes), func(t *testing.T) {
			t.Parallel()
			h, flows := given()
			l := newLab(t, 1500, false, stack.Config{
				Handler:     h,
				UserTimeout: time.Second, KeepaliveIdle: 200 * time.Millisecond, KeepaliveInterval: 100 * time.Millisecond,
			})
			l.dial(server4)
			f := get(t, flows)
			l.far.SetFilter(func([]byte) bool { return false }) // the cable is cut
			if writes {
				if _, err := f.Conn.Write([]byte("anybody there?")); err != nil {
					t.Fatal(err)
				}
			}
			_ = f.Conn.SetDeadline(time.Now().Add(patience))
			for range 2 {
				if _, err := f.Conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
					t.Errorf("Read: %v", err)
				}
			}
			if _, err := f.Conn.Write([]byte("x")); !errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("Write: %v", err)
			}
		})
	}
}

// A closed flow whose client no longer answers is reset after LingerTimeout.
func TestLingerTimeout(t *testing.T) {
	t.Parallel()
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h, LingerTimeout: time.Second})
	l.dial(server4)
	f := get(t, flows)
	l.far.SetFilter(func([]byte) bool { return false })
	if _, err := f.Conn.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	_ = f.Conn.Close()
	if st := l.stack.Stats(); st.FlowsLive != 0 || st.FlowsLingering != 1 {
		t.Errorf("stats: %+v", st)
	}
	l.eventually("nothing lingers", func() bool { return l.stack.Stats().FlowsLingering == 0 })
	l.eventually("reset", func() bool { return l.stack.Stats().ResetsSent > 0 })
	if st := l.stack.Stats(); st.ResetsSent != 1 || st.LingeringReset != 1 {
		t.Errorf("stats: %+v", st)
	}
}

func TestConcurrentUse(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, true, stack.Config{Handler: h})
	c := l.dial(server4)
	f := get(t, flows)
	go func() { _, _ = io.Copy(c, struct{ io.Reader }{c}) }()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if _, err := f.Conn.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			for {
				if _, err := f.Conn.Read(make([]byte, 700)); err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			for range 50 {
				_ = f.Conn.SetDeadline(time.Now().Add(patience))
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	for range 3 {
		wg.Go(func() { _ = f.Conn.Close() })
		wg.Go(f.Conn.Reset)
	}
	wg.Wait()
	l.eventually("no flow live", func() bool { return l.stack.Stats().FlowsLive == 0 })
}

// At most as many flows linger as may live: the oldest is reset.
func TestLingeringIsBounded(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h, MaxFlows: 1})
	for i := range 2 {
		c := l.dial(server4)
		f := get(t, flows)
		// The cable is cut for this flow alone.
		cut := f.Src.Port()
		old := l.nearFilter
		l.nearFilter = func(pkt []byte) bool {
			return (old == nil || old(pkt)) && binary.BigEndian.Uint16(pkt[stack.VirtioHeaderLen+22:]) != cut
		}
		l.near.SetFilter(l.nearFilter)
		if _, err := f.Conn.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		_ = f.Conn.Close()
		if st := l.stack.Stats(); st.FlowsLive != 0 || st.FlowsLingering != 1 || st.ResetsSent != uint64(i) {
			t.Errorf("after flow %d: %+v", i, st)
		}
		_ = c.Close()
	}
}
