package stacktest

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Fragments cuts an IP packet into fragments of size bytes of data each, a multiple of 8;
// the last fragment has the rest. An IPv4 header must have 20 bytes; everything behind
// the fixed IPv6 header counts as data. id identifies the packet; IPv4 uses its low 16
// bits.
func Fragments(ip []byte, id uint32, size int) [][]byte {
	var all [][]byte
	n := len(ip) - headerOf(ip)
	for from := 0; from < n; from += size {
		all = append(all, Fragment(ip, id, from, min(from+size, n)))
	}
	return all
}

// Fragment is the fragment with the data from offset from (a multiple of 8) to offset to,
// both in bytes. More fragments follow unless to is the end of the packet.
func Fragment(ip []byte, id uint32, from, to int) []byte {
	n := headerOf(ip)
	more := to < len(ip)-n
	data := ip[n+from : n+to]
	head := append([]byte(nil), ip[:n]...)
	if n == 20 {
		flags := binary.BigEndian.Uint16(head[6:])&0xc000 | uint16(from/8)
		if more {
			flags |= 0x2000
		}
		binary.BigEndian.PutUint16(head[2:], uint16(n+len(data)))
		binary.BigEndian.PutUint16(head[4:], uint16(id))
		binary.BigEndian.PutUint16(head[6:], flags)
		head[10], head[11] = 0, 0
		binary.BigEndian.PutUint16(head[10:], ^checksum.Checksum(head, 0))
		return append(head, data...)
	}
	ext := make([]byte, 8)
	ext[0] = head[6]
	binary.BigEndian.PutUint16(ext[2:], uint16(from))
	if more {
		ext[3] |= 1
	}
	binary.BigEndian.PutUint32(ext[4:], id)
	head[6] = 44 // IPv6-Frag
	binary.BigEndian.PutUint16(head[4:], uint16(len(ext)+len(data)))
	return append(append(head, ext...), data...)
}

func headerOf(ip []byte) int {
	if ip[0]>>4 == 6 {
		return 40
	}
	return 20
}
