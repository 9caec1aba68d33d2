package stack_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/stack"
)

// The sink gets exactly what was sent, even if it takes little or nothing at a time.
func TestReadTo(t *testing.T) {
	const size = 5<<20 + 12345
	for _, offload := range []bool{false, true} {
		for _, dst := range []netip.AddrPort{server4, server6} {
			t.Run(fmt.Sprintf("offload=%t/%v", offload, dst.Addr()), func(t *testing.T) {
				h, flows := given()
				l := newLab(t, 1500, offload, stack.Config{Handler: h})
				c := l.dial(dst)
				f := get(t, flows)
				sent := make(chan [32]byte, 1)
				go func() {
					sum, err := pump(c, size, 9)
					if err != nil {
						t.Error(err)
					}
					sent <- sum
				}()
				sum, turn := sha256.New(), rand.New(rand.NewPCG(1, 2))
				read, none := 0, 0
				for {
					n, serr, err := f.Conn.ReadTo(func(pieces [][]byte) (int, error) {
						most, took := turn.IntN(200_000), 0
						if most < 50_000 {
							none++
							return 0, nil
						}
						for _, p := range pieces {
							p = p[:min(len(p), most-took)]
							sum.Write(p)
							took += len(p)
						}
						return took, nil
					})
					if read += n; serr != nil {
						t.Fatal(serr)
					}
					if err != nil {
						if !errors.Is(err, io.EOF) {
							t.Errorf("end: %v", err)
						}
						break
					}
				}
				if read != size || [32]byte(sum.Sum(nil)) != <-sent {
					t.Errorf("other bytes, %d of %d", read, size)
				}
				if none == 0 {
					t.Error("the sink never took nothing")
				}
			})
		}
	}
}

// An error of the sink is returned, and the stream loses nothing that was not taken.
func TestReadToFails(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, true, stack.Config{Handler: h})
	c := l.dial(server4)
	f := get(t, flows)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if n, serr, err := f.Conn.ReadTo(func([][]byte) (int, error) { return 2, broken }); n != 2 || !errors.Is(serr, broken) || err != nil {
		t.Errorf("%d bytes, %v, %v", n, serr, err)
	}
	b := make([]byte, 8)
	if n, err := f.Conn.Read(b); err != nil || string(b[:n]) != "llo" {
		t.Errorf("then %q, %v", b[:n], err)
	}
	c.Reset()
	if _, _, err := f.Conn.ReadTo(func([][]byte) (int, error) { return 0, broken }); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
}

// A client that resets while its data is handed over harms nobody.
func TestReadToReset(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, true, stack.Config{Handler: h})
	for range 20 {
		c := l.dial(server4)
		f := get(t, flows)
		go func() { _, _ = pump(c, 4<<20, 3) }()
		read := 0
		for {
			n, serr, err := f.Conn.ReadTo(func(pieces [][]byte) (int, error) {
				n := 0
				for _, p := range pieces {
					n += len(p)
				}
				if read+n > 1<<20 {
					c.Reset()
				}
				return n, nil
			})
			read += n
			if serr != nil {
				t.Fatal(serr)
			}
			if err != nil {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("after %d bytes: %v", read, err)
				}
				break
			}
		}
	}
}
