package gateway

import (
	"bytes"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/policy"
)

// Ten thousand flows opened and closed, good, refused and broken off, leave no
// goroutine, no registry entry, and memory near where it began.
func TestTenThousandFlowsLeaveNothing(t *testing.T) {
	testenv.Slow(t)
	spec := mtls()
	spec.Rules = append(spec.Rules, policy.RuleSpec{Name: "old", To: []string{"198.51.100.1:443"}, Action: "bypass"})
	h := newHouse(t, spec, nil)
	alice := h.alice()
	bypass := netip.MustParseAddrPort("198.51.100.1:443")
	one := func(i int) {
		switch {
		case i%20 == 0: // full mutual TLS
			conn, err := h.tlsClient(server4, alice, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := conn.Write([]byte("x")); err == nil {
				_, _ = io.ReadFull(conn, make([]byte, 1))
			}
			_ = conn.Close()
		case i%20 == 1: // refused in the handshake
			if conn, err := h.tlsClient(server4, nil, nil); err == nil {
				_, _ = conn.Read(make([]byte, 1)) // the alert
				_ = conn.Close()
			}
		case i%20 == 2: // broken off in the hello
			c := h.dial(server4)
			_, _ = c.Write([]byte{22, 3, 1})
			c.Reset()
		default:
			c := h.dial(bypass)
			_, _ = c.Write([]byte("x"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		}
	}
	run := func(n int) {
		var wg sync.WaitGroup
		work := make(chan int)
		for range 16 {
			wg.Go(func() {
				for i := range work {
					one(i)
				}
			})
		}
		for i := range n {
			work <- i
		}
		close(work)
		wg.Wait()
	}
	alive := func() (goroutines int, heap uint64) {
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		// HeapInuse would count whole spans for the sake of one timer that has not fired.
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	settle := func() (goroutines int, heap uint64) {
		testenv.Eventually(t, "no flow is left", func() bool {
			st := h.stack.Stats()
			return h.gw.Flows() == 0 && st.FlowsLive == 0 && st.FlowsLingering == 0
		}, func() any { return h.stack.Stats() })
		h.records.reset()
		return alive()
	}
	run(1000) // pools and tables take their size
	settle()
	time.Sleep(6 * time.Second) // what is in TIME-WAIT is no part of the measure
	goroutines, heap := settle()
	run(10000)
	after, heapAfter := settle()
	// What is in TIME-WAIT goes, and deadlines of the test's own client fire.
	for deadline := testenv.Deadline(); (after > goroutines+2 || heapAfter > heap+16<<20) && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		after, heapAfter = alive()
	}
	if n := h.gw.Flows(); n != 0 {
		t.Errorf("%d flows in the registry", n)
	}
	if after > goroutines+2 { // a pooled helper of netstack may come or go
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after\n%s", goroutines, after, buf[:runtime.Stack(buf, true)])
	}
	if heapAfter > heap+16<<20 {
		t.Errorf("heap %d MiB before, %d MiB after", heap>>20, heapAfter>>20)
	}
	t.Logf("goroutines %d -> %d, heap %d KiB -> %d KiB", goroutines, after, heap>>10, heapAfter>>10)
}

func (b *recordBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf, b.read = bytes.Buffer{}, nil // Reset would keep its memory
}
