package stack_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/stack/stacktest"
)

// cutAll makes every packet of the client come in fragments of size bytes, in
// the order that shuffle gives them.
func (l *lab) cutAll(size int, shuffle func([][]byte)) (packets *atomic.Uint64) {
	packets = new(atomic.Uint64)
	var id atomic.Uint32
	l.far.SetFilter(func(pkt []byte) bool {
		frags := stacktest.Fragments(pkt[stack.VirtioHeaderLen:], id.Add(1), size)
		if len(frags) == 1 {
			return true
		}
		packets.Add(1)
		shuffle(frags)
		for _, f := range frags {
			l.near.Inject(f)
		}
		return false
	})
	return packets
}

// A client all of whose packets are cut on the way, the SYN too, does not
// notice.
func TestFragmentedFlow(t *testing.T) {
	for name, shuffle := range map[string]func([][]byte){
		"in order": func([][]byte) {},
		"last first": func(f [][]byte) {
			f[0], f[len(f)-1] = f[len(f)-1], f[0]
		},
		"any order": func(f [][]byte) {
			rand.Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
		},
	} {
		for _, dst := range []netip.AddrPort{server4, server6} {
			t.Run(fmt.Sprintf("%s/%v", name, dst.Addr()), func(t *testing.T) {
				l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: echo}})
				// A SYN's TCP header has 40 bytes, and in 64 fragments of 24 the
				// largest segment.
				var cut *atomic.Uint64
				if dst.Addr().Is4() {
					cut = l.cutAll(24, shuffle)
				} else {
					cut = l.cutAll(400, shuffle)
				}
				c := l.dial(dst)
				if err := roundTrip(c, 200_000, 1); err != nil {
					t.Fatalf("%v (%+v)", err, l.stack.Stats())
				}
				_ = c.Close()
				l.eventually("all put together", func() bool { return l.stack.Stats().Reassembled == cut.Load() })
				st := l.stack.Stats()
				if st.Bad.Total() != 0 || st.FragmentPackets != 0 || st.FragmentBytes != 0 || st.Reassembled < 100 ||
					st.FragmentsTimedOut+st.FragmentsEvicted != 0 {
					t.Errorf("stats: %+v", st)
				}
			})
		}
	}
}

// A SYN that comes in fragments is asked about once, with its addresses, and
// is answered; a SYN that may not pass does not pass in fragments.
func TestFragmentedSYN(t *testing.T) {
	opts := []byte{2, 4, 5, 0xb4, 1, 1, 1, 1, 1, 1, 1, 1}
	for _, answer := range []stack.SYNAnswer{stack.SYNPass, stack.SYNReset, stack.SYNDrop} {
		for _, s := range []seg{{src: from4, dst: server4}, {src: from6, dst: server6}} {
			s.flags, s.seq, s.opts, s.payload = syn, 7, opts, make([]byte, 40)
			asked := make(chan stack.SYN, 8)
			h := &handler{handle: echo, onSYN: func(s stack.SYN) stack.SYNAnswer { asked <- s; return answer }}
			l := newLab(t, 1500, true, stack.Config{Handler: h})
			sent := l.sniff()
			// With an unfinished checksum nobody finishes it. And a verified fragment
			// says nothing about the whole packet.
			for _, f := range stacktest.Fragments(s.ip(), 1, 32) {
				l.near.InjectRaw(append([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0}, f...))
			}
			l.eventually("put together", func() bool { return l.stack.Stats().Reassembled == 1 })
			got := <-asked
			if got.Src != s.src || got.Dst != s.dst || len(asked) != 0 {
				t.Errorf("asked about %+v", got)
			}
			want := map[stack.SYNAnswer]byte{stack.SYNPass: syn | ack, stack.SYNReset: rst | ack}[answer]
			if want != 0 {
				l.eventually("answered", func() bool { return len(sent()) > 0 })
				hdr := 20
				if s.src.Addr().Is6() {
					hdr = 40
				}
				if f := sent()[0][hdr+13]; f != want {
					t.Errorf("answered with flags %#x, want %#x", f, want)
				}
			}
			if err := l.stop(); err != nil {
				t.Error(err)
			}
			if want == 0 && len(sent()) != 0 {
				t.Errorf("answered %x", sent())
			}
		}
	}
}

