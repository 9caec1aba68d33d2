package record

import (
	"bytes"
	"crypto/cipher"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// traffic is a secret of a suite; the same one each time.
func traffic(suite uint16) *keys.Traffic {
	s := keys.SuiteOf(suite)
	return keys.NewEarly(s, nil).Handshake(make([]byte, 32)).Client(s.Hash(nil))
}

// watched notes each nonce with the key that it was used with.
type watched struct {
	cipher.AEAD
	mu   *sync.Mutex
	seen map[string]int
	key  string
}

func (w *watched) Seal(dst, nonce, plaintext, data []byte) []byte {
	w.mu.Lock()
	w.seen[w.key+string(nonce)]++
	w.mu.Unlock()
	return w.AEAD.Seal(dst, nonce, plaintext, data)
}

// No nonce is used twice with a key, whatever is written, also where writing fails.
func TestNoncesNeverRepeat(t *testing.T) {
	for _, suite := range handshake.Suites13() {
		seen, mu := map[string]int{}, &sync.Mutex{}
		conn := &handshaketest.ScriptedConn{}
		w := NewWriter(conn, &Buffers{})
		w.SetKeys(traffic(suite))
		for epoch := range 4 {
			w.keys.aead = &watched{AEAD: w.keys.aead, mu: mu, seen: seen, key: string(rune('a' + epoch))}
			for i := range 40 {
				_ = w.Add(handshake.RecordAppData, make([]byte, 1+i*1000))
				if i%3 == 0 {
					_ = w.Flush()
				}
			}
			w.Update()
		}
		total := 0
		for nonce, n := range seen {
			total += n
			if n != 1 {
				t.Errorf("%#04x: nonce %x was used %d times", suite, nonce, n)
			}
		}
		if total < 4*40 {
			t.Errorf("%#04x: %d records", suite, total)
		}
	}
}

// The last sequence number is never used: nobody can come round to the first again.
func TestSequenceEnds(t *testing.T) {
	w := NewWriter(&handshaketest.ScriptedConn{}, &Buffers{})
	w.SetKeys(traffic(tls.TLS_CHACHA20_POLY1305_SHA256))
	w.keys.seq = math.MaxUint64 - 1
	if err := w.Add(handshake.RecordAppData, []byte{1}); err != nil {
		t.Error(err)
	}
	if err := w.Add(handshake.RecordAppData, []byte{1}); !errors.Is(err, errUsedUp) {
		t.Errorf("%v, at sequence number %x", err, w.keys.seq)
	}
	if err := w.Flush(); !errors.Is(err, errUsedUp) {
		t.Error(err)
	}
}

// Due comes before the limit of AES-GCM, and an update ends it.
func TestLimit(t *testing.T) {
	w := NewWriter(&handshaketest.ScriptedConn{}, &Buffers{})
	w.SetKeys(traffic(tls.TLS_AES_128_GCM_SHA256))
	for _, c := range []struct {
		seq uint64
		due bool
	}{{0, false}, {1<<24 - 129, false}, {1<<24 - 127, true}, {1 << 24, true}} {
		if w.keys.seq = c.seq; w.Due() != c.due {
			t.Errorf("at %d: %v", c.seq, w.Due())
		}
	}
	if w.Update(); w.Due() || w.keys.seq != 0 {
		t.Errorf("behind the update: %d", w.keys.seq)
	}
}

// pieces is a connection that gives back what was written in pieces of any size.
type pieces struct {
	net.Conn
	data  []byte
	sizes []byte
	at    int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := min(len(b), len(p.data))
	if len(p.sizes) > 0 {
		n = min(n, 1+int(p.sizes[p.at%len(p.sizes)])*17)
		p.at++
	}
	copy(b, p.data[:n])
	p.data = p.data[n:]
	return n, nil
}

// What is written is read, however it is cut; what was changed is not.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello"), uint16(3), []byte{1, 0, 200}, -1)
	f.Add(bytes.Repeat([]byte{7}, 300), uint16(200), []byte{}, 9)
	f.Fuzz(func(t *testing.T, unit []byte, times uint16, sizes []byte, flip int) {
		want := bytes.Repeat(unit, int(times)%512)
		conn, buffers := &handshaketest.ScriptedConn{}, &Buffers{}
		w := NewWriter(conn, buffers)
		w.SetKeys(traffic(tls.TLS_AES_256_GCM_SHA384))
		if w.Add(handshake.RecordAppData, want) != nil || w.Flush() != nil {
			t.Fatal("not written")
		}
		data := conn.Out.Bytes()
		if flip = flip % max(1, len(data)); flip >= 0 && len(data) > 0 {
			data[flip] ^= 0x80
		}
		r := NewReader(&pieces{data: data, sizes: sizes}, buffers)
		r.SetKeys(traffic(tls.TLS_AES_256_GCM_SHA384))
		r.Establish()
		var got []byte
		var err error
		for err == nil {
			var content []byte
			_, content, err = r.Next()
			got = append(got, content...)
		}
		if flip < 0 || len(data) == 0 {
			if !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
			}
		} else if errors.Is(err, io.EOF) || !bytes.HasPrefix(want, got) {
			t.Fatalf("byte %d of %d was changed: %d bytes came, %v", flip, len(data), len(got), err)
		}
		r.Release()
		if buffers.Lent() != 0 {
			t.Fatalf("%d bytes are lent", buffers.Lent())
		}
	})
}

// Any bytes end with an error, and what is returned before is within the bounds.
func FuzzReader(f *testing.F) {
	f.Add([]byte{22, 3, 1, 0, 1, 1, 20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 20}, []byte{3}, true, 100)
	f.Add([]byte{21, 3, 3, 0, 2, 2, 40, 23, 3, 3, 0x40, 0}, []byte{}, false, 0)
	f.Fuzz(func(t *testing.T, data, sizes []byte, sealed bool, early int) {
		buffers := &Buffers{}
		r := NewReader(&pieces{data: data, sizes: sizes}, buffers)
		r.SkipEarlyData(min(early, 1<<14))
		if sealed {
			r.SetKeys(traffic(tls.TLS_AES_128_GCM_SHA256))
		}
		read := 0
		for {
			typ, content, err := r.Next()
			if err != nil {
				if _, _, again := r.Next(); !errors.Is(again, err) {
					t.Fatalf("%v, then %v", err, again)
				}
				break
			}
			if read += len(content); len(content) > handshake.MaxPlaintext || typ != handshake.RecordAlert && typ != handshake.RecordHandshake || read > len(data) {
				t.Fatalf("type %d, %d bytes", typ, len(content))
			}
		}
		if buffers.Lent() != 0 {
			t.Fatalf("%d bytes are lent", buffers.Lent())
		}
	})
}

// What is lent is bounded, but for room for one record.
func TestBuffers(t *testing.T) {
	b := &Buffers{}
	b.SetRoom(2 * inSize)
	x, y := b.large(&b.in, inSize), b.large(&b.in, inSize)
	if x == nil || y == nil || b.large(&b.out, outSize) != nil || b.Lent() != 2*inSize {
		t.Errorf("%d bytes are lent", b.Lent())
	}
	one := b.record()
	if len(*one) != oneSize || b.Lent() != 2*inSize+oneSize {
		t.Errorf("%d bytes are lent", b.Lent())
	}
	for _, p := range []*[]byte{x, y, one} {
		b.back(p)
	}
	if b.SetRoom(1 << 40); b.room.Load() != roomMax || b.Lent() != 0 {
		t.Errorf("%d bytes are lent, the room is %d", b.Lent(), b.room.Load())
	}
}
