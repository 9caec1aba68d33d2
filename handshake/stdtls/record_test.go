package stdtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// bulk is a finished handshake of the engine, as server or as client, with
// crypto/tls on the other end of a connection.
type bulk struct {
	engine *Engine
	ours   *sessionConn
	peer   *tls.Conn
	secret *bytes.Buffer // key log of the peer
}

func newBulk(t *testing.T, ours, peers net.Conn, version uint16, server bool) *bulk {
	t.Helper()
	b := &bulk{engine: New(), secret: &bytes.Buffer{}}
	ctx := testenv.Context(t)
	if server {
		cfg := clientConfig(version, handshaketest.Fixtures().Client.TLS())
		cfg.KeyLogWriter, cfg.DynamicRecordSizingDisabled = b.secret, true
		b.peer = tls.Client(peers, cfg)
	} else {
		b.peer = tls.Server(peers, &tls.Config{Certificates: []tls.Certificate{handshaketest.Fixtures().Gateway.TLS()}, MinVersion: version, MaxVersion: version, DynamicRecordSizingDisabled: true})
	}
	done := make(chan error, 1)
	go func() { done <- b.peer.HandshakeContext(ctx) }()
	var s *handshake.Session
	var err error
	if server {
		s, err = b.engine.Server(ctx, ours, nil, handshaketest.ServerParams(), nil, handshake.NewLedger(time.Now()))
	} else {
		s, err = b.engine.Client(ctx, ours, clientParams(), nil, handshake.NewLedger(time.Now()))
	}
	if err = errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	s.Grant()
	b.ours = s.Conn.(*sessionConn)
	t.Cleanup(func() { _ = ours.Close(); _ = peers.Close() })
	return b
}

// lent is what the engine's pool misses.
func (b *bulk) lent() int64 { return b.engine.buffers.lent.Load() }

func (b *bulk) wantNothingLent(t *testing.T) {
	t.Helper()
	if n := b.lent(); n != 0 {
		t.Errorf("%d bytes of buffers are still lent", n)
	}
}

// send writes n random bytes in random pieces and then close_notify.
func send(w handshake.Conn, n int, seed uint64) (sum [32]byte, err error) {
	r, h := rand.New(rand.NewPCG(seed, 1)), sha256.New()
	src := rand.NewChaCha8([32]byte{byte(seed)})
	for n > 0 {
		size := 1 + r.IntN(300)
		if r.IntN(3) > 0 {
			size = 1 + r.IntN(300_000)
		}
		b := make([]byte, min(n, size))
		_, _ = src.Read(b)
		h.Write(b)
		if k, err := w.Write(b); err != nil || k != len(b) {
			return sum, fmt.Errorf("wrote %d of %d: %w", k, len(b), err)
		}
		n -= len(b)
	}
	return [32]byte(h.Sum(nil)), w.CloseWrite()
}

// receive reads in random pieces to the end. Where the connection can, it
// waits without a buffer now and then.
func receive(r io.Reader, seed uint64) (sum [32]byte, n int, err error) {
	rnd, h := rand.New(rand.NewPCG(seed, 2)), sha256.New()
	buf := make([]byte, 270_000)
	for {
		if w, ok := r.(interface{ WaitRead() }); ok && rnd.IntN(3) == 0 {
			w.WaitRead()
		}
		size := 1 + rnd.IntN(len(buf))
		if rnd.IntN(4) == 0 {
			size = 1 + rnd.IntN(300)
		}
		k, err := r.Read(buf[:size])
		h.Write(buf[:k])
		n += k
		if errors.Is(err, io.EOF) {
			return [32]byte(h.Sum(nil)), n, nil
		} else if err != nil {
			return sum, n, err
		}
	}
}

