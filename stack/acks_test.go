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
				if got := outdated(tt.first, tt.later); got != tt.want {
					t.Errorf("IPv6 %t, timestamps %t, %s: %t", v6, ts, name, got)
				}
				if got := outdated(tt.later, tt.first); got && name != "less" {
					t.Errorf("IPv6 %t, timestamps %t, %s, the other way round", v6, ts, name)
				}
			}
		}
	}
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

// FuzzOutdated: a packet is dropped only if it is a bare acknowledgement, and another
// bare acknowledgement of the same connection acknowledges strictly more. Two packets
// never outdate each other.
func FuzzOutdated(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, v6 := range []bool{false, true} {
		for _, ts := range []bool{false, true} {
			a, b := ackPacket(v6, 1, ts), ackPacket(v6, 2, ts)
			f.Add(a, b)
			for range 30 {
				c := bytes.Clone(b)
				c[r.IntN(len(c))] ^= 1 << r.IntN(8)
				f.Add(a, c)
			}
		}
	}
	f.Fuzz(func(t *testing.T, first, later []byte) {
		if !outdated(first, later) {
			return
		}
		if outdated(later, first) {
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
			if n := int(b[12]>>4) * 4; n != len(b) || n != 20 && (n != 32 || !bytes.Equal(b[20:24], []byte{1, 1, 8, 10})) {
				t.Fatalf("data, or other options than timestamps: %x", b)
			}
		}
		if d := binary.BigEndian.Uint32(t2[8:]) - binary.BigEndian.Uint32(t1[8:]); d == 0 || d >= 1<<31 {
			t.Fatalf("acknowledges %d more", int32(d))
		}
	})
}