// The checksum of a packet that was put together is verified, whatever the
// device says of its fragments.
func TestFragmentedChecksum(t *testing.T) {
	for flags := range byte(4) {
		l := newLab(t, 1500, true, stack.Config{Handler: &handler{handle: echo}})
		p := seg{src: from4, dst: server4, flags: syn, payload: make([]byte, 100)}.ip()
		p[100]++
		for _, f := range stacktest.Fragments(p, 1, 40) {
			l.near.InjectRaw(append([]byte{flags, 0, 0, 0, 0, 0, 16, 0, 16, 0}, f...))
		}
		l.eventually("refused", func() bool { return l.stack.Stats().Bad.Checksum == 1 })
		if st := l.stack.Stats(); st.SYNPassed != 0 || st.Reassembled != 1 || st.Fragments != 3 {
			t.Errorf("stats: %+v", st)
		}
	}
}

// What a fragment does, and what is counted for it. Nothing gets further.
func TestFragmentsRefused(t *testing.T) {
	payload := make([]byte, 200)
	v4 := seg{src: from4, dst: server4, seq: 7, flags: syn, payload: payload}.ip()
	v6 := seg{src: from6, dst: server6, seq: 7, flags: syn, payload: payload}.ip()
	longTCP6 := seg{src: from6, dst: server6, seq: 7, flags: syn, opts: bytes.Repeat([]byte{1}, 40)}.ip()
	ext6 := withExtension(v6, 60, append([]byte{0, 4}, padN(38)...))
	udp4 := ipPacket(client4, server4.Addr(), 17, make([]byte, 100))
	udp6 := ipPacket(client6, server6.Addr(), 17, make([]byte, 100))
	ping4 := ipPacket(client4, server4.Addr(), 1, append([]byte{8, 0}, make([]byte, 98)...))
	ping6 := ipPacket(client6, server6.Addr(), 58, append([]byte{128, 0}, make([]byte, 98)...))
	huge4 := ipPacket(client4, server4.Addr(), 6, make([]byte, 64000))
	huge6 := ipPacket(client6, server6.Addr(), 6, make([]byte, 64000))
	cut := func(p []byte, from, to int) []byte { return stacktest.Fragment(p, 9, from, to) }
	changed := func(p []byte, at int) []byte {
		p = append([]byte(nil), p...)
		p[at] ^= 0xff
		return p
	}
	withTOS := func(p []byte, tos byte) []byte {
		p = append([]byte(nil), p...)
		if p[0] == 0x45 {
			p[1] = tos
			fixIPv4(p)
		} else {
			p[1] = tos << 4
		}
		return p
	}
	moved := func(p []byte, offset uint16) []byte { // to another offset
		if p[0]>>4 == 6 {
			binary.BigEndian.PutUint16(p[42:], offset)
		} else {
			binary.BigEndian.PutUint16(p[6:], offset/8)
			fixIPv4(p)
		}
		return p
	}
	type counts struct{ fragment, overlap, ignored, options, length, held uint64 }
	for _, tc := range []struct {
		name string
		pkts [][]byte
		want counts
	}{
		{"first with 16 bytes of TCP", [][]byte{cut(v4, 0, 16)}, counts{fragment: 1}},
		{"first with 16 bytes of TCP, v6", [][]byte{cut(v6, 0, 16)}, counts{fragment: 1}},
		{"behind 8 bytes of TCP", [][]byte{cut(v4, 8, 48)}, counts{fragment: 1}},
		{"behind 8 bytes of TCP, v6", [][]byte{cut(v6, 8, 48)}, counts{fragment: 1}},
		{"options of TCP cut off, v6", [][]byte{cut(longTCP6, 0, 40)}, counts{fragment: 1}},
		{"extension header cut off, v6", [][]byte{cut(ext6, 0, 32)}, counts{length: 1}},
		{"TCP behind an extension header cut, v6", [][]byte{cut(ext6, 0, 56)}, counts{fragment: 1}},
		{"hop-by-hop in a fragment", [][]byte{cut(withExtension(v6, 0, append([]byte{0, 0}, padN(6)...)), 0, 64)}, counts{options: 1}},
		{"past 65535 bytes", [][]byte{moved(cut(v4, 192, 220), 65520)}, counts{fragment: 1}},
		{"past 65535 bytes, v6", [][]byte{moved(cut(v6, 192, 220), 65520)}, counts{fragment: 1}},
		{"empty", [][]byte{cut(v4, 64, 64)}, counts{fragment: 1}},
		{"empty last", [][]byte{moved(cut(v4, 220, 220), 224)}, counts{fragment: 1}},
		{"UDP", [][]byte{cut(udp4, 0, 48), cut(udp4, 48, 100)}, counts{ignored: 2}},
		{"UDP, v6", [][]byte{cut(udp6, 0, 48), cut(udp6, 48, 100)}, counts{ignored: 2}},
		{"ping", [][]byte{cut(ping4, 0, 48)}, counts{ignored: 1}},
		{"ping, v6", [][]byte{cut(ping6, 0, 48)}, counts{ignored: 1}},
		{"the very same again", [][]byte{cut(v4, 0, 48), cut(v4, 0, 48), cut(v4, 48, 96), cut(v4, 48, 96)}, counts{held: 1}},
		{"the very same last again", [][]byte{cut(v4, 48, 220), cut(v4, 48, 220)}, counts{held: 1}},
		{"the same, other bytes", [][]byte{cut(v4, 0, 48), cut(changed(v4, 60), 0, 48), cut(v4, 48, 220)}, counts{overlap: 2, held: 1}},
		{"the same, other bytes far behind", [][]byte{cut(huge4, 0, 800), cut(changed(huge4, 700), 0, 800), cut(huge4, 800, 64000)}, counts{overlap: 2, held: 1}},
		{"the same and more", [][]byte{cut(v4, 0, 48), cut(v4, 0, 56), cut(v4, 48, 220)}, counts{overlap: 2, held: 1}},
		{"overlap behind", [][]byte{cut(v4, 0, 48), cut(v4, 40, 220), cut(v4, 48, 220)}, counts{overlap: 2, held: 1}},
		{"overlap in front", [][]byte{cut(v4, 48, 96), cut(v4, 0, 56), cut(v4, 0, 48), cut(v4, 96, 220)}, counts{overlap: 3, held: 1}},
		{"overlap inside, v6", [][]byte{cut(v6, 0, 96), cut(v6, 48, 56), cut(v6, 96, 220)}, counts{overlap: 2, held: 1}},
		{"overlap around, v6", [][]byte{cut(v6, 48, 56), cut(v6, 0, 96), cut(v6, 96, 220)}, counts{overlap: 2, held: 1}},
		{"two ends", [][]byte{cut(v4, 48, 220), cut(v4[:200], 48, 180)}, counts{overlap: 1, held: 1}},
		{"end before what is there", [][]byte{cut(v4, 96, 144), cut(v4[:20+48], 24, 48)}, counts{overlap: 1, held: 1}},
		{"more behind the end", [][]byte{cut(v4[:20+48], 24, 48), cut(v4, 96, 144)}, counts{overlap: 1, held: 1}},
		{"more at the end", [][]byte{cut(v4[:20+48], 24, 48), cut(v4, 24, 48)}, counts{overlap: 1, held: 1}},
		{"the end, where more was", [][]byte{cut(v4, 24, 48), cut(v4[:20+48], 24, 48)}, counts{overlap: 1, held: 1}},
		{"one without ECN", [][]byte{cut(withTOS(v4, 2), 0, 48), cut(v4, 48, 220)}, counts{fragment: 1}},
		{"one without ECN, v6", [][]byte{cut(withTOS(v6, 3), 0, 48), cut(v6, 48, 220)}, counts{fragment: 1}},
		{"too many", stacktest.Fragments(huge6, 9, 400)[:130], counts{fragment: 1, overlap: 1, held: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &handler{handle: echo}
			l := newLab(t, 1500, false, stack.Config{Handler: h})
			sent := l.sniff()
			for _, p := range tc.pkts {
				l.near.Inject(p)
			}
			l.eventually("packets seen", func() bool { return l.stack.Stats().PacketsIn == uint64(len(tc.pkts)) })
			if err := l.stop(); err != nil {
				t.Fatal(err)
			}
			st := l.stack.Stats()
			got := counts{st.Bad.Fragment, st.Bad.Overlap, st.Ignored, st.Bad.Options, st.Bad.Length, uint64(st.FragmentPackets)}
			if got != tc.want || st.Reassembled != 0 || h.syns.Load() != 0 || len(sent()) != 0 {
				t.Errorf("got %+v, want %+v; asked %d times, sent %x, stats %+v", got, tc.want, h.syns.Load(), sent(), st)
			}
		})
	}
}

