package stack_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/sslgate/sslgate/stack"
)

// established is a flow of a client, with what a forger may know of it.
type established struct {
	*lab
	client interface {
		io.ReadWriter
		SetDeadline(time.Time) error
	}
	flow *stack.Flow
	last seg // what the client would send next
}

func newEstablished(t *testing.T, dst netip.AddrPort) *established {
	t.Helper()
	h, flows := given()
	e := &established{lab: newLab(t, 1500, false, stack.Config{Handler: h})}
	sent := make(chan seg, 64)
	e.far.SetFilter(func(pkt []byte) bool {
		b := pkt[stack.VirtioHeaderLen:]
		at := seqAt(b)
		s := seg{seq: binary.BigEndian.Uint32(b[at:]), ack: binary.BigEndian.Uint32(b[at+4:]), flags: b[at+9]}
		select {
		case sent <- s:
		default:
		}
		return true
	})
	c := e.dial(dst)
	_ = c.SetDeadline(time.Now().Add(patience))
	e.client, e.flow = c, get(t, flows)
	_ = e.flow.Conn.SetDeadline(time.Now().Add(patience))
	e.far.SetFilter(nil)
	for more := true; more; {
		select {
		case s := <-sent:
			if s.flags&syn == 0 {
				e.last = s
			}
		default:
			more = false
		}
	}
	if e.last.flags == 0 {
		t.Fatal("the client has sent nothing but a SYN")
	}
	e.last.src, e.last.dst = netip.AddrPortFrom(e.flow.Src.Addr(), e.flow.Src.Port()), dst
	return e
}

// works says whether data goes both ways.
func (e *established) works(when string) {
	e.t.Helper()
	for _, way := range []struct {
		from io.Writer
		to   io.Reader
	}{{e.client, e.flow.Conn}, {e.flow.Conn, e.client}} {
		got := make([]byte, 5)
		if _, err := way.from.Write([]byte("hello")); err != nil {
			e.t.Fatalf("%s: %v", when, err)
		}
		if _, err := io.ReadFull(way.to, got); err != nil || string(got) != "hello" {
			e.t.Fatalf("%s: %q, %v", when, got, err)
		}
	}
}

// No ICMP error ends a flow, even where it quotes what is under way (RFC 5927,
// section 6).
func TestForgedICMPErrors(t *testing.T) {
	type kind struct{ typ, code byte }
	of4 := []kind{{3, 0}, {3, 1}, {3, 2}, {3, 3}, {3, 5}, {3, 9}, {3, 10}, {3, 13}, {4, 0}, {5, 1}, {11, 0}, {11, 1}, {12, 0}, {3, 255}}
	of6 := []kind{{1, 0}, {1, 1}, {1, 3}, {1, 4}, {1, 5}, {3, 0}, {3, 1}, {4, 0}, {4, 1}, {137, 0}, {1, 255}}
	for _, dst := range []netip.AddrPort{server4, server6} {
		t.Run(fmt.Sprint(dst.Addr()), func(t *testing.T) {
			e := newEstablished(t, dst)
			e.works("at first")
			router, kinds, proto := client4, of4, uint8(1)
			if dst.Addr().Is6() {
				router, kinds, proto = client6, of6, 58
			}
			held := e.sniff()
			if _, err := e.flow.Conn.Write(bytes.Repeat([]byte("x"), 1000)); err != nil {
				t.Fatal(err)
			}
			e.eventually("data under way", func() bool { return len(held()) > 0 })
			quoted := held()[0]
			before := e.stack.Stats()
			for _, k := range kinds {
				icmp := append([]byte{k.typ, k.code, 0, 0, 0, 0, 0, 0}, quoted...)
				sum := uint16(0)
				if dst.Addr().Is6() {
					sum = pseudo(router, dst.Addr(), proto, len(icmp))
				}
				binary.BigEndian.PutUint16(icmp[2:], ^sum16(sum, icmp))
				e.near.Inject(ipPacket(router, dst.Addr(), proto, icmp))
			}
			e.eventually("all counted", func() bool {
				st := e.stack.Stats()
				return st.Ignored+st.Bad.Total()-before.Ignored-before.Bad.Total() >= uint64(len(kinds))
			})
			e.near.SetFilter(nil)
			if _, err := io.ReadFull(e.client, make([]byte, 1000)); err != nil {
				t.Fatalf("what was under way: %v", err)
			}
			e.works("afterwards")
		})
	}
}

