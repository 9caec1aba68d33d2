package stack_test

import (
	"context"
	"encoding/binary"
	"io"
	"sync/atomic"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack"
)

// What is answered at once is acknowledged with the answer, with either sender, and all of
// it arrives.
func TestACKsGoWithData(t *testing.T) {
	for _, paced := range []bool{false, true} {
		l := newLab(t, 1500, true, stack.Config{Paced: paced, Ports: []uint16{443}, Handler: &handler{handle: echo}})
		c := l.dial(server4)
		msg, buf := []byte("request"), make([]byte, 7)
		// A busy machine takes longer for an answer than an acknowledgement waits, but not
		// each time.
		l.eventually("an acknowledgement with data", func() bool {
			if _, err := c.Write(msg); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				t.Fatal(err)
			}
			return l.stack.Stats().ACKsMerged > 0
		})
		if err := roundTrip(c, 1<<20, 1); err != nil {
			t.Error(err)
		}
	}
}

// What is not answered is acknowledged all the same, so that nothing is sent again.
func TestACKsWithoutData(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Ports: []uint16{443}, Handler: h})
	c := l.dial(server4)
	var acked atomic.Uint32
	l.near.SetFilter(func(pkt []byte) bool {
		tcp := pkt[stack.VirtioHeaderLen+20:]
		if tcp[13] == ack && len(tcp) == int(tcp[12]>>4)*4 {
			acked.Store(binary.BigEndian.Uint32(tcp[8:]))
		}
		return true
	})
	if _, err := c.Write([]byte("nobody answers this")); err != nil {
		t.Fatal(err)
	}
	f := get(t, flows)
	if _, err := io.ReadFull(f.Conn, make([]byte, 19)); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "its acknowledgement", func() bool { return acked.Load() != 0 })
	first := acked.Load()
	if _, err := c.Write([]byte("nor this")); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the next", func() bool { return acked.Load() == first+8 })
}

// The last data and the FIN are one packet where the writer says so.
func TestLastDataWithFIN(t *testing.T) {
	for _, offload := range []bool{false, true} {
		both := make(chan bool, 1)
		l := newLab(t, 1500, offload, stack.Config{Paced: true, Ports: []uint16{443}, Handler: &handler{handle: func(_ context.Context, f *stack.Flow) {
			f.Conn.Cork(true)
			_, _ = f.Conn.Write([]byte("bye"))
			_ = f.Conn.CloseWrite()
			f.Conn.Cork(false)
			_, _ = io.Copy(io.Discard, f.Conn)
			_ = f.Conn.Close()
		}}})
		l.near.SetFilter(func(pkt []byte) bool {
			tcp := pkt[stack.VirtioHeaderLen+20:]
			if data := len(tcp) - int(tcp[12]>>4)*4; data > 0 || tcp[13]&fin != 0 {
				select {
				case both <- data == 3 && tcp[13]&fin != 0:
				default: // sent again
				}
			}
			return true
		})
		c := l.dial(server4)
		if b, err := io.ReadAll(c); string(b) != "bye" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if !<-both {
			t.Errorf("offload %t: the data and the FIN came apart", offload)
		}
		_ = c.Close()
	}
}
