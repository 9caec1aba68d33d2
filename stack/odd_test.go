package stack_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/sslgate/sslgate/stack"
)

const urg = 0x20

// stamps are timestamps as all stacks write them.
func stamps(val, ecr uint32) []byte {
	b := []byte{1, 1, 8, 10}
	b = binary.BigEndian.AppendUint32(b, val)
	return binary.BigEndian.AppendUint32(b, ecr)
}

// oddLab has a client that is made of single segments.
type oddLab struct {
	*lab
	synAck chan uint32
	heard  chan string
}

// newOddLab starts a stack whose flows are read to the end.
func newOddLab(t *testing.T, all bool) *oddLab {
	l := &oddLab{synAck: make(chan uint32, 16), heard: make(chan string, 1)}
	l.lab = newLab(t, 1500, false, stack.Config{AllPorts: all, Handler: &handler{handle: func(_ context.Context, f *stack.Flow) {
		_ = f.Conn.SetReadDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(f.Conn)
		l.heard <- fmt.Sprintf("%s %v", b, err)
	}}})
	l.near.SetFilter(func(pkt []byte) bool {
		tcp := pkt[stack.VirtioHeaderLen+20:]
		if pkt[stack.VirtioHeaderLen]>>4 == 6 {
			tcp = tcp[20:]
		}
		if tcp[13] == syn|ack {
			select {
			case l.synAck <- binary.BigEndian.Uint32(tcp[4:]):
			default: // sent again
			}
		}
		return false // not for the client's own stack, which would answer RST
	})
	return l
}

// play opens a connection with the options and sends the segments, whose sequence
// numbers count from the first byte.
func (l *oddLab) play(src, dst netip.AddrPort, first seg, segs []seg) string {
	l.t.Helper()
	first.src, first.dst, first.seq, first.flags = src, dst, 99, syn
	l.near.Inject(first.ip())
	var server uint32
	select {
	case server = <-l.synAck:
	case <-time.After(patience):
		l.t.Fatalf("no SYN-ACK: %+v", l.stack.Stats())
	}
	// Segments right behind the one that completes the handshake may be lost (netstack
	// takes one at a time then): a client sends all of them again.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		for _, s := range segs {
			s.src, s.dst, s.seq, s.ack = src, dst, 100+s.seq, server+1
			l.near.Inject(s.ip())
		}
		select {
		case got := <-l.heard:
			return got
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Sprintf("nothing: %+v", l.stack.Stats())
}

