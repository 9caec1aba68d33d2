package stack_test

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack"
)

// If a client does not read, only as many small writes wait as there is memory for,
// however few bytes they have. When it reads, all arrives; when the connection ends
// meanwhile, the write ends with an error.
func TestSmallWritesAreBounded(t *testing.T) {
	testenv.Slow(t)
	const pending = 16*512 + 512 // stack.maxPending, and those after the last mark
	for _, end := range []string{"read", "reset", "deadline"} {
		t.Run(end, func(t *testing.T) {
			h, flows := given()
			l := newLab(t, 1500, true, stack.Config{Handler: h})
			c := l.dial(server4)
			f := get(t, flows)
			written := make(chan int, 1)
			failed := make(chan error, 1)
			const most = 1 << 17
			// The client's window is filled with large segments first: small ones
			// that netstack merges on a busy machine would all fit in it.
			const block = 64 << 10
			filled, before := 0, 0
			for before == 0 {
				if n, err := f.Conn.Write(make([]byte, block)); n != block || err != nil {
					t.Fatal(n, err)
				}
				filled += block
				for since := time.Now(); time.Since(since) < time.Second; time.Sleep(time.Millisecond) {
					if before = f.Conn.Progress().Waiting; before == 0 {
						break
					}
				}
			}
			go func() {
				n, err := 0, error(nil)
				for ; n < most && err == nil; n++ {
					_, err = f.Conn.Write([]byte{byte(n)})
				}
				if err != nil {
					n--
				}
				written <- n
				failed <- errors.Join(err, f.Conn.CloseWrite())
			}()
			testenv.Eventually(t, "it has begun", func() bool { return f.Conn.Progress().Waiting > before })
			waiting := testenv.Settled(t, "what waits", func() int { return f.Conn.Progress().Waiting })
			if n := waiting - before; n <= 0 || n > pending {
				t.Errorf("%d writes of one byte wait, %d is the bound", n, pending)
			}
			select {
			case n := <-written:
				t.Fatalf("the writer was not stopped: %d", n)
			default:
			}
			switch end {
			case "read":
				if n, err := io.Copy(io.Discard, struct{ io.Reader }{c}); n != int64(filled+most) || err != nil {
					t.Errorf("%d bytes arrived, %v", n, err)
				}
				if err := <-failed; err != nil {
					t.Error(err)
				}
			case "reset":
				f.Conn.Reset()
				if err := <-failed; err == nil {
					t.Error("a reset ends no write")
				}
			case "deadline":
				_ = f.Conn.SetWriteDeadline(time.Now())
				if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
			}
		})
	}
}

// WaitFor ends when the buffer becomes too small for what is waited for, or the client
// has sent all.
func TestWaitForEnds(t *testing.T) {
	for _, end := range []string{"small buffer", "FIN", "enough", "deadline"} {
		t.Run(end, func(t *testing.T) {
			h, flows := given()
			l := newLab(t, 1500, true, stack.Config{Handler: h})
			c := l.dial(server4)
			f := get(t, flows)
			if _, err := c.Write(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				f.Conn.WaitFor(16 << 10)
			}()
			select {
			case <-done:
				t.Fatal("did not wait")
			case <-time.After(20 * time.Millisecond):
			}
			switch end {
			case "small buffer":
				l.stack.SetBufferRoom(64 << 10)
			case "FIN":
				_ = f.Conn.CloseWrite()
				_ = c.CloseWrite()
			case "enough":
				if _, err := c.Write(make([]byte, 16<<10)); err != nil {
					t.Fatal(err)
				}
			case "deadline":
				_ = f.Conn.SetReadDeadline(time.Now())
			}
			select {
			case <-done:
			case <-time.After(patience):
				t.Fatal("waits on")
			}
		})
	}
}