// Fragments that never fit take bounded memory, go away, and do no harm to a
// flow or to another client whose packets come in fragments.
func TestFragmentFlood(t *testing.T) {
	testenv.Slow(t)
	t.Parallel() // waits for fragments to time out
	l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: echo}})
	old := l.dial(server6)
	r := rand.New(rand.NewPCG(1, 2))
	big := ipPacket(client4, server4.Addr(), 6, make([]byte, 65000))
	flood := func(n int) {
		for i := range n {
			// From many addresses and from one, small and large, in pieces.
			p := append([]byte(nil), big...)
			copy(p[12:], []byte{172, 16, byte(r.IntN(2) * (i >> 8)), byte(r.IntN(2) * i)})
			from := 24 + 8*r.IntN(8000)
			l.near.Inject(stacktest.Fragment(p, uint32(i), from, min(65000, from+8*(1+r.IntN(180)))))
			if st := l.stack.Stats(); st.FragmentPackets > 256 || st.FragmentBytes > 4<<20 {
				t.Fatalf("held %d packets of %d bytes", st.FragmentPackets, st.FragmentBytes)
			}
		}
	}
	flood(3000)
	l.eventually("evicted", func() bool { return l.stack.Stats().FragmentsEvicted > 2000 })
	l.cutAll(128, func([][]byte) {})
	c := l.dial(server4)
	done := make(chan error, 1)
	go func() { done <- roundTrip(c, 100_000, 1) }()
	flood(3000)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := roundTrip(old, 100_000, 2); err != nil {
		t.Error(err)
	}
	// One client cannot have more than its share.
	l.eventually("given up", func() bool { st := l.stack.Stats(); return st.FragmentPackets == 0 && st.FragmentBytes == 0 })
	for i := range 100 {
		l.near.Inject(stacktest.Fragment(big, uint32(i), 24, 48))
	}
	l.eventually("seen", func() bool { return l.stack.Stats().FragmentPackets > 0 })
	st := l.stack.Stats()
	l.eventually("held", func() bool { st = l.stack.Stats(); return st.FragmentPackets == 16 })
	l.eventually("timed out", func() bool { return l.stack.Stats().FragmentPackets == 0 })
	if after := l.stack.Stats(); after.FragmentsTimedOut-st.FragmentsTimedOut != 16 {
		t.Errorf("%d timed out, stats %+v", after.FragmentsTimedOut-st.FragmentsTimedOut, after)
	}
}