// Unusual segments are accepted as Linux accepts them, except that urgent data stays in
// its place: no bytes are lost and no client hangs.
func TestOddSegments(t *testing.T) {
	agreed := append([]byte{2, 4, 5, 0xb4}, stamps(1<<31, 0)...) // MSS 1460, and a clock that has run long
	data := func(s string) []byte { return []byte(s) }
	bye := func(at uint32) seg { return seg{seq: at, flags: ack | fin} }
	byeAt := func(at uint32, opts []byte) seg { return seg{seq: at, flags: ack | fin, opts: opts} }
	const whatever = 1 << 63 // as many as there are
	cases := []struct {
		name              string
		syn               seg
		segs              []seg
		want              string
		urgent, unstamped uint64 // at least; none where 0 stands
	}{
		{"no timestamps after they were agreed on", seg{opts: agreed}, []seg{{flags: ack}, {flags: ack | psh, payload: data("hello")}, bye(5)}, "hello <nil>", 0, 1},
		{"data without them completes the handshake", seg{opts: agreed}, []seg{{flags: ack | psh, payload: data("hello")}, bye(5)}, "hello <nil>", 0, 1},
		{"data and FIN at once", seg{opts: agreed}, []seg{{flags: ack | psh | fin, payload: data("all")}}, "all <nil>", 0, 1},
		{"another option instead", seg{opts: agreed}, []seg{{flags: ack, opts: []byte{1, 1, 1, 1, 253, 4, 0, 0}, payload: data("hello")}, bye(5)}, "hello <nil>", 0, 1},
		{"a full header of other options", seg{opts: agreed}, []seg{{flags: ack, opts: append([]byte{253, 40}, make([]byte, 38)...), payload: data("hello")}, bye(5)}, "hello <nil>", 0, 1},
		{"timestamps behind an option of no length", seg{opts: agreed}, []seg{{flags: ack, opts: append([]byte{253, 0, 1, 1}, stamps(1, 0)...), payload: data("hello")}, bye(5)}, "hello <nil>", 0, 1},
		{"timestamps of a wrong length", seg{opts: agreed}, []seg{{flags: ack, opts: []byte{8, 8, 0, 0, 0, 0, 0, 0}, payload: data("hello")}, bye(5)}, "hello <nil>", 0, 1},
		{"only the first has them", seg{opts: agreed}, []seg{{flags: ack, opts: stamps(1<<31+1, 0)}, {flags: ack | psh, payload: data("hello")}, bye(5)}, "hello <nil>", 0, whatever},
		{"they were not agreed on", seg{}, []seg{{flags: ack, opts: stamps(7, 7)}, {flags: ack | psh, payload: data("hello"), opts: stamps(3, 3)}, bye(5)}, "hello <nil>", 0, 0},
		{"they go backwards", seg{opts: agreed}, []seg{{flags: ack, opts: stamps(1<<31+100, 0)}, {flags: ack | psh, payload: data("hello"), opts: stamps(1<<31-9, 0)}, byeAt(5, stamps(1<<31-9, 0))}, "hello <nil>", 0, 0},
		{"options in another order", seg{opts: []byte{1, 3, 3, 7, 8, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 4, 2, 2, 4, 5, 0xb4, 1, 0, 0, 0}}, []seg{{flags: ack}, {flags: ack | psh, payload: data("hello")}, bye(5)}, "hello <nil>", 0, 1},
		{"urgent data", seg{opts: agreed}, []seg{{flags: ack, opts: stamps(1<<31, 0)}, {flags: ack | psh | urg, payload: data("abc"), opts: stamps(1<<31, 0)}, byeAt(3, stamps(1<<31, 0))}, "abc <nil>", 1, 0},
		{"urgent data completes the handshake", seg{opts: agreed}, []seg{{flags: ack | urg, payload: data("!")}, bye(1)}, "! <nil>", 1, 1},
		{"urgent, and nothing in it", seg{}, []seg{{flags: ack}, {flags: ack | psh | urg}, {flags: ack | psh, payload: data("after")}, bye(5)}, "after <nil>", 1, 0},
		{"the urgent byte in the middle, and at the end", seg{}, []seg{{flags: ack}, {flags: ack | psh | urg, urgent: 2, payload: data("abc")}, {seq: 3, flags: ack | urg, urgent: 1, payload: data("!")}, {seq: 4, flags: ack | psh, payload: data("after")}, bye(9)}, "abc!after <nil>", 1, 0},
		{"the urgent byte is yet to come", seg{}, []seg{{flags: ack}, {flags: ack | urg, urgent: 4, payload: data("ab")}, {seq: 2, flags: ack | urg, urgent: 2, payload: data("c!")}, bye(4)}, "abc! <nil>", 1, 0},
		{"an urgent pointer beyond everything", seg{}, []seg{{flags: ack}, {flags: ack | urg, urgent: 65535, payload: data("abc")}, bye(3)}, "abc <nil>", 1, 0},
		{"urgent FIN", seg{}, []seg{{flags: ack}, {flags: ack | fin | urg, payload: data("end")}}, "end <nil>", 1, 0},
		{"data with them completes the handshake", seg{opts: agreed}, []seg{{flags: ack | psh, payload: data("hello"), opts: stamps(1<<31, 0)}, byeAt(5, stamps(1<<31, 0))}, "hello <nil>", 0, 0},
		{"nothing but PSH", seg{}, []seg{{flags: ack}, {flags: ack | psh}, {flags: ack, payload: data("x")}, bye(1)}, "x <nil>", 0, 0},
		{"data in the SYN, and again", seg{payload: data("fast")}, []seg{{flags: ack}, {flags: ack | psh, payload: data("fast")}, bye(4)}, "fast <nil>", 0, 0},
	}
	for _, all := range []bool{false, true} {
		for _, dst := range []netip.AddrPort{server4, server6} {
			l := newOddLab(t, all)
			client := client4
			if dst == server6 {
				client = client6
			}
			for i, c := range cases {
				t.Run(fmt.Sprintf("%s/%s/all=%t", c.name, dst, all), func(t *testing.T) {
					before := l.stack.Stats()
					if got := l.play(netip.AddrPortFrom(client, uint16(2000+i)), dst, c.syn, c.segs); got != c.want {
						t.Errorf("%q, want %q", got, c.want)
					}
					st := l.stack.Stats()
					urgent, unstamped := st.Urgent-before.Urgent, st.Unstamped-before.Unstamped
					// Segments right behind may come before the handshake is over, and
					// all of them may be sent again.
					right := func(got, want uint64) bool { return want == whatever || got >= want && (want > 0) == (got > 0) }
					if !right(urgent, c.urgent) || !right(unstamped, c.unstamped) {
						t.Errorf("%d urgent, %d without timestamps", urgent, unstamped)
					}
				})
			}
		}
	}
}

// A packet of the maximum size does not become larger.
func TestOddSegmentsNearTheEnd(t *testing.T) {
	for _, dst := range []netip.AddrPort{server4, server6} {
		for _, by := range []int{0, 1, 12, 13, 5000} {
			t.Run(fmt.Sprintf("%s/%d", dst, by), func(t *testing.T) {
				l := newOddLab(t, false)
				client := client4
				if dst == server6 {
					client = client6
				}
				size := 1<<16 - 1 - 60 - by
				body := make([]byte, size)
				for i := range body {
					body[i] = byte('a' + i%26)
				}
				half := size / 2
				got := l.play(netip.AddrPortFrom(client, 3000), dst, seg{opts: stamps(5, 0)}, []seg{
					{flags: ack, payload: body}, {flags: ack, payload: body[:half]}, {seq: uint32(half), flags: ack, payload: body[half:]}, {seq: uint32(size), flags: ack | fin},
				})
				if want := string(body) + " <nil>"; got != want {
					t.Errorf("%d bytes, want %d: %.80q", len(got), len(want), got)
				}
			})
		}
	}
}
