package stack_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/stack"
)

var (
	from4 = netip.AddrPortFrom(client4, 50000)
	from6 = netip.AddrPortFrom(client6, 50000)
)

// sniff records the TCP packets the stack sends.
func (l *lab) sniff() func() [][]byte {
	var mu sync.Mutex
	var seen [][]byte
	l.near.SetFilter(func(pkt []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, append([]byte(nil), pkt[stack.VirtioHeaderLen:]...))
		return false
	})
	return func() [][]byte {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

// Each of these packets is dropped without an answer and counted by its fault. The
// Handler is not asked.
func TestMalformed(t *testing.T) {
	syn4 := func() []byte { return seg{src: from4, dst: server4, seq: 7, flags: syn}.ip() }
	syn6 := func() []byte { return seg{src: from6, dst: server6, seq: 7, flags: syn}.ip() }
	from := func(src, dst string) []byte {
		return seg{src: netip.MustParseAddrPort(src), dst: netip.MustParseAddrPort(dst), flags: syn}.ip()
	}
	flags := func(f uint8) []byte { return seg{src: from4, dst: server4, flags: f}.ip() }
	set := func(pkt []byte, at int, v ...byte) []byte {
		copy(pkt[at:], v)
		if pkt[0] == 0x45 {
			fixIPv4(pkt)
		}
		return pkt
	}
	pad := []byte{0, 0, 1, 4, 0, 0, 0, 0} // a hop-by-hop or destination options header of 8 bytes: PadN
	b := func(s stack.Stats) stack.BadPackets { return s.Bad }
	for _, tc := range []struct {
		name  string
		pkt   []byte
		count func(stack.Stats) uint64
	}{
		{"one byte", []byte{0x45}, func(s stack.Stats) uint64 { return b(s).Length }},
		{"IP version", set(syn4(), 0, 0x55), func(s stack.Stats) uint64 { return b(s).Version }},
		{"shorter than it says", syn4()[:39], func(s stack.Stats) uint64 { return b(s).Length }},
		{"longer than it says", append(syn4(), 0), func(s stack.Stats) uint64 { return b(s).Length }},
		{"v6 shorter than it says", syn6()[:59], func(s stack.Stats) uint64 { return b(s).Length }},
		{"v6 cut in the header", syn6()[:30], func(s stack.Stats) uint64 { return b(s).Length }},
		{"IHL of 16 bytes", set(syn4(), 0, 0x44), func(s stack.Stats) uint64 { return b(s).Length }},
		{"IPv4 options", set(syn4(), 0, 0x46), func(s stack.Stats) uint64 { return b(s).Options }},
		{"IPv4 checksum", func() []byte { p := syn4(); p[10]++; return p }(), func(s stack.Stats) uint64 { return b(s).HeaderChecksum }},
		{"more fragments", set(syn4(), 6, 0x20), func(s stack.Stats) uint64 { return b(s).Fragment }},
		{"fragment offset", set(syn4(), 6, 0, 1), func(s stack.Stats) uint64 { return b(s).Fragment }},
		{"v6 fragment not of eights", withExtension(syn6(), 44, []byte{0, 0, 0, 1, 0, 0, 0, 1}), func(s stack.Stats) uint64 { return b(s).Fragment }},
		{"v6 fragment header twice", withExtension(withExtension(syn6(), 44, make([]byte, 8)), 44, make([]byte, 8)), func(s stack.Stats) uint64 { return b(s).Fragment }},
		{"v6 fragment header cut", ipPacket(client6, server6.Addr(), 44, make([]byte, 7)), func(s stack.Stats) uint64 { return b(s).Length }},
		{"v6 routing header", withExtension(syn6(), 43, []byte{0, 0, 0, 1, 0, 0, 0, 0}), func(s stack.Stats) uint64 { return b(s).Options }},
		{"v6 hop-by-hop not first", withExtension(withExtension(syn6(), 0, pad), 60, pad), func(s stack.Stats) uint64 { return b(s).Options }},
		{"v6 option that must be known", withExtension(syn6(), 60, []byte{0, 0, 0xc2, 4, 0, 0, 0, 0}), func(s stack.Stats) uint64 { return b(s).Options }},
		{"v6 option too long", withExtension(syn6(), 60, []byte{0, 0, 1, 5, 0, 0, 0, 0}), func(s stack.Stats) uint64 { return b(s).Options }},
		{"v6 extension past the end", withExtension(syn6(), 60, []byte{0, 255, 1, 4, 0, 0, 0, 0}), func(s stack.Stats) uint64 { return b(s).Length }},
		{"v6 extensions beyond the head", withExtension(syn6(), 60, append([]byte{0, 27}, padN(222)...)), func(s stack.Stats) uint64 { return b(s).Options }},
		{"LAND", from("192.0.2.7:443", "192.0.2.7:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"LAND, other port", from("192.0.2.7:444", "192.0.2.7:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"LAND, UDP", ipPacket(server4.Addr(), server4.Addr(), 17, make([]byte, 8)), func(s stack.Stats) uint64 { return b(s).Address }},
		{"LAND v6", from("[2001:db8::7]:443", "[2001:db8::7]:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"multicast source", from("224.0.0.1:1", "192.0.2.7:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"multicast destination", from("10.1.0.2:1", "239.1.1.1:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"broadcast source", from("255.255.255.255:1", "192.0.2.7:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"broadcast destination", from("10.1.0.2:1", "255.255.255.255:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"loopback source", from("127.0.0.1:1", "192.0.2.7:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"loopback destination", from("10.1.0.2:1", "127.1.2.3:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"unspecified source", from("0.0.0.0:1", "192.0.2.7:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"this network", from("10.1.0.2:1", "0.1.2.3:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"v6 multicast source", from("[ff02::1]:1", "[2001:db8::7]:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"v6 multicast destination", from("[fd01::2]:1", "[ff0e::1]:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"v6 loopback", from("[::1]:1", "[2001:db8::7]:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"v6 unspecified", from("[fd01::2]:1", "[::]:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"v4-mapped", from("[::ffff:10.1.0.2]:1", "[2001:db8::7]:443"), func(s stack.Stats) uint64 { return b(s).Address }},
		{"TCP cut", ipPacket(client4, server4.Addr(), 6, make([]byte, 19)), func(s stack.Stats) uint64 { return b(s).Length }},
		{"data offset too small", set(syn4(), 32, 4<<4), func(s stack.Stats) uint64 { return b(s).TCPHeader }},
		{"data offset past the end", set(syn4(), 32, 6<<4), func(s stack.Stats) uint64 { return b(s).TCPHeader }},
		{"port 0", from("10.1.0.2:0", "192.0.2.7:443"), func(s stack.Stats) uint64 { return b(s).TCPHeader }},
		{"no flags", flags(0), func(s stack.Stats) uint64 { return b(s).Flags }},
		{"FIN alone", flags(fin), func(s stack.Stats) uint64 { return b(s).Flags }},
		{"SYN and FIN", flags(syn | fin), func(s stack.Stats) uint64 { return b(s).Flags }},
		{"SYN and RST", flags(syn | rst), func(s stack.Stats) uint64 { return b(s).Flags }},
		{"SYN and ACK", flags(syn | ack), func(s stack.Stats) uint64 { return b(s).Flags }},
		{"everything", flags(0x3f), func(s stack.Stats) uint64 { return b(s).Flags }},
		{"TCP checksum", func() []byte { p := syn4(); p[36]++; return p }(), func(s stack.Stats) uint64 { return b(s).Checksum }},
		{"v6 TCP checksum", func() []byte { p := syn6(); p[56]++; return p }(), func(s stack.Stats) uint64 { return b(s).Checksum }},
		{"a group joined, v6 (MLDv2)", withExtension(ipPacket(netip.IPv6Unspecified(), netip.MustParseAddr("ff02::16"), 58, append([]byte{143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0}, netip.MustParseAddr("ff02::fb").AsSlice()...)), 0, []byte{0, 0, 5, 2, 0, 0, 1, 0}), func(s stack.Stats) uint64 { return s.Ignored }},
		{"a group joined, v4 (IGMPv3)", withRouterAlert(ipPacket(netip.IPv4Unspecified(), netip.MustParseAddr("224.0.0.22"), 2, make([]byte, 16))), func(s stack.Stats) uint64 { return s.Ignored }},
		{"router solicitation", ipPacket(netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::2"), 58, []byte{133, 0, 0, 0, 0, 0, 0, 0}), func(s stack.Stats) uint64 { return s.Ignored }},
		{"duplicate address detection", ipPacket(netip.IPv6Unspecified(), netip.MustParseAddr("ff02::1:ff00:1"), 58, make([]byte, 24)), func(s stack.Stats) uint64 { return s.Ignored }},
		{"mDNS", ipPacket(client4, netip.MustParseAddr("224.0.0.251"), 17, make([]byte, 20)), func(s stack.Stats) uint64 { return s.Ignored }},
		{"mDNS v6", ipPacket(netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::fb"), 17, make([]byte, 20)), func(s stack.Stats) uint64 { return s.Ignored }},
		{"too big to a group", tooBig(client6, seg{src: netip.MustParseAddrPort("[ff02::1]:443"), dst: from6, flags: ack}.ip(), 1300), func(s stack.Stats) uint64 { return s.Ignored }},
		{"from a group to a group", ipPacket(netip.MustParseAddr("ff02::1"), netip.MustParseAddr("ff02::2"), 58, make([]byte, 8)), func(s stack.Stats) uint64 { return b(s).Address }},
		{"TCP to a group, with an option", withRouterAlert(from("10.1.0.2:1", "224.0.0.22:443")), func(s stack.Stats) uint64 { return b(s).Options }},
		{"UDP with an option", withRouterAlert(ipPacket(client4, server4.Addr(), 17, make([]byte, 20))), func(s stack.Stats) uint64 { return b(s).Options }},
		{"UDP", ipPacket(client4, server4.Addr(), 17, make([]byte, 8)), func(s stack.Stats) uint64 { return s.Ignored }},
		{"ping", ipPacket(client4, server4.Addr(), 1, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}), func(s stack.Stats) uint64 { return s.Ignored }},
		{"ping v6", ipPacket(client6, server6.Addr(), 58, []byte{128, 0, 0, 0, 0, 0, 0, 0}), func(s stack.Stats) uint64 { return s.Ignored }},
		{"port unreachable", ipPacket(client4, server4.Addr(), 1, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, syn4()...)), func(s stack.Stats) uint64 { return s.Ignored }},
		{"ICMP cut", ipPacket(client4, server4.Addr(), 1, make([]byte, 7)), func(s stack.Stats) uint64 { return b(s).Length }},
		{"tiny path MTU", tooBig(client4, seg{src: server4, dst: from4, flags: ack}.ip(), 551), func(s stack.Stats) uint64 { return b(s).ICMP }},
		{"tiny v6 path MTU", tooBig(client6, seg{src: server6, dst: from6, flags: ack}.ip(), 1279), func(s stack.Stats) uint64 { return b(s).ICMP }},
		{"too big, quotes too little", ipPacket(client4, server4.Addr(), 1, append([]byte{3, 4, 0, 0, 0, 0, 5, 0}, syn4()[:27]...)), func(s stack.Stats) uint64 { return b(s).ICMP }},
		{"too big, quotes somebody else's", func() []byte {
			p := tooBig(client4, seg{src: server4, dst: from4, flags: ack}.ip(), 1300)
			copy(p[28+12:], []byte{8, 8, 8, 8})
			return p
		}(), func(s stack.Stats) uint64 { return b(s).ICMP }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &handler{handle: echo}
			l := newLab(t, 1500, true, stack.Config{Handler: h})
			sent := l.sniff()
			l.near.Inject(tc.pkt)
			l.eventually("packet seen", func() bool { return l.stack.Stats().PacketsIn == 1 })
			l.eventually("packet counted", func() bool { return tc.count(l.stack.Stats()) == 1 })
			if err := l.stop(); err != nil {
				t.Fatal(err)
			}
			st := l.stack.Stats()
			if n := h.syns.Load(); n != 0 || len(sent()) != 0 || st.Bad.Total()+st.Ignored != 1 {
				t.Errorf("handler asked %d times, sent %x, stats %+v", n, sent(), st)
			}
		})
	}
}

// padN is n bytes of IPv6 options that may be skipped.
func padN(n int) []byte {
	o := make([]byte, n)
	o[0], o[1] = 1, byte(n-2)
	return o
}

// Extension headers that may be skipped do not hide a SYN from us.
func TestExtensionHeaders(t *testing.T) {
	pad8 := append([]byte{0, 0}, padN(6)...)
	plain := seg{src: from6, dst: server6, seq: 7, flags: syn, payload: make([]byte, 300)}.ip()
	for name, pkt := range map[string][]byte{
		"hop-by-hop":           withExtension(plain, 0, pad8),
		"destination":          withExtension(plain, 60, append([]byte{0, 9}, padN(78)...)),
		"routing, used up":     withExtension(plain, 43, make([]byte, 8)),
		"three":                withExtension(withExtension(withExtension(plain, 60, pad8), 43, make([]byte, 8)), 0, pad8),
		"fragment, of one":     withExtension(plain, 44, []byte{0, 0, 0, 0, 1, 2, 3, 4}),
		"and before others":    withExtension(withExtension(plain, 60, pad8), 44, []byte{0, 0, 0, 6, 1, 2, 3, 4}),
		"an option to skip":    withExtension(plain, 60, []byte{0, 0, 0x1e, 3, 1, 2, 3, 0}),
		"none, for comparison": plain,
	} {
		t.Run(name, func(t *testing.T) {
			h := &handler{handle: echo}
			l := newLab(t, 1500, false, stack.Config{Handler: h})
			sent := l.sniff()
			l.near.Inject(pkt)
			l.eventually("SYN answered", func() bool { return len(sent()) > 0 })
			tcp := sent()[0][40:]
			if tcp[13] != syn|ack || binary.BigEndian.Uint32(tcp[8:]) != 8 {
				t.Errorf("answer %x", sent()[0])
			}
			if h.syns.Load() != 1 {
				t.Errorf("handler asked %d times", h.syns.Load())
			}
		})
	}
}

func TestOnSYN(t *testing.T) {
	asked := make(chan stack.SYN, 100)
	answer := stack.SYNPass
	var mu sync.Mutex
	h := &handler{handle: echo, onSYN: func(s stack.SYN) stack.SYNAnswer {
		mu.Lock()
		defer mu.Unlock()
		asked <- s
		return answer
	}}
	l := newLab(t, 1500, false, stack.Config{Handler: h})
	for _, tc := range []struct {
		answer stack.SYNAnswer
		check  func(err error, st stack.Stats) bool
	}{
		{stack.SYNPass, func(err error, st stack.Stats) bool { return err == nil && st.SYNPassed == 2 }},
		{stack.SYNReset, func(err error, st stack.Stats) bool {
			return errors.Is(err, syscall.ECONNREFUSED) && st.SYNReset == 2
		}},
		{stack.SYNDrop, func(err error, st stack.Stats) bool { return isTimeout(err) && st.SYNDropped >= 2 }},
		{stack.SYNAnswer(99), func(err error, st stack.Stats) bool { // unknown: as the zero value
			return errors.Is(err, syscall.ECONNREFUSED) && st.SYNReset == 4
		}},
	} {
		mu.Lock()
		answer = tc.answer
		mu.Unlock()
		var last error
		for _, dst := range []netip.AddrPort{server4, server6} {
			c, err := l.tryDial(dst, 300*time.Millisecond)
			last = err
			if err == nil {
				_ = c.Close()
			}
			if s := <-asked; s.Dst != dst || (s.Src.Addr() != client4 && s.Src.Addr() != client6) || time.Since(s.At) > patience {
				t.Errorf("asked about %+v", s)
			}
		}
		if st := l.stack.Stats(); !tc.check(last, st) {
			t.Errorf("answer %d: %v, stats %+v", tc.answer, last, st)
		}
		for len(asked) > 0 {
			<-asked
		}
	}
	// A SYN to a port that is not taken is reported to the Handler, and refused whatever
	// it answers.
	if _, err := l.tryDial(netip.AddrPortFrom(server4.Addr(), 80), patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("other port: %v", err)
	}
	if s := <-asked; !s.NotTaken || s.Dst.Port() != 80 {
		t.Errorf("asked about %+v", s)
	}
}

func isTimeout(err error) bool { return err != nil && !errors.Is(err, syscall.ECONNREFUSED) }

// RFC 9293, section 3.10.7.1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
func TestResetForm(t *testing.T) {
	for _, s := range []seg{
		{src: from4, dst: server4, seq: 0xffffffff, flags: syn},
		{src: from6, dst: server6, seq: 1000, flags: syn, payload: []byte("fast open")},
	} {
		h := &handler{handle: echo, onSYN: func(stack.SYN) stack.SYNAnswer { return stack.SYNReset }}
		l := newLab(t, 1500, true, stack.Config{Handler: h})
		sent := l.sniff()
		l.near.Inject(s.ip())
		l.eventually("RST sent", func() bool { return len(sent()) == 1 })
		want := seg{src: s.dst, dst: s.src, ack: s.seq + 1 + uint32(len(s.payload)), flags: rst | ack}.ip()
		got := sent()[0]
		// What RFC 9293 leaves open: the window, and the DF bit of IPv4.
		hdr := len(want) - 20
		binary.BigEndian.PutUint16(want[hdr+14:], 0)
		binary.BigEndian.PutUint16(want[hdr+16:], 0)
		binary.BigEndian.PutUint16(want[hdr+16:], ^sum16(pseudo(s.dst.Addr(), s.src.Addr(), 6, 20), want[hdr:]))
		if hdr == 20 {
			want[6] = 0x40
			fixIPv4(want)
		}
		if string(got) != string(want) {
			t.Errorf("got  %x\nwant %x", got, want)
		}
	}
}
