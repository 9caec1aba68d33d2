package stdtls

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// arriving is a connection whose bytes arrive in stretches: a Read that finds
// none waits, which is counted, and gets the next stretch.
type arriving struct {
	memConn
	data    []byte // all that will come
	there   int    // how much of it has
	at      int    // how much was read
	steps   []byte // lengths of stretches, cyclic
	step    int
	waits   int
	failure error
}

func (c *arriving) Read(b []byte) (int, error) {
	if c.at == len(c.data) {
		c.waits++
		return 0, c.failure
	}
	if c.at == c.there {
		c.waits++
		n := 1
		if len(c.steps) > 0 {
			n += int(c.steps[c.step%len(c.steps)]) * int(c.steps[c.step%len(c.steps)])
			c.step++
		}
		c.there = min(len(c.data), c.there+n)
	}
	n := copy(b, c.data[c.at:c.there])
	c.at += n
	return n, nil
}

type arrivingTold struct{ *arriving }

func (c arrivingTold) Waiting() int { return c.there - c.at }

// FuzzInbound: whatever bytes come in whatever stretches, and however large the
// reads are, what comes out is what went in, without the beginning of a header
// that is never finished; no read crosses the end of a record as long as the
// lengths are legal; where a whole record is said to wait, reading it does not
// wait; and nothing of the pool is kept.
func FuzzInbound(f *testing.F) {
	rec := func(n int) []byte { return append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...) }
	stream := bytes.Join([][]byte{rec(20), rec(0), rec(16401), rec(16401), rec(5000), rec(1), rec(16401)}, nil)
	f.Add(stream, []byte{255, 1, 1, 2, 60}, []byte{255, 9, 1}, 0, true)
	f.Add(stream, []byte{255}, []byte{255}, 0, false)
	f.Add(stream[:len(stream)-3], []byte{0}, []byte{0, 255}, 700, true)
	f.Add(append(rec(5000), 23, 3, 3, 0xff, 0xff, 1, 2, 3), []byte{90}, []byte{3}, 3, false)
	f.Add([]byte{23, 3, 3}, []byte{}, []byte{}, 0, false)
	f.Fuzz(func(t *testing.T, data, steps, sizes []byte, early int, tell bool) {
		if len(data) > 100_000 {
			return // nothing that is not in less
		}
		c := &arriving{data: data, steps: steps, failure: io.EOF}
		tc := &tapConn{Conn: c, tap: newTap(handshake.NewLedger(time.Now()), true), buffers: &recordBuffers{}}
		if tell {
			tc.Conn = arrivingTold{c}
		}
		// As if the handshake had read some of it already.
		early = min(max(early, 0), readAhead, len(data))
		tc.ahead = bytes.Clone(data[:early])
		c.at, c.there = early, early
		tc.detach(false)
		in := tc.in

		// Where records end, and from where on that means nothing any more.
		end := map[int]bool{}
		legal := 0
		for legal+handshake.RecordHeader <= len(data) {
			n := handshake.RecordLen(data[legal:])
			if n > handshake.MaxRecord {
				break
			}
			legal += handshake.RecordHeader + n
			end[legal] = true
		}
		var out []byte
		room := make([]byte, 70_000)
		for i, refused := 0, 0; ; i++ {
			b := room
			if len(sizes) > 0 {
				s := int(sizes[i%len(sizes)])
				b = b[:1+s*s]
			}
			in.now = refused == 0 && i%3 == 1
			waits := c.waits
			promised := 0
			if in.gave == 0 && in.whole() {
				promised = handshake.RecordHeader + in.body
				b = room
			}
			if c.waits != waits {
				t.Fatal("asking whether a record waits has waited")
			}
			asked, got := in.now, 0
			n, err := tc.Read(b)
			for got = n; err == nil && got < promised; got += n {
				out = append(out, b[:n]...)
				n, err = tc.Read(b)
			}
			out = append(out, b[:n]...)
			if promised > 0 && (got != promised || c.waits != waits) {
				t.Fatalf("a whole record of %d was said to wait: %d bytes, %d waits", promised, got, c.waits-waits)
			}
			if asked && promised == 0 && err == nil && len(out)-n >= 0 && c.waits != waits && end[len(out)-n] {
				t.Fatal("a new record was waited for")
			}
			if isNotNow(err) {
				refused++
				continue
			}
			refused = 0
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				break
			}
			if from := len(out) - n; promised == 0 && len(out) <= legal {
				for k := from + 1; k < len(out); k++ {
					if end[k] {
						t.Fatalf("a read from %d to %d crosses the record's end at %d", from, len(out), k)
					}
				}
			}
		}
		if !bytes.HasPrefix(data, out) {
			t.Fatalf("%d bytes in, others out", len(data))
		}
		if lost := len(data) - len(out); lost >= handshake.RecordHeader || lost > 0 && len(out) != legal {
			t.Fatalf("%d of %d bytes lost", lost, len(data))
		}
		if n := tc.buffers.lent.Load(); n != 0 {
			t.Fatalf("%d bytes of buffers are still lent", n)
		}
	})
}
