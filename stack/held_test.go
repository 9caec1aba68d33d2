package stack_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack"
)

// The bytes that a flow holds and that its client takes are exact, also when the window
// is closed, and after the FIN.
func TestHeldAndProgress(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, true, stack.Config{Handler: h})
	c := l.dial(server4)
	f := get(t, flows)
	if p := f.Conn.Progress(); p.Waiting != 0 || p.Taken != 0 {
		t.Errorf("new: %+v", p)
	}
	// Up: received and not read.
	if _, err := c.Write(make([]byte, 30_000)); err != nil {
		t.Fatal(err)
	}
	l.eventually("30,000 bytes wait to be read", func() bool { r, _ := f.Conn.Held(); return r == 30_000 })
	if _, err := io.ReadFull(f.Conn, make([]byte, 30_000)); err != nil {
		t.Fatal(err)
	}
	// Down: more than the client's buffer, until the window is closed.
	const n = 900_000
	if _, err := f.Conn.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the window is closed", func() bool {
		before := f.Conn.Progress()
		time.Sleep(50 * time.Millisecond)
		held, closed := l.stack.Held(), f.Conn.Progress() // once nothing changes they are the same
		return closed.Waiting > 0 && closed.Waiting == before.Waiting &&
			closed.Taken+uint64(closed.Waiting) == n && closed.Sent > 0 && closed.Heard > 0 &&
			held.Sent == int64(closed.Waiting) && held.Received == 0 && held.Flows == 1
	}, func() any { return f.Conn.Progress() }, func() any { return l.stack.Held() })
	// The client goes on reading: all is taken, and the FIN counts for nothing.
	_ = f.Conn.CloseWrite()
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	l.eventually("all is taken", func() bool {
		p := f.Conn.Progress()
		return p.Waiting == 0 && p.Taken == n
	})
}

// Without room new flows get small buffers and live ones shrink, whatever their size was.
// With room again they grow. No byte is lost.
func TestBufferRoom(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, true, stack.Config{Handler: h})
	fill := func(f *stack.Flow) int {
		t.Helper()
		all := 0
		for { // until a while passes in which nothing more fits
			_ = f.Conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := f.Conn.Write(make([]byte, 8<<20))
			all += n
			if err == nil || all > 8<<20 {
				t.Fatal("8 MiB fit")
			}
			if n == 0 {
				break
			}
		}
		_ = f.Conn.SetWriteDeadline(time.Time{})
		return all
	}
	l.dial(server4)
	before := fill(get(t, flows))
	l.eventually("running", func() bool { return l.stack.Held().Flows == 1 })
	l.stack.SetBufferRoom(1)
	c := l.dial(server4)
	f := get(t, flows)
	n := fill(f)
	if n > before/2 {
		t.Errorf("%d bytes fit into a flow without room, %d with", n, before)
	}
	if _, w := f.Conn.Held(); w > 3*16<<10 {
		t.Errorf("%d bytes wait in a buffer of 16 KiB", w)
	}
	// A reader gets all that was taken.
	l.stack.SetBufferRoom(0)
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := f.Conn.Write(make([]byte, 8<<20))
		done <- err
	}()
	if _, err := io.ReadFull(c, make([]byte, 8<<20)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// While memory is short no data is taken from the network. Nothing is lost, because the
// client sends it again.
func TestFlooded(t *testing.T) {
	var flooded atomic.Bool
	l := newLab(t, 1500, true, stack.Config{Handler: &handler{handle: echo}, Flooded: flooded.Load})
	c := l.dial(server4)
	flooded.Store(true)
	done := make(chan error, 1)
	go func() { done <- roundTrip(c, 100_000, 1) }()
	l.eventually("data is dropped", func() bool { return l.stack.Stats().DataDropped > 1 })
	if held := l.stack.Held(); held.Received != 0 {
		t.Errorf("%+v", held)
	}
	flooded.Store(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A client that acknowledges our FIN and never sends its own (FIN-WAIT-2) is
// forgotten after LingerTimeout, and one that closes second leaves nothing
// after TimeWait: the same addresses and ports connect again.
func TestFinWaitAndTimeWaitEnd(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h, LingerTimeout: 300 * time.Millisecond, TimeWait: 300 * time.Millisecond})
	c := l.dial(server4)
	f := get(t, flows)
	_ = f.Conn.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // it has our FIN
		t.Fatal(err)
	}
	if st := l.stack.Stats(); st.FlowsLive != 0 || st.FlowsLingering != 1 {
		t.Errorf("%+v", st)
	}
	l.eventually("FIN-WAIT-2 ends", func() bool { return l.stack.Stats().FlowsLingering == 0 })

	second := l.dial(server4)
	f = get(t, flows)
	_ = f.Conn.CloseWrite()
	_ = second.CloseWrite()
	if _, err := f.Conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_ = f.Conn.Close()
	if _, n := l.stack.DropLingering(); n > 1 {
		t.Errorf("%d linger", n)
	}
	_ = second.Close()
	l.eventually("TIME-WAIT ends", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		again, err := l.client.DialFrom(ctx, f.Src, server4)
		if err != nil {
			return false
		}
		_ = again.Close()
		return true
	})
}

// Closed flows that still deliver are dropped when memory runs out.
func TestDropLingering(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h})
	l.dial(server4)
	f := get(t, flows)
	l.far.SetFilter(func([]byte) bool { return false })
	if _, err := f.Conn.Write(make([]byte, 50_000)); err != nil {
		t.Fatal(err)
	}
	_ = f.Conn.Close()
	if held := l.stack.Held(); held.Lingering != 50_000 || held.LingerFlows != 1 {
		t.Errorf("%+v", held)
	}
	if n, count := l.stack.DropLingering(); n != 50_000 || count != 1 {
		t.Errorf("%d bytes of %d flows", n, count)
	}
	if st := l.stack.Stats(); st.FlowsLingering != 0 || st.ResetsSent != 1 {
		t.Errorf("%+v", st)
	}
}
