package stack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// ackPacket is an IP packet that is nothing but an acknowledgement.
func ackPacket(v6 bool, ack uint32, timestamps bool) []byte {
	tcp := make([]byte, tcpHeaderLen, tcpHeaderLen+12)
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], 443)
	binary.BigEndian.PutUint32(tcp[4:], 1000)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[13] = flagACK
	if timestamps {
		tcp = append(tcp, 1, 1, 8, 10, 0, 0, 0, byte(ack), 0, 0, 0, 9)
	}
	tcp[12] = byte(len(tcp) / 4 << 4)
	if v6 {
		ip := make([]byte, ipv6HeaderLen)
		ip[0], ip[6], ip[7], ip[23], ip[39] = 0x60, protoTCP, 64, 1, 2
		binary.BigEndian.PutUint16(ip[4:], uint16(len(tcp)))
		return append(ip, tcp...)
	}
	ip := make([]byte, ipv4HeaderLen)
	ip[0], ip[6], ip[8], ip[9], ip[15], ip[19] = 0x45, 0x40, 64, protoTCP, 1, 2
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(tcp)))
	return append(ip, tcp...)
}

// outdated is bareACK.outdated of a packet that is not read yet.
func outdated(first, later []byte, sacks bool) bool {
	a, ok := readBareACK(first)
	return ok && a.thins(sacks) && a.outdated(first, later, sacks)
}

func TestOutdated(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, ts := range []bool{false, true} {
			first := ackPacket(v6, 5000, ts)
			off := ipv4HeaderLen
			if v6 {
				off = ipv6HeaderLen
			}
			change := func(at int, to ...byte) []byte {
				b := ackPacket(v6, 6000, ts)
				copy(b[at:], to)
				return b
			}
			with := func(b []byte, more ...byte) []byte {
				b = append(bytes.Clone(b), more...)
				if v6 {
					binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6HeaderLen))
				} else {
					binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
				}
				return b
			}
			later := ackPacket(v6, 6000, ts)
			sack := with(later, 1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2)
			sack[off+12] += 3 << 4
			for name, tt := range map[string]struct {
				first, later []byte
				want         bool
			}{
				"more":                          {first, later, true},
				"more, across the wrap":         {ackPacket(v6, 0xffffff00, ts), ackPacket(v6, 100, ts), true},
				"the same":                      {first, ackPacket(v6, 5000, ts), false},
				"less":                          {later, first, false},
				"another source port":           {first, change(off+1, 1), false},
				"another destination port":      {first, change(off+3, 1), false},
				"another source":                {first, change(off-5, 9), false},
				"another destination":           {first, change(off-1, 9), false},
				"another sequence number":       {first, change(off+7, 1), false},
				"the first with data":           {with(first, 'x'), with(later, 'x'), false},
				"the later with data":           {first, with(later, 'x'), false},
				"the later with SACK":           {first, sack, false},
				"both with SACK":                {sack, sack, false},
				"other option, same length":     {first, change(off+tcpHeaderLen, 1, 1, 1), !ts},
				"PSH":                           {first, change(off+13, flagACK|8), false},
				"FIN":                           {first, change(off+13, flagACK|1), false},
				"RST":                           {first, change(off+13, flagACK|4), false},
				"SYN":                           {first, change(off+13, flagACK|2), false},
				"URG":                           {first, change(off+13, flagACK|32), false},
				"ECE":                           {first, change(off+13, flagACK|64), false},
				"AE, the ninth flag":            {first, change(off+12, first[off+12]|1), false},
				"cut off":                       {first, later[:len(later)-1], false},
				"cut off, both":                 {first[:len(first)-1], later[:len(later)-1], false},
				"not TCP":                       {first, change(map[bool]int{false: 9, true: 6}[v6], 17), false},
				"another family":                {first, ackPacket(!v6, 6000, ts), false},
				"a fragment":                    {first, change(6, 0x20, 0), false},
				"header length beyond the end":  {first, change(off+12, 0xf0), false},
				"header length before the data": {first, change(off+12, 0x40), false},
			} {
				for _, sacks := range []bool{false, true} {
					if got := outdated(tt.first, tt.later, sacks); got != (tt.want || sacks && name == "the later with SACK") {
						t.Errorf("IPv6 %t, timestamps %t, SACK blocks %t, %s: %t", v6, ts, sacks, name, got)
					}
				}
				if got := outdated(tt.later, tt.first, true); got && name != "less" {
					t.Errorf("IPv6 %t, timestamps %t, %s, the other way round", v6, ts, name)
				}
			}
		}
	}
}

