package line

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// large is a frame as the kernel gives it: a segment of size bytes with TCP
// options, whose checksum is that of the pseudo header.
func large(six bool, mss, size int) []byte {
	const options = 12
	src, dst := tcpip.AddrFromSlice(bytes.Repeat([]byte{10}, 4)), tcpip.AddrFromSlice(bytes.Repeat([]byte{77}, 4))
	if six {
		src, dst = tcpip.AddrFromSlice(bytes.Repeat([]byte{0xfd}, 16)), tcpip.AddrFromSlice(bytes.Repeat([]byte{0x77}, 16))
	}
	tcpSize := header.TCPMinimumSize + options + size
	ipSize, kind := header.IPv4MinimumSize, byte(vnetTypeTCPv4)
	if six {
		ipSize, kind = header.IPv6MinimumSize, vnetTypeTCPv6
	}
	b := make([]byte, vnetSize+ethernetSize+ipSize+tcpSize)
	b[0], b[1] = vnetNeedsCsum, kind
	binary.NativeEndian.PutUint16(b[2:], uint16(ethernetSize+ipSize+header.TCPMinimumSize+options))
	binary.NativeEndian.PutUint16(b[4:], uint16(mss))
	binary.NativeEndian.PutUint16(b[6:], uint16(ethernetSize+ipSize))
	binary.NativeEndian.PutUint16(b[8:], 16)
	ip, tcp := b[vnetSize+ethernetSize:], header.TCP(b[vnetSize+ethernetSize+ipSize:])
	if six {
		header.IPv6(ip).Encode(&header.IPv6Fields{PayloadLength: uint16(tcpSize), TransportProtocol: header.TCPProtocolNumber, HopLimit: 64, SrcAddr: src, DstAddr: dst})
	} else {
		h := header.IPv4(ip)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(ipSize + tcpSize), ID: 0xfffe, TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: src, DstAddr: dst})
		h.SetChecksum(^h.CalculateChecksum())
	}
	tcp.Encode(&header.TCPFields{SrcPort: 443, DstPort: 5000, SeqNum: 1<<32 - 5, DataOffset: header.TCPMinimumSize + options, Flags: header.TCPFlagAck | header.TCPFlagPsh | header.TCPFlagFin | tcpCWR})
	for i := range tcp.Payload() {
		tcp.Payload()[i] = byte(i * 7)
	}
	tcp.SetChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(tcpSize)))
	return b
}

// wantGood checks one packet as a receiver would, and returns its TCP segment.
func wantGood(t *testing.T, b []byte, six bool) header.TCP {
	t.Helper()
	ip := b[vnetSize+ethernetSize:]
	var tcp header.TCP
	var src, dst tcpip.Address
	if six {
		h := header.IPv6(ip)
		if !h.IsValid(len(ip)) || int(h.PayloadLength()) != len(ip)-header.IPv6MinimumSize {
			t.Fatalf("IPv6 header of %d bytes: %x", len(ip), ip[:40])
		}
		tcp, src, dst = header.TCP(h.Payload()), h.SourceAddress(), h.DestinationAddress()
	} else {
		h := header.IPv4(ip)
		if !h.IsValid(len(ip)) || int(h.TotalLength()) != len(ip) || !h.IsChecksumValid() {
			t.Fatalf("IPv4 header of %d bytes: %x", len(ip), ip[:20])
		}
		tcp, src, dst = header.TCP(h.Payload()), h.SourceAddress(), h.DestinationAddress()
	}
	if want := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(tcp))); tcp.Checksum() != want {
		// 0 and 0xffff are the same number.
		if checksum.Combine(tcp.Checksum(), ^want) != 0xffff {
			t.Errorf("sum of the pseudo header %#x, want %#x", tcp.Checksum(), want)
		}
	}
	if got := int(binary.NativeEndian.Uint16(b[2:])); got != len(b)-vnetSize-len(tcp.Payload()) {
		t.Errorf("hdr_len %d of %d bytes with %d of data", got, len(b)-vnetSize, len(tcp.Payload()))
	}
	return tcp
}

// FuzzCut: what a segment is cut into are good packets, which put together are
// the segment.
func FuzzCut(f *testing.F) {
	f.Add(false, uint16(1448), uint16(60000), uint8(3))
	f.Add(true, uint16(1428), uint16(2000), uint8(1))
	f.Add(false, uint16(1), uint16(300), uint8(0))
	f.Add(true, uint16(9000), uint16(8999), uint8(0))
	f.Fuzz(func(t *testing.T, six bool, mss, size uint16, at uint8) {
		if mss == 0 || size == 0 || size > 65000 {
			return
		}
		frame := large(six, int(mss), int(size))
		s, ok := parse(frame)
		if !ok {
			t.Fatal("not taken for a large segment")
		}
		if want := (int(size) + int(mss) - 1) / int(mss); s.pieces != want {
			t.Fatalf("%d pieces, want %d", s.pieces, want)
		}
		cuts := []int{0, s.pieces}
		if i := int(at); i > 0 && i < s.pieces {
			cuts = []int{0, i, s.pieces}
		}
		var data []byte
		seq := uint32(1<<32 - 5)
		for k := range len(cuts) - 1 {
			tcp := wantGood(t, s.cut(cuts[k], cuts[k+1]), six)
			if tcp.SequenceNumber() != seq {
				t.Errorf("sequence number %d, want %d", tcp.SequenceNumber(), seq)
			}
			seq += uint32(len(tcp.Payload()))
			data = append(data, tcp.Payload()...)
			last, first := k == len(cuts)-2, k == 0
			if has := tcp.Flags()&(header.TCPFlagFin|header.TCPFlagPsh) != 0; has != last {
				t.Errorf("FIN or PSH %t in part %d of %d", has, k, len(cuts)-1)
			}
			if has := tcp[13]&tcpCWR != 0; has != first {
				t.Errorf("CWR %t in part %d", has, k)
			}
		}
		if !bytes.Equal(data, frame[s.payload:]) {
			t.Error("the parts are not the whole")
		}
	})
}

// FuzzParse: no frame is too strange.
func FuzzParse(f *testing.F) {
	f.Add(large(false, 1448, 3000))
	f.Add(large(true, 1448, 3000))
	f.Fuzz(func(_ *testing.T, frame []byte) {
		w := newLane(nil, nil)
		w.take(frame, &Path{Loss: 0.3, Late: 0.3, Seed: 1}, time.Now())
		if s, ok := parse(frame); ok {
			for i := range min(s.pieces, 3) {
				s.cut(i, i+1)
			}
		}
	})
}