// both runs send and receive each way at once and compares.
func (b *bulk) both(t *testing.T, size int, seed uint64) {
	t.Helper()
	var wg sync.WaitGroup
	var sent, got [2][32]byte
	var errs [4]error
	for i, w := range []handshake.Conn{b.ours, b.peer} {
		wg.Go(func() { sent[i], errs[i] = send(w, size, seed+uint64(i)) })
	}
	for i, r := range []io.Reader{b.peer, b.ours} {
		wg.Go(func() { got[i], _, errs[2+i] = receive(r, seed+uint64(i)) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if sent != got {
		t.Fatalf("seed %d: other bytes arrived", seed)
	}
}

// What goes in comes out, both ways at once, whatever the sizes of writes and
// reads and the pieces in which it travels.
func TestBulkArrives(t *testing.T) {
	for _, version := range bothVersions {
		for _, server := range []bool{true, false} {
			for _, kind := range []string{"told", "not told", "TCP"} {
				for seed := range uint64(3) {
					t.Run(fmt.Sprintf("%s/server=%t/%s/%d", handshake.VersionName(version), server, kind, seed), func(t *testing.T) {
						t.Parallel()
						var ours, peers net.Conn
						if kind == "TCP" {
							peers, ours = testenv.TCPPair(t)
						} else {
							// Seed 0: large pieces, so that much waits; else random ones.
							ours, peers, _ = memPair(1+200_000*int(seed+1), seed, kind == "told")
						}
						b := newBulk(t, ours, peers, version, server)
						b.both(t, 3<<20, seed+1)
						_ = b.ours.Close()
						b.wantNothingLent(t)
					})
				}
			}
		}
	}
}

// Without a buffer to be had it all goes on, a record at a time.
func TestBulkWithoutBuffers(t *testing.T) {
	peers, ours := testenv.TCPPair(t)
	b := newBulk(t, ours, peers, tls.VersionTLS13, true)
	b.engine.buffers.lent.Store(buffersMax)
	b.both(t, 1<<20, 5)
	if n := b.lent(); n != buffersMax {
		t.Errorf("%d bytes lent", n)
	}
}

// The bound holds however many ask at once.
func TestRecordBuffersBound(t *testing.T) {
	var r recordBuffers
	var wg sync.WaitGroup
	got := make(chan *[]byte, 4096)
	for range 8 {
		wg.Go(func() {
			for range 400 {
				if b := r.take(&r.in, inboundSize); b != nil {
					got <- b
				}
				if n := r.lent.Load(); n > buffersMax+8*inboundSize { // eight may just ask
					t.Errorf("%d bytes lent", n)
				}
			}
		})
	}
	wg.Wait()
	close(got)
	if n := int64(len(got)) * inboundSize; n > buffersMax || n < buffersMax-inboundSize || n != r.lent.Load() {
		t.Errorf("%d bytes in use, %d counted", n, r.lent.Load())
	}
	for b := range got {
		r.giveBack(&r.in, b)
	}
	if n := r.lent.Load(); n != 0 {
		t.Errorf("%d bytes lent", n)
	}
}

// A lower bound holds from the next loan on; what is lent is told.
func TestRecordBufferRoom(t *testing.T) {
	e := New()
	r := &e.buffers
	e.SetBufferRoom(2 * inboundSize)
	a, b := r.take(&r.in, inboundSize), r.take(&r.in, inboundSize)
	if a == nil || b == nil || r.take(&r.in, inboundSize) != nil || r.take(&r.out, segmentSize) != nil {
		t.Error("two buffers were to be lent, and no third")
	}
	if n := e.RecordBuffers(); n != 2*inboundSize {
		t.Errorf("%d bytes lent", n)
	}
	for _, room := range []int64{0, 1 << 40} {
		e.SetBufferRoom(room)
		if n := r.most(); n != buffersMax {
			t.Errorf("room %d: the bound is %d", room, n)
		}
	}
	r.giveBack(&r.in, a)
	r.giveBack(&r.in, b)
	if n := e.RecordBuffers(); n != 0 {
		t.Errorf("%d bytes lent", n)
	}
}

// One large Write makes few writes below, and one Read returns all that waits.
func TestBulkIsGathered(t *testing.T) {
	const size = 16 * handshake.MaxPlaintext
	for _, version := range bothVersions {
		for _, told := range []bool{true, false} {
			ours, peers, mine := memPair(1<<20, 0, told)
			b := newBulk(t, ours, peers, version, true)
			before := mine.writes.Load()
			if n, err := b.ours.Write(make([]byte, size)); n != size || err != nil {
				t.Fatal(n, err)
			}
			if n := mine.writes.Load() - before; n != 5 { // 263 KB in 65 KB
				t.Errorf("%s, told %t: %d writes below", handshake.VersionName(version), told, n)
			}
			if n, err := io.ReadFull(b.peer, make([]byte, size)); err != nil {
				t.Fatal(n, err)
			}

			if _, err := b.peer.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			// Of a connection that does not tell, an inboundSize at a time, of
			// which the last record is seldom whole.
			least := map[bool]int{true: size, false: inboundSize - 2*handshake.MaxPlaintext}[told]
			for got := 0; got < size; {
				n, err := b.ours.Read(make([]byte, size))
				if err != nil || n < min(least, size-got-handshake.MaxPlaintext) {
					t.Fatalf("%s, told %t: a read of %d after %d, %v", handshake.VersionName(version), told, n, got, err)
				}
				got += n
			}
		}
	}
}

// A deadline that passes within a record loses nothing.
func TestDeadlineWithinRecord(t *testing.T) {
	for _, version := range bothVersions {
		for cut := range handshake.RecordHeader + 2 {
			ours, peers, mine := memPair(1<<20, 0, false)
			d := &slowConn{memConn: mine}
			_ = ours
			b := newBulk(t, d, peers, version, true)
			for _, msg := range []string{"one", "two"} {
				if _, err := b.peer.Write([]byte(msg)); err != nil {
					t.Fatal(err)
				}
				d.stopAfter(cut)
				buf := make([]byte, 10)
				if n, err := b.ours.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%s, cut %d: %d, %v", handshake.VersionName(version), cut, n, err)
				}
				d.stopAfter(-1)
				if n, err := b.ours.Read(buf); string(buf[:n]) != msg || err != nil {
					t.Fatalf("%s, cut %d: %q, %v", handshake.VersionName(version), cut, buf[:n], err)
				}
			}
		}
	}
}

// slowConn is at its deadline once some bytes were read.
type slowConn struct {
	*memConn
	mu   sync.Mutex
	on   bool
	left int
}

func (c *slowConn) stopAfter(n int) {
	c.mu.Lock()
	c.on, c.left = n >= 0, n
	c.mu.Unlock()
}

func (c *slowConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return c.memConn.Read(b)
	}
	if c.left == 0 {
		return 0, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	}
	n, err := c.memConn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}
