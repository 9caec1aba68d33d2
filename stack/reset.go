package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// resetFor makes the RST that answers a SYN when there is no connection and none is
// wanted (RFC 9293, section 3.10.7.1, state CLOSED, ACK bit off):
// <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>, where the SYN counts as one.
func resetFor(s segment) []byte {
	src, dst := s.dst, s.src
	hdr := ipv4HeaderLen
	if src.Addr().Is6() {
		hdr = ipv6HeaderLen
	}
	pkt := make([]byte, hdr+tcpHeaderLen)

	const hopLimit = 64
	if src.Addr().Is4() {
		pkt[0] = 0x45
		binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
		pkt[6] = 0x40 // don't fragment: an atomic datagram needs no identification (RFC 6864)
		pkt[8], pkt[9] = hopLimit, protoTCP
		copy(pkt[12:], src.Addr().AsSlice())
		copy(pkt[16:], dst.Addr().AsSlice())
		binary.BigEndian.PutUint16(pkt[10:], ^checksum.Checksum(pkt[:hdr], 0))
	} else {
		pkt[0] = 0x60
		binary.BigEndian.PutUint16(pkt[4:], tcpHeaderLen)
		pkt[6], pkt[7] = protoTCP, hopLimit
		copy(pkt[8:], src.Addr().AsSlice())
		copy(pkt[24:], dst.Addr().AsSlice())
	}

	tcp := pkt[hdr:]
	binary.BigEndian.PutUint16(tcp, src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	binary.BigEndian.PutUint32(tcp[8:], s.seq+1+uint32(s.payload))
	tcp[12] = tcpHeaderLen / 4 << 4
	tcp[13] = flagRST | flagACK
	sum := pseudoHeader(src.Addr(), dst.Addr(), protoTCP, tcpHeaderLen)
	binary.BigEndian.PutUint16(tcp[16:], ^checksum.Checksum(tcp, sum))
	return pkt
}
