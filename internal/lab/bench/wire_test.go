package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func FuzzRequest(f *testing.F) {
	for _, r := range []request{{op: opEcho}, {opDown, uint64(time.Second), 0}, {opCheckUp, 1 << 20, 99}, {'x', 0, 0}} {
		f.Add(r.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readRequest(bytes.NewReader(b), make([]byte, requestSize))
		if err != nil {
			if r != (request{}) {
				t.Errorf("%v with %v", r, err)
			}
			return
		}
		again, err := parseRequest(r.bytes())
		if err != nil || again != r {
			t.Errorf("%v became %v, %v", r, again, err)
		}
		if r.op == opDown && time.Duration(r.n) > maxDown || (r.op == opCheckUp || r.op == opCheckDown) && r.n > maxCheck {
			t.Errorf("%v is beyond its bound", r)
		}
	})
}

func TestStreamSum(t *testing.T) {
	b, err := io.ReadAll(io.LimitReader(stream(5), 100_000))
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(b)
	if got, err := streamSum(5, 100_000); err != nil || !bytes.Equal(got, want[:]) {
		t.Errorf("%x, %v", got, err)
	}
	if other, _ := streamSum(6, 100_000); bytes.Equal(other, want[:]) {
		t.Error("two seeds, one stream")
	}
}

// twoWay starts an origin's and a load's end of a connection on the loopback.
func twoWay(t *testing.T) (load, origin *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		s.Close()
	})
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func TestBlocks(t *testing.T) {
	a, b := twoWay(t)
	const n = 5
	sent := make(chan error, 1)
	go func() {
		out := newBlocks(a)
		for i := range n {
			if err := out.send(i == n-1); err != nil {
				sent <- err
				return
			}
		}
		_, err := a.Write([]byte("behind"))
		sent <- err
	}()
	in := newBlocks(b)
	for i := range n {
		last, err := in.receive()
		if err != nil || last != (i == n-1) {
			t.Fatalf("block %d: last %v, %v", i, last, err)
		}
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(b, buf); err != nil || string(buf) != "behind" {
		t.Errorf("after the blocks came %q, %v", buf, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	a.Close()
	if _, err := in.receive(); err == nil {
		t.Error("a block came out of a closed connection")
	}
}

// A block that ends early is an error, not a short count.
func TestBlockCutShort(t *testing.T) {
	a, b := twoWay(t)
	if _, err := a.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if _, err := newBlocks(b).receive(); err == nil {
		t.Error("1000 bytes were taken for a block")
	}
}

// Every operation of the origin, as the load uses it.
func TestLoadAndOrigin(t *testing.T) {
	o := &origin{accepted: map[netip.Addr]int64{}, open: map[net.Conn]struct{}{}}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _ = o.serve(c) }()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-gone
	})
	at := netip.MustParseAddrPort(ln.Addr().String())
	for _, job := range []LoadJob{
		{Kind: LoadUp, Flows: 2, For: 20 * time.Millisecond},
		{Kind: LoadDown, Flows: 2, For: 20 * time.Millisecond},
		{Kind: LoadConns, For: 50 * time.Millisecond},
		{Kind: LoadRTT, For: 20 * time.Millisecond},
		{Kind: LoadIdle, Flows: 20, For: time.Second},
		{Kind: LoadCheck, Flows: 2, Bytes: 100_000},
	} {
		job.Targets = []netip.AddrPort{at}
		got, ok := loaded(t, job)
		if !ok {
			continue
		}
		switch job.Kind {
		case LoadUp, LoadDown:
			if got.Bytes == 0 || got.Bytes%blockSize != 0 {
				t.Errorf("%s: %d bytes", job.Kind, got.Bytes)
			}
		case LoadRTT:
			if got.P50 <= 0 || got.P99 < got.P50 {
				t.Errorf("round trip: p50 %v, p99 %v", got.P50, got.P99)
			}
		case LoadIdle:
			if got.Conns != 20 {
				t.Errorf("%d idle connections, want 20", got.Conns)
			}
		case LoadConns:
			if got.Conns == 0 {
				t.Error("no connection")
			}
		}
	}
}

// loaded runs a job, again and for longer where the time was too short for this machine to do
// anything.
func loaded(t *testing.T, job LoadJob) (got Outcome, ok bool) {
	t.Helper()
	for ; ; job.For *= 4 {
		var out bytes.Buffer
		if err := runLoad(job, strings.NewReader("go\n"), &out); err != nil {
			t.Errorf("%s: %v", job.Kind, err)
			return got, false
		}
		text, ready := strings.CutPrefix(out.String(), readyLine+"\n")
		got = Outcome{}
		if err := json.Unmarshal([]byte(text), &got); !ready || err != nil || got.Error != "" || got.Failed > 0 {
			t.Errorf("%s: %q, %v", job.Kind, out.String(), err)
			return got, false
		}
		did := true
		switch job.Kind {
		case LoadUp, LoadDown:
			did = got.Bytes > 0
		case LoadConns:
			did = got.Conns > 0
		case LoadRTT:
			did = got.P50 > 0
		}
		if did || job.For > testenv.Patience() {
			return got, true
		}
	}
}

// An origin that changes a byte is found out.
func TestCheckFindsBrokenPeer(t *testing.T) {
	for _, op := range []byte{opCheckUp, opCheckDown} {
		a, b := twoWay(t)
		go func() {
			req, err := readRequest(b, make([]byte, requestSize))
			if err != nil {
				return
			}
			if op == opCheckDown {
				data, _ := io.ReadAll(io.LimitReader(stream(req.seed), int64(req.n)))
				data[len(data)/2] ^= 1
				_, _ = b.Write(data)
				return
			}
			data, _ := io.ReadAll(io.LimitReader(b, int64(req.n)))
			data[0] ^= 1
			sum := sha256.Sum256(data)
			_, _ = b.Write(sum[:])
		}()
		l := &load{job: LoadJob{Bytes: 50_000}}
		if err := l.compare(a, op); err == nil || !strings.Contains(err.Error(), "SHA-256") {
			t.Errorf("%c: %v", op, err)
		}
	}
}

func TestSpoofedSYN(t *testing.T) {
	to := netip.MustParseAddrPort("10.77.2.18:443")
	seen := map[netip.Addr]bool{}
	for range 200 {
		p, ok := lab.ParsePacket(spoofedSYN(to))
		if !ok || p.Dst != to || p.Flags != lab.SYN || !spoofed.Contains(p.Src.Addr()) || p.Src.Port() < 1024 {
			t.Fatalf("%+v", p)
		}
		seen[p.Src.Addr()] = true
	}
	if len(seen) < 150 {
		t.Errorf("%d addresses in 200 SYNs", len(seen))
	}
}

func TestRefusal(t *testing.T) {
	if refusal(io.EOF) != nil || refusal(&net.OpError{Op: "remote error", Err: io.ErrNoProgress}) != nil {
		t.Error("a refusal is not seen as one")
	}
	if refusal(&net.OpError{Op: "dial", Err: io.ErrNoProgress}) == nil || refusal(io.ErrNoProgress) == nil {
		t.Error("a failure is taken for a refusal")
	}
}