// A RST or SYN ends a flow only with exactly the next sequence number (RFC 5961, sections
// 3.2 and 4.2). Within the window a challenge ACK answers it; beyond the window nothing
// happens.
func TestForgedResets(t *testing.T) {
	for _, dst := range []netip.AddrPort{server4, server6} {
		for _, c := range []struct {
			name  string
			by    int32 // from what is next
			flags uint8
			asked bool // by a challenge ACK
			over  bool
		}{
			{"just before", -1, rst, false, false},
			{"far before", -1 << 20, rst, false, false},
			{"half the space away", -1 << 31, rst, false, false},
			{"beyond every window", 128 << 20, rst, false, false},
			{"beyond every window, with ACK", 128 << 20, rst | ack, false, false},
			{"one too far", 1, rst, true, false},
			{"in the window", 5000, rst, true, false},
			{"in the window, with ACK", 5000, rst | ack, true, false},
			{"a SYN in the window", 5000, syn, true, false},
			{"a SYN at the number that is next", 0, syn, true, false},
			{"the number that is next", 0, rst, false, true},
			{"the number that is next, with ACK", 0, rst | ack, false, true},
		} {
			t.Run(fmt.Sprintf("%s/%s", c.name, dst.Addr()), func(t *testing.T) {
				e := newEstablished(t, dst)
				s := e.last
				s.seq, s.flags = s.seq+uint32(c.by), c.flags
				if c.flags&ack == 0 {
					s.ack = 0
				}
				answers := e.sniff()
				e.near.Inject(s.ip())
				switch {
				case c.over:
					if _, err := e.flow.Conn.Read(make([]byte, 1)); err == nil {
						t.Error("it was not reset")
					}
					return
				case c.asked:
					e.eventually("a challenge ACK", func() bool { return len(answers()) > 0 })
					pkt := answers()[0]
					at := seqAt(pkt)
					if flags := pkt[at+9]; flags != ack || binary.BigEndian.Uint32(pkt[at+4:]) != e.last.seq {
						t.Errorf("answered with flags %#x for %d, want an ACK for %d", flags, binary.BigEndian.Uint32(pkt[at+4:]), e.last.seq)
					}
				}
				e.near.SetFilter(nil)
				e.works("afterwards")
			})
		}
	}
}

// SYNs lose their data, and delay nobody.
func TestSYNFloodWithData(t *testing.T) {
	const spoofed = 3000
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all=%t", all), func(t *testing.T) {
			l := newLab(t, 9000, false, stack.Config{Handler: &handler{handle: echo}, AllPorts: all, MaxHalfOpen: 256})
			payload := bytes.Repeat([]byte("early"), 1700)
			for i := range spoofed {
				src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), uint16(1024+i))
				l.near.Inject(seg{src: src, dst: server4, seq: uint32(i), flags: syn, opts: []byte{2, 4, 5, 0xb4, 34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1}, payload: payload}.ip())
				if i%1000 != 500 {
					continue
				}
				c, err := l.tryDial(server4, patience)
				if err != nil {
					t.Fatalf("after %d: %v", i, err)
				}
				if err := roundTrip(c, 10_000, uint64(i)); err != nil {
					t.Errorf("after %d: %v", i, err)
				}
				_ = c.Close()
			}
			l.eventually("all SYNs seen", func() bool { return l.stack.Stats().SYNData >= spoofed })
			if n := l.stack.Stats().EarlyBytes; n != 0 {
				t.Errorf("%d bytes wait for a connection", n)
			}
		})
	}
}
