package stack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"github.com/sslgate/sslgate/stack/stacktest"
)

// testPacket is a well-formed IP packet of n bytes of data behind a TCP header.
func testPacket(v6 bool, tos byte, src byte, n int) []byte {
	tcp := make([]byte, tcpHeaderLen+n)
	tcp[1], tcp[3], tcp[12], tcp[13] = 80, 90, 5<<4, flagACK
	for i := range n {
		tcp[tcpHeaderLen+i] = byte(i * 7)
	}
	var h []byte
	if v6 {
		h = make([]byte, ipv6HeaderLen)
		h[0], h[1], h[6], h[7] = 0x60, tos<<4, protoTCP, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(tcp)))
		h[8], h[15], h[23], h[24], h[39] = 0xfd, src, 1, 0x20, 9
	} else {
		h = make([]byte, ipv4HeaderLen)
		h[0], h[1], h[6], h[8], h[9] = 0x45, tos, 0x40, 64, protoTCP
		binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(tcp)))
		binary.BigEndian.PutUint16(h[4:], 77)
		h[12], h[15], h[16], h[19] = 10, src, 192, 9
		binary.BigEndian.PutUint16(h[10:], ^checksum.Checksum(h, 0))
	}
	return append(h, tcp...)
}

// putFragment hands an IP packet to the reassembler as receivePacket does; parsed is
// false if it is no fragment.
func putFragment(r *reassembler, ip []byte, now time.Time) (whole []byte, parsed bool) {
	n := min(len(ip), headLen)
	p, bad := parseIP(ip[:n], len(ip))
	if bad != badNothing || !p.frag.is {
		return nil, false
	}
	return r.add(p, ip[:n], ip[n:], now), true
}

// check compares the table with its bounds and its own counts.
func (r *reassembler) check(t *testing.T) {
	t.Helper()
	cost, clients := 0, 0
	for e := r.order.Front(); e != nil; e = e.Next() {
		d := e.Value.(*incomplete)
		own := packetCost
		for i, p := range d.pieces {
			own += len(p.data) + pieceCost
			if i > 0 && d.pieces[i-1].end() > p.offset {
				t.Fatalf("pieces overlap: %+v", d)
			}
		}
		if own != d.cost || len(d.pieces) > fragmentPieces || d.condemned && d.pieces != nil || r.held[d.key] != e {
			t.Fatalf("packet costs %d, noted %d, of %d pieces, condemned %v", own, d.cost, len(d.pieces), d.condemned)
		}
		cost += own
	}
	for who, n := range r.perClient {
		if clients += n; n <= 0 || n > fragmentPacketsPerClient {
			t.Fatalf("%v has %d packets", who, n)
		}
	}
	if cost != r.bytes || cost > fragmentBytes || r.order.Len() > fragmentPackets || len(r.held) != r.order.Len() || clients != r.order.Len() {
		t.Fatalf("%d bytes, noted %d; %d packets, %d keys, %d of clients", cost, r.bytes, r.order.Len(), len(r.held), clients)
	}
}

// FuzzReassemble cuts a packet anywhere and puts the fragments together in any
// order, some of them twice. Property: exactly one packet comes out, identical
// to what was cut, and nothing stays behind.
func FuzzReassemble(f *testing.F) {
	f.Add(false, uint16(100), uint64(1), uint8(1))
	f.Add(true, uint16(1440), uint64(2), uint8(3))
	f.Add(false, uint16(65495), uint64(3), uint8(127))
	f.Add(true, uint16(65475), uint64(4), uint8(100))
	f.Add(true, uint16(5), uint64(5), uint8(0))
	f.Fuzz(func(t *testing.T, v6 bool, size uint16, seed uint64, cuts uint8) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := min(int(size), maxPacket-ipv6HeaderLen-tcpHeaderLen)
		pkt := testPacket(v6, byte(r.IntN(4)), 1, n)
		data := tcpHeaderLen + n
		at := []int{0, data}
		for range cuts % fragmentPieces {
			if c := 24 + 8*r.IntN(data/8+1); c < data { // the first holds the TCP header
				at = append(at, c)
			}
		}
		slices.Sort(at)
		at = slices.Compact(at)
		if len(at) == 2 {
			return // one piece is no fragment
		}
		var frags [][]byte
		for i := range len(at) - 1 {
			frags = append(frags, stacktest.Fragment(pkt, 77, at[i], at[i+1]))
		}
		r.Shuffle(len(frags), func(i, j int) { frags[i], frags[j] = frags[j], frags[i] })

		var stats counters
		table := newReassembler(&stats)
		now := time.Unix(1000, 0)
		for i, frag := range frags {
			if i > 0 && r.IntN(4) == 0 {
				if whole, ok := putFragment(table, frags[r.IntN(i)], now); whole != nil || !ok {
					t.Fatalf("a duplicate made %x, fragment %v", whole, ok)
				}
			}
			whole, ok := putFragment(table, frag, now)
			switch {
			case !ok:
				t.Fatalf("no fragment: %x", frag)
			case i < len(frags)-1 && whole != nil:
				t.Fatalf("whole after %d of %d", i+1, len(frags))
			case i == len(frags)-1 && !bytes.Equal(whole, pkt):
				t.Fatalf("got  %x\nwant %x", whole, pkt)
			}
			table.check(t)
		}
		if len(table.held) != 0 || table.bytes != 0 || stats.reassembled.Load() != 1 {
			t.Fatalf("%d packets of %d bytes stay behind", len(table.held), table.bytes)
		}
	})
}