// Condemned packets take no data, and only for a time.
func TestFragmentOverlapFlood(t *testing.T) {
	testenv.Slow(t)
	t.Parallel() // waits for fragments to time out
	l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: echo}})
	big := ipPacket(client4, server4.Addr(), 6, make([]byte, 65000))
	for i := range 300 {
		p := append([]byte(nil), big...)
		copy(p[12:], []byte{172, 16, 0, byte(i)})
		l.near.Inject(stacktest.Fragment(p, uint32(i), 800, 2200))
		l.near.Inject(stacktest.Fragment(p, uint32(i), 2192, 3600))
	}
	l.eventually("condemned", func() bool { return l.stack.Stats().Bad.Overlap == 300 })
	if st := l.stack.Stats(); st.FragmentPackets != 256 || st.FragmentBytes > 256<<10 {
		t.Errorf("stats: %+v", st)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l.cutAll(256, func([][]byte) {})
	c, err := l.client.Dial(ctx, server4)
	if err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(c, 10_000, 1); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	l.eventually("forgotten", func() bool { return l.stack.Stats().FragmentPackets == 0 })
	if st := l.stack.Stats(); st.FragmentsTimedOut != 0 { // they were not lost, but refused
		t.Errorf("stats: %+v", st)
	}
}

// A "packet too big" that comes in fragments is honoured as a whole one.
func TestFragmentedTooBig(t *testing.T) {
	for _, dst := range []netip.AddrPort{server4, server6} {
		h, flows := given()
		l := newLab(t, 1500, false, stack.Config{Handler: h})
		c := l.dial(dst)
		f := get(t, flows)
		src := client4
		if dst.Addr().Is6() {
			src = client6
		}
		held := l.sniff()
		if _, err := f.Conn.Write(bytes.Repeat([]byte("still there"), 100)); err != nil {
			t.Fatal(err)
		}
		l.eventually("sent", func() bool { return len(held()) > 0 })
		l.near.SetFilter(nil)
		for _, frag := range stacktest.Fragments(tooBig(src, held()[0], 1300), 3, 24) {
			l.near.Inject(frag)
		}
		l.eventually("passed on", func() bool { return l.stack.Stats().TooBig == 1 })
		b := make([]byte, 1100)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Error(err)
		}
	}
}
