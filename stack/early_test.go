package stack_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/stack"
)

// byCookie makes a stack where every client gets a cookie, and a function that
// begins a handshake and returns the cookie.
func byCookie(t *testing.T, h stack.Handler) (*lab, func(src, dst netip.AddrPort) uint32) {
	l := newLab(t, 1500, false, stack.Config{MaxHalfOpen: 1, MaxFlows: 1 << 15, MaxFlowsPerClient: 1 << 15, Handler: h})
	synAck := make(chan uint32, 16)
	l.near.SetFilter(func(pkt []byte) bool {
		tcp := pkt[stack.VirtioHeaderLen+20:]
		if pkt[stack.VirtioHeaderLen]>>4 == 6 {
			tcp = tcp[20:]
		}
		if tcp[13] == syn|ack && binary.BigEndian.Uint16(tcp[2:]) >= 2000 {
			synAck <- binary.BigEndian.Uint32(tcp[4:])
		}
		return false
	})
	l.near.Inject(seg{src: netip.MustParseAddrPort("10.1.0.9:999"), dst: server4, flags: syn}.ip())
	return l, func(src, dst netip.AddrPort) uint32 {
		t.Helper()
		l.near.Inject(seg{src: src, dst: dst, seq: 7, flags: syn}.ip())
		select {
		case c := <-synAck:
			return c
		case <-time.After(patience):
			t.Fatalf("no SYN-ACK: %+v", l.stack.Stats())
			return 0
		}
	}
}

// hears is a handler that reports the result of each flow's first Read.
func hears() (*handler, <-chan string) {
	heard := make(chan string, 1)
	return &handler{handle: func(_ context.Context, f *stack.Flow) {
		b := make([]byte, 1000)
		n, err := f.Conn.Read(b)
		heard <- fmt.Sprintf("%s %v", b[:n], err)
	}}, heard
}

func listenTo(t *testing.T, heard <-chan string, want string) {
	t.Helper()
	select {
	case got := <-heard:
		if got != want {
			t.Fatalf("heard %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("not heard: %q", want)
	}
}

// A client whose handshake was by cookie sends data right behind its ACK, and is heard at
// once, however many did the same before it. Netstack's listener counts each segment that
// it passes on to a new connection as its own memory for ever, and would accept none any
// more.
func TestDataBehindCookie(t *testing.T) {
	const clients = 3000
	h, heard := hears()
	l, begin := byCookie(t, h)
	again := 0
	for i := range clients {
		src := netip.AddrPortFrom(client4, uint16(2000+i))
		cookie := begin(src, server4)
		say := fmt.Sprintf("client %d", i)
		l.near.Inject(seg{src: src, dst: server4, seq: 8, ack: cookie + 1, flags: ack}.ip())
		data := seg{src: src, dst: server4, seq: 8, ack: cookie + 1, flags: ack | psh, payload: []byte(say)}
		l.near.Inject(data.ip())
		// A machine that stands still for earlyLife forgets what is held, and a client
		// sends it again.
		done := make(chan struct{})
		var resent sync.WaitGroup
		resent.Go(func() {
			for wait := time.NewTicker(2 * time.Second); ; {
				select {
				case <-done:
					wait.Stop()
					return
				case <-wait.C:
					again++
					l.near.Inject(data.ip())
				}
			}
		})
		listenTo(t, heard, say+" <nil>")
		close(done)
		resent.Wait()
	}
	// Without what holds data back, nearly every client had to once a receive buffer's worth was sent.
	if again > clients/10 {
		t.Errorf("%d of %d clients had to send their data again", again, clients)
	}
	// What is sent again may come after the connection has ended, and waits then for one that never comes.
	if st := l.stack.Stats(); st.SYNCookiesAccepted != clients || st.EarlyHeld == 0 || st.EarlyDropped != 0 || again == 0 && st.EarlyBytes != 0 {
		t.Errorf("stats: %+v", st)
	}
}

// The ACK of a cookie may come with data, with FIN, or with both; and be
// followed by a reset.
func TestCookieWithData(t *testing.T) {
	h, heard := hears()
	l, begin := byCookie(t, h)
	for i, c := range []struct {
		name string
		segs []seg
		want string
	}{
		{"data", []seg{{flags: ack | psh, payload: []byte("at once")}}, "at once <nil>"},
		{"data and FIN", []seg{{flags: ack | psh | fin, payload: []byte("and out")}}, "and out <nil>"},
		{"FIN", []seg{{flags: ack | fin}}, " EOF"},
		{"data in two", []seg{{flags: ack, payload: []byte("one, ")}, {flags: ack, seq: 5, payload: []byte("two")}}, ""},
		{"ACK, then FIN", []seg{{flags: ack}, {flags: ack | fin}}, " EOF"},
		{"ACK twice", []seg{{flags: ack}, {flags: ack}, {flags: ack, payload: []byte("after two")}}, "after two <nil>"},
	} {
		for _, dst := range []netip.AddrPort{server4, server6} {
			client := client4
			if dst == server6 {
				client = client6
			}
			t.Run(fmt.Sprintf("%s to %s", c.name, dst), func(t *testing.T) {
				src := netip.AddrPortFrom(client, uint16(2000+i))
				cookie := begin(src, dst)
				for _, s := range c.segs {
					s.src, s.dst, s.seq, s.ack = src, dst, 8+s.seq, cookie+1
					l.near.Inject(s.ip())
				}
				if c.want != "" {
					listenTo(t, heard, c.want)
					return
				}
				// One Read may give the first or both.
				if got := <-heard; got != "one,  <nil>" && got != "one, two <nil>" {
					t.Errorf("heard %q", got)
				}
			})
		}
	}
	l.near.SetFilter(nil)
}