// FuzzFragments makes fragments of the input, four bytes each: a table that
// many of them meet. Properties: nothing panics, the bounds hold after each,
// what comes out is a well-formed packet that is no fragment, and 5 s later
// nothing is held.
func FuzzFragments(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0, 1, 2, 3}, 300))
	f.Add([]byte{0, 0, 0, 8, 0, 0, 8, 9})
	f.Add([]byte{0x80, 0, 0, 8, 0x80, 0, 8, 0x49})
	many := make([]byte, 0, 4*1000)
	for i := range 1000 {
		many = append(many, byte(i), byte(i>>8), byte(i*3), 0x3f)
	}
	f.Add(many)
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 1<<12 {
			return
		}
		var stats counters
		table := newReassembler(&stats)
		now := time.Unix(1000, 0)
		packets := map[bool][]byte{false: testPacket(false, 0, 1, 60000), true: testPacket(true, 0, 1, 60000)}
		for ; len(script) >= 4; script = script[4:] {
			// Source and IP version, id, place, length and whether it is the last.
			ip := packets[script[0]&0x80 != 0]
			ip[15] = script[0] & 0x7f
			if ip[0] == 0x45 {
				ip[10], ip[11] = 0, 0
				binary.BigEndian.PutUint16(ip[10:], ^checksum.Checksum(ip[:ipv4HeaderLen], 0))
			}
			ip[len(ip)-1] = script[3] // other bytes at the same place
			from := int(script[2]) * 8
			if script[3]&0x80 != 0 {
				from *= 29
			}
			to := from + 8*int(script[3]&0x3f)*20
			if script[3]&0x40 != 0 {
				to = from + 8*int(script[3]&0x3f)
			}
			cut := ip
			if script[1]&0x80 != 0 && to+ipv6HeaderLen < len(ip) { // the end is here
				cut = ip[:to+ipv4HeaderLen]
				if ip[0] != 0x45 {
					cut = ip[:to+ipv6HeaderLen]
				}
			}
			to = min(to, len(cut)-ipv6HeaderLen)
			if from > to {
				continue
			}
			whole, _ := putFragment(table, stacktest.Fragment(cut, uint32(script[1]&0x3f), from, to), now)
			if whole != nil {
				p, bad := parseIP(whole[:min(len(whole), headLen)], len(whole))
				if bad != badNothing || p.frag.is || p.proto != protoTCP {
					t.Fatalf("%d: %x", bad, whole)
				}
			}
			table.check(t)
			now = now.Add(time.Millisecond)
		}
		table.sweep(now.Add(fragmentTimeout))
		if len(table.held) != 0 || table.bytes != 0 || len(table.perClient) != 0 {
			t.Fatalf("%d packets held after the timeout", len(table.held))
		}
	})
}

// FuzzRawFragments: whatever parseIP lets through, the reassembler survives.
func FuzzRawFragments(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		for _, frag := range stacktest.Fragments(testPacket(v6, 0, 1, 100), 77, 48) {
			f.Add(frag, true)
		}
	}
	f.Fuzz(func(t *testing.T, ip []byte, fix bool) {
		if fix && len(ip) >= ipv6HeaderLen && len(ip) <= maxPacket {
			if ip[0]>>4 == 6 {
				binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6HeaderLen))
			} else {
				ip[0] = 0x45
				binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
				ip[10], ip[11] = 0, 0
				binary.BigEndian.PutUint16(ip[10:], ^checksum.Checksum(ip[:ipv4HeaderLen], 0))
			}
		}
		var stats counters
		table := newReassembler(&stats)
		// The other fragments of the seeds: some mutants complete a packet.
		for _, v6 := range []bool{false, true} {
			for _, frag := range stacktest.Fragments(testPacket(v6, 0, 1, 100), 77, 48)[1:] {
				putFragment(table, frag, time.Unix(1000, 0))
			}
		}
		if whole, _ := putFragment(table, ip, time.Unix(1001, 0)); whole != nil {
			if p, bad := parseIP(whole[:min(len(whole), headLen)], len(whole)); bad != badNothing || p.frag.is {
				t.Fatalf("%d: %x", bad, whole)
			}
		}
		table.check(t)
	})
}

// ECN of the whole packet: congestion that one fragment met is not lost (RFC
// 3168, section 5.3).
func TestReassembleCongestion(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		capable, congested := testPacket(v6, 2, 1, 100), testPacket(v6, ecnCE, 1, 100)
		var stats counters
		table := newReassembler(&stats)
		putFragment(table, stacktest.Fragment(capable, 77, 0, 48), time.Unix(1000, 0))
		whole, _ := putFragment(table, stacktest.Fragment(congested, 77, 48, 120), time.Unix(1000, 0))
		if !bytes.Equal(whole, congested) {
			t.Errorf("got  %x\nwant %x", whole, congested)
		}
	}
}

// The time of a packet starts with its first fragment.
func TestReassembleTimeout(t *testing.T) {
	pkt := testPacket(false, 0, 1, 100)
	for _, tc := range []struct {
		after time.Duration
		whole bool
	}{{fragmentTimeout - 1, true}, {fragmentTimeout, false}} {
		var stats counters
		table := newReassembler(&stats)
		start := time.Unix(1000, 0)
		putFragment(table, stacktest.Fragment(pkt, 77, 48, 96), start)
		putFragment(table, stacktest.Fragment(pkt, 77, 0, 48), start.Add(time.Second))
		whole, _ := putFragment(table, stacktest.Fragment(pkt, 77, 96, 120), start.Add(tc.after))
		if got := whole != nil; got != tc.whole || stats.fragmentsTimedOut.Load() == 0 != tc.whole {
			t.Errorf("after %v: whole %v, %d timed out", tc.after, got, stats.fragmentsTimedOut.Load())
		}
	}
}