// Of two acknowledgements with SACK blocks the first is dropped only if the second says
// all that it says.
func TestOutdatedSACK(t *testing.T) {
	type blocks [][2]uint32
	for name, tt := range map[string]struct {
		ack1   uint32
		first  blocks
		ack2   uint32
		second blocks
		want   bool
	}{
		"a block that grows":          {100, blocks{{200, 300}}, 100, blocks{{200, 400}}, true},
		"one more hole":               {100, blocks{{200, 300}}, 100, blocks{{400, 500}, {200, 300}}, true},
		"a hole is filled":            {100, blocks{{400, 500}, {200, 300}}, 100, blocks{{200, 500}}, true},
		"all is acknowledged":         {100, blocks{{400, 500}, {200, 300}}, 500, nil, true},
		"some is acknowledged":        {100, blocks{{400, 500}, {200, 300}}, 300, blocks{{400, 500}}, true},
		"the first block":             {100, nil, 100, blocks{{200, 300}}, true},
		"across the wrap":             {1<<32 - 100, blocks{{1<<32 - 50, 10}}, 1<<32 - 100, blocks{{1<<32 - 50, 20}}, true},
		"the same":                    {100, blocks{{200, 300}}, 100, blocks{{200, 300}}, false},
		"the same in another order":   {100, blocks{{400, 500}, {200, 300}}, 100, blocks{{200, 300}, {400, 500}}, false},
		"less":                        {100, blocks{{200, 400}}, 100, blocks{{200, 300}}, false},
		"a block is missing":          {100, blocks{{200, 300}}, 100, blocks{{400, 500}}, false},
		"acknowledges less":           {200, blocks{{300, 400}}, 100, blocks{{300, 500}}, false},
		"a block that ends first":     {100, blocks{{300, 200}}, 100, blocks{{100, 400}}, false},
		"a block far away":            {100, blocks{{1 << 31, 1<<31 + 1}}, 100, blocks{{1 << 31, 1<<31 + 2}}, false},
		"acknowledges far more":       {100, nil, 100 + 1<<30, nil, false},
		"twice, below what is known":  {100, blocks{{50, 80}}, 100, blocks{{200, 300}}, false},
		"twice, within another block": {100, blocks{{200, 250}, {200, 300}}, 100, blocks{{200, 400}}, false},
		"the later tells of twice":    {100, blocks{{200, 300}}, 100, blocks{{50, 80}, {200, 300}}, true},
	} {
		for _, v6 := range []bool{false, true} {
			for _, ts := range []bool{false, true} {
				first, second := sackPacket(v6, tt.ack1, ts, tt.first), sackPacket(v6, tt.ack2, ts, tt.second)
				if got := outdated(first, second, true); got != tt.want {
					t.Errorf("IPv6 %t, timestamps %t, %s: %t", v6, ts, name, got)
				}
				if outdated(first, second, false) && len(tt.first)+len(tt.second) > 0 {
					t.Errorf("IPv6 %t, timestamps %t, %s: dropped where netstack counts them", v6, ts, name)
				}
				if outdated(first, sackPacket(v6, tt.ack2, !ts, tt.second), true) {
					t.Errorf("IPv6 %t, timestamps %t, %s: the second is of another kind", v6, ts, name)
				}
			}
		}
	}
}

// sackPacket is ackPacket with SACK blocks.
func sackPacket(v6 bool, ack uint32, timestamps bool, blocks [][2]uint32) []byte {
	b := ackPacket(v6, ack, timestamps)
	if len(blocks) == 0 {
		return b
	}
	off := ipv4HeaderLen
	if v6 {
		off = ipv6HeaderLen
	}
	b = append(b, 1, 1, 5, byte(2+8*len(blocks)))
	for _, x := range blocks {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, x[0]), x[1])
	}
	b[off+12] = byte((len(b) - off) / 4 << 4)
	if v6 {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6HeaderLen))
	} else {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	}
	return b
}

// dissect finds addresses and TCP header of a packet by RFC 791 and RFC 8200, without the
// code of acks.go.
func dissect(b []byte) (addresses, tcp []byte, ok bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		n := int(b[0]&15) * 4
		if n != 20 || b[9] != 6 || len(b) < n+20 || b[6]&0x20 != 0 || b[6]&0x1f != 0 || b[7] != 0 || int(b[2])<<8+int(b[3]) != len(b) {
			return nil, nil, false
		}
		return b[12:20], b[20:], true
	case len(b) >= 60 && b[0]>>4 == 6:
		if b[6] != 6 || int(b[4])<<8+int(b[5])+40 != len(b) {
			return nil, nil, false
		}
		return b[8:40], b[40:], true
	}
	return nil, nil, false
}

