package stack_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sslgate/sslgate/stack"
)

// seqAt is where the sequence number of a TCP packet without IP options stands.
func seqAt(pkt []byte) int {
	if pkt[0]>>4 == 6 {
		return 44
	}
	return 24
}

// "Packet too big" is believed only about segments that are sent and not acknowledged.
// Somebody who knows the addresses and ports of a connection must not be able to make its
// segments small.
func TestTooBigIsOfWhatIsUnderWay(t *testing.T) {
	for _, dst := range []netip.AddrPort{server4, server6} {
		t.Run(fmt.Sprint(dst.Addr()), func(t *testing.T) {
			h, flows := given()
			l := newLab(t, 1500, false, stack.Config{Handler: h})
			c := l.dial(dst)
			f := get(t, flows)
			router := client4
			if dst.Addr().Is6() {
				router = client6
			}
			mtu := 1300
			put := func(word []byte) []byte { // writes it, and holds the packet back
				t.Helper()
				held := l.sniff()
				if _, err := f.Conn.Write(word); err != nil {
					t.Fatal(err)
				}
				l.eventually("sent", func() bool { return len(held()) > 0 })
				return held()[0]
			}
			first := put(make([]byte, 1000))
			quoting := func(pkt []byte, by int32) []byte {
				p := bytes.Clone(pkt)
				at := p[seqAt(p):]
				binary.BigEndian.PutUint32(at, binary.BigEndian.Uint32(at)+uint32(by))
				return tooBig(router, p, mtu)
			}
			port := bytes.Clone(first)
			port[seqAt(port)-1]++
			forged := [][]byte{
				quoting(first, -1), quoting(first, 1000), quoting(first, 1<<20), quoting(first, -(1 << 20)), quoting(first, -(1 << 31)),
				tooBig(router, port, mtu),
			}
			for i, p := range forged {
				l.near.Inject(p)
				l.eventually("forged counted", func() bool { return l.stack.Stats().Bad.ICMP == uint64(i+1) })
			}
			if n := l.stack.Stats().TooBig; n != 0 {
				t.Errorf("%d forged ones passed", n)
			}
			// The first and the last byte under way are accepted, also if this host
			// reports it from its own address.
			for i, p := range [][]byte{quoting(first, 0), quoting(first, 999), tooBig(dst.Addr(), first, mtu)} {
				l.near.Inject(p)
				l.eventually("passed", func() bool { return l.stack.Stats().TooBig == uint64(i+1) })
			}
			l.near.SetFilter(nil)
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			l.eventually("acknowledged", func() bool { return f.Conn.Progress().Waiting == 0 })
			l.near.Inject(quoting(first, 0))
			l.eventually("what was acknowledged counted", func() bool { return l.stack.Stats().Bad.ICMP == uint64(len(forged)+1) })
			// It has made the segments smaller. Netstack always leaves room for 40 bytes
			// of options (RFC 9293, section 3.1).
			second := put(make([]byte, 3000))
			if len(second) > mtu || len(second) < mtu-40 {
				t.Errorf("a packet of %d bytes, want up to %d", len(second), mtu)
			}
			l.near.SetFilter(nil)
			if _, err := io.ReadFull(c, make([]byte, 3000)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// How often a connection is asked what is under way is bounded for each client. No client
// pays for another: neither for one without a connection, nor for one that is flooded.
func TestTooBigIsAskedAtABoundedRate(t *testing.T) {
	for _, dst := range []netip.AddrPort{server4, server6} {
		t.Run(fmt.Sprint(dst.Addr()), func(t *testing.T) {
			h, flows := given()
			l := newLab(t, 1500, false, stack.Config{Handler: h})
			l.dial(dst)
			f := get(t, flows)
			peer := f.Conn.RemoteAddr().(*net.TCPAddr).AddrPort()
			quoted := func(client netip.AddrPort) []byte {
				p := seg{src: dst, dst: client, seq: 1 << 30, flags: ack, payload: make([]byte, 1000)}.ip()
				return tooBig(client.Addr(), p, 1300)
			}
			const many = 2000
			before := l.stack.Stats()
			began := time.Now()
			for range many {
				l.near.Inject(quoted(peer))
			}
			counted := func() (asked, limited uint64) {
				st := l.stack.Stats()
				return st.Bad.ICMP - before.Bad.ICMP, st.TooBigLimited - before.TooBigLimited
			}
			l.eventually("all counted", func() bool { a, b := counted(); return a+b == many })
			asked, limited := counted()
			if most := 64 + 10*time.Since(began).Seconds() + 1; asked < 64 || float64(asked) > most || limited == 0 {
				t.Errorf("%d of %d were asked, at most %.0f may be", asked, many, most)
			}
			// Nothing is asked and nothing is kept about connections that do not exist.
			for i := range 100 {
				l.near.Inject(quoted(netip.AddrPortFrom(peer.Addr(), uint16(i+1))))
			}
			l.eventually("all counted", func() bool { a, b := counted(); return a+b == many+100 })
			if now, _ := counted(); now < asked+100 {
				t.Errorf("%d of 100 about no connection were dropped as such", now-asked)
			}
		})
	}
}
