package tuntest

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func read(t *testing.T, d *Device, room int) [][]byte {
	t.Helper()
	bufs := make([][][]byte, 4)
	for i := range bufs {
		bufs[i] = [][]byte{make([]byte, HeaderLen), make([]byte, 3), make([]byte, room)}
	}
	sizes := make([]int, 4)
	n, err := d.ReadBatch(bufs, sizes)
	if err != nil {
		t.Fatal(err)
	}
	var pkts [][]byte
	for i := range n {
		pkts = append(pkts, bytes.Join(bufs[i], nil)[:sizes[i]])
	}
	return pkts
}

func write(d *Device, ip ...string) (int, error) {
	var pkts [][][]byte
	for _, p := range ip {
		pkts = append(pkts, [][]byte{make([]byte, HeaderLen), []byte(p[:1]), []byte(p[1:])})
	}
	return d.WriteBatch(pkts)
}

func TestPairCarriesPackets(t *testing.T) {
	a, b := Pair(1500, false)
	for _, way := range []struct{ from, to *Device }{{a, b}, {b, a}} {
		if n, err := write(way.from, "hello", "world!"); n != 2 || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
		got := read(t, way.to, 100)
		if len(got) != 2 || string(got[0][HeaderLen:]) != "hello" || string(got[1][HeaderLen:]) != "world!" {
			t.Errorf("read %q", got)
		}
	}
	if _, err := write(a, "too long"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, b, 2); string(got[0][HeaderLen:]) != "too l" {
		t.Errorf("a short buffer got %q", got)
	}
}

func TestFilterSeesMayChangeAndLose(t *testing.T) {
	a, b := Pair(1500, false)
	a.SetFilter(func(pkt []byte) bool {
		pkt[HeaderLen] = 'j'
		return len(pkt) < HeaderLen+6
	})
	if n, err := write(a, "hello", "longer"); n != 2 || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	a.SetFilter(nil)
	if _, err := write(a, "last"); err != nil {
		t.Fatal(err)
	}
	got := read(t, b, 100)
	if len(got) != 2 || string(got[0][HeaderLen:]) != "jello" || string(got[1][HeaderLen:]) != "last" {
		t.Errorf("read %q", got)
	}
	b.Inject([]byte("from nowhere"))
	if got := read(t, b, 100); string(got[0][HeaderLen:]) != "from nowhere" {
		t.Errorf("injected, read %q", got)
	}
}

func TestRefusesWhatNoDeviceTakes(t *testing.T) {
	plain, _ := Pair(1500, false)
	offload, _ := Pair(1500, true)
	hdr := func(flags, gso byte) []byte { return append([]byte{flags, gso}, make([]byte, HeaderLen-2)...) }
	for _, tc := range []struct {
		name string
		dev  *Device
		pkt  [][]byte
		sent int
	}{
		{"no header", plain, [][]byte{make([]byte, 40)}, 0},
		{"empty", plain, [][]byte{hdr(0, 0)}, 0},
		{"MTU", plain, [][]byte{hdr(0, 0), make([]byte, 1500)}, 1},
		{"above the MTU", plain, [][]byte{hdr(0, 0), make([]byte, 1501)}, 0},
		{"checksum offload on a plain device", plain, [][]byte{hdr(1, 0), make([]byte, 40)}, 0},
		{"checksum offload", offload, [][]byte{hdr(1, 0), make([]byte, 40)}, 1},
		{"above the MTU without GSO", offload, [][]byte{hdr(1, 0), make([]byte, 1501)}, 0},
		{"GSO", offload, [][]byte{hdr(1, 1), make([]byte, 65535)}, 1},
		{"longer than IP allows", offload, [][]byte{hdr(1, 1), make([]byte, 65536)}, 0},
	} {
		before := tc.dev.Refused()
		n, err := tc.dev.WriteBatch([][][]byte{tc.pkt})
		if n != tc.sent || err != nil || tc.dev.Refused()-before != uint64(1-tc.sent) {
			t.Errorf("%s: sent %d, %v, refused %d", tc.name, n, err, tc.dev.Refused()-before)
		}
	}
}

func TestCloseUnblocks(t *testing.T) {
	a, b := Pair(1500, false)
	readErr, writeErr := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := a.ReadBatch([][][]byte{{make([]byte, 100)}}, make([]int, 1))
		readErr <- err
	}()
	time.Sleep(10 * time.Millisecond)
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-readErr; !errors.Is(err, os.ErrClosed) {
		t.Errorf("blocked read: %v", err)
	}
	if _, err := write(a, "hello"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write: %v", err)
	}
	if _, err := a.ReadBatch([][][]byte{{make([]byte, 100)}}, make([]int, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	// The other end goes on writing; its packets are lost.
	go func() {
		var err error
		for range queueLen + 10 {
			if _, err = write(b, "hello"); err != nil {
				break
			}
		}
		writeErr <- err
	}()
	if err := <-writeErr; err != nil {
		t.Errorf("write to a closed peer: %v", err)
	}
}

func TestFullQueueDropsAfterAWhile(t *testing.T) {
	a, b := Pair(1500, false)
	for range queueLen {
		if n, err := write(a, "hello"); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := write(a, "hello"); n != 0 || err != nil || a.Dropped() != 1 {
		t.Errorf("queue full: sent %d, %v, dropped %d", n, err, a.Dropped())
	}
	testenv.Eventually(t, "there is room in time", func() bool { // not on a machine that pauses for longer than a write waits
		time.AfterFunc(20*time.Millisecond, func() { _, _ = b.ReadBatch([][][]byte{{make([]byte, 100)}}, make([]int, 1)) })
		n, err := write(a, "hello")
		return n == 1 && err == nil
	})
}

// An end of several queues: packets of a flow come by the queue that the flow was last
// written to, and by the old one until then.
func TestQueues(t *testing.T) {
	a, b := PairOf(3, 1500, false)
	defer func() { _, _ = a.Close(), b.Close() }()
	// A UDP packet of 28 bytes, from 10.0.0.1:1 to 10.0.0.2:2, and its answer.
	there := append(make([]byte, HeaderLen), 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 8, 0, 0)
	back := append(make([]byte, HeaderLen), 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 0, 2, 0, 1, 0, 8, 0, 0)
	came := func() int {
		t.Helper()
		if n, err := b.WriteBatch([][][]byte{{there[:HeaderLen], there[HeaderLen:]}}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		for q := range a.Queues() {
			if len(a.queues[q]) == 1 {
				buf := make([]byte, 100)
				if _, err := a.ReadQueue(q, [][][]byte{{buf}}, make([]int, 1)); err != nil || !bytes.Equal(buf[:len(there)], there) {
					t.Fatalf("%x, %v", buf, err)
				}
				return q
			}
		}
		t.Fatal("nothing came")
		return -1
	}
	if first := came(); came() != first {
		t.Error("the queue changes by itself")
	}
	for q := range a.Queues() {
		if n, err := a.WriteQueue(q, [][][]byte{{back[:HeaderLen], back[HeaderLen:]}}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if got := came(); got != q {
			t.Errorf("written to %d, came by %d", q, got)
		}
	}
	if a.Moved() != 2 {
		t.Errorf("moved %d times", a.Moved())
	}
}