// toldBy is which of the 32 bytes from base on an acknowledgement tells of, and whether the first block tells of bytes that came twice.
func toldBy(t *testing.T, tcp []byte, base uint32) (told map[uint32]bool, twice bool) {
	t.Helper()
	told = map[uint32]bool{}
	ack := binary.BigEndian.Uint32(tcp[8:])
	in := func(x, from, to uint32) bool { return int32(x-from) >= 0 && int32(to-x) > 0 }
	o := tcp[20:]
	if len(o) >= 12 && bytes.Equal(o[:4], []byte{1, 1, 8, 10}) {
		o = o[12:]
	}
	if len(o) > 0 && (len(o) < 12 || !bytes.Equal(o[:3], []byte{1, 1, 5}) || int(o[3]) != len(o)-2) {
		t.Fatalf("other options than timestamps and SACK: %x", tcp)
	}
	var last [2]uint32
	for i := 4; i+8 <= len(o); i += 8 {
		from, to := binary.BigEndian.Uint32(o[i:]), binary.BigEndian.Uint32(o[i+4:])
		if i == 4 && int32(to-ack) <= 0 || i == 12 && int32(last[0]-from) >= 0 && int32(to-last[1]) >= 0 {
			twice = true
		}
		last = [2]uint32{from, to}
		for d := range uint32(32) {
			told[base+d] = told[base+d] || in(base+d, from, to)
		}
	}
	for d := range uint32(32) {
		told[base+d] = told[base+d] || int32(ack-(base+d)) > 0
	}
	return told, twice
}

// FuzzOutdated: a packet is dropped only if it is a bare acknowledgement, and another
// bare acknowledgement of the same connection says all that it says and more. Two packets
// never outdate each other.
func FuzzOutdated(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, v6 := range []bool{false, true} {
		for _, ts := range []bool{false, true} {
			for _, pair := range [][2][]byte{
				{ackPacket(v6, 1, ts), ackPacket(v6, 2, ts)},
				{sackPacket(v6, 1, ts, [][2]uint32{{3, 5}}), sackPacket(v6, 1, ts, [][2]uint32{{8, 9}, {3, 6}})},
				{sackPacket(v6, 1, ts, [][2]uint32{{8, 9}, {3, 5}}), sackPacket(v6, 5, ts, [][2]uint32{{8, 9}})},
			} {
				a, b := pair[0], pair[1]
				f.Add(a, b)
				for range 30 {
					c := bytes.Clone(b)
					c[r.IntN(len(c))] ^= 1 << r.IntN(8)
					f.Add(a, c)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, first, later []byte) {
		if outdated(first, later, false) && !outdated(first, later, true) {
			t.Fatal("dropped only where SACK blocks count")
		}
		if !outdated(first, later, true) {
			return
		}
		if outdated(later, first, true) {
			t.Fatal("each outdates the other")
		}
		a1, t1, ok1 := dissect(first)
		a2, t2, ok2 := dissect(later)
		if !ok1 || !ok2 || !bytes.Equal(a1, a2) || !bytes.Equal(t1[:8], t2[:8]) {
			t.Fatalf("not of one connection, or at another place of it:\n%x\n%x", first, later)
		}
		for _, b := range [][]byte{t1, t2} {
			if b[13] != 0x10 || b[12]&15 != 0 {
				t.Fatalf("flags %02x%02x", b[12]&15, b[13])
			}
			if n := int(b[12]>>4) * 4; n != len(b) {
				t.Fatalf("data: %x", b)
			}
		}
		more := int32(binary.BigEndian.Uint32(t2[8:]) - binary.BigEndian.Uint32(t1[8:]))
		if more < 0 || more == 0 && len(t2) <= 32 {
			t.Fatalf("acknowledges %d more", more)
		}
		base := binary.BigEndian.Uint32(t1[8:])
		was, twice := toldBy(t, t1, base)
		is, _ := toldBy(t, t2, base)
		if twice {
			t.Fatalf("what came twice is dropped: %x", t1)
		}
		for at := range was {
			if was[at] && !is[at] {
				t.Fatalf("byte %d is not told of any more:\n%x\n%x", at, t1, t2)
			}
		}
	})
}
