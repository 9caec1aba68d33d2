package line

import "encoding/binary"

// The virtio_net_hdr before each frame (linux/virtio_net.h).
const (
	vnetSize       = 10
	vnetNeedsCsum  = 1
	vnetTypeNone   = 0
	vnetTypeTCPv4  = 1
	vnetTypeTCPv6  = 4
	vnetTypeECN    = 0x80
	ethernetSize   = 14
	tcpFIN, tcpPSH = 1, 8
	tcpCWR         = 0x80
)

// segment is a frame with a TCP segment larger than the MTU, which a kernel
// would cut into pieces of one MSS before the wire (TSO).
type segment struct {
	frame   []byte
	l3, l4  int // where the IP and the TCP header begin
	payload int // and the data
	mss     int
	pieces  int
}

// parse says whether cut can split the frame, and returns it as a segment.
func parse(frame []byte) (s segment, ok bool) {
	if len(frame) < vnetSize+ethernetSize+20+20 || frame[0]&vnetNeedsCsum == 0 {
		return s, false
	}
	kind := frame[1] &^ vnetTypeECN
	s = segment{frame: frame, l3: vnetSize + ethernetSize}
	s.mss = int(binary.NativeEndian.Uint16(frame[4:]))
	s.l4 = vnetSize + int(binary.NativeEndian.Uint16(frame[6:]))
	version := frame[s.l3] >> 4
	if s.mss == 0 || (kind != vnetTypeTCPv4 || version != 4) && (kind != vnetTypeTCPv6 || version != 6) {
		return s, false
	}
	if least := map[byte]int{4: 20, 6: 40}[version]; s.l4 < s.l3+least || s.l4+20 > len(frame) {
		return s, false
	}
	s.payload = s.l4 + int(frame[s.l4+12]>>4)*4
	if s.payload < s.l4+20 || s.payload >= len(frame) {
		return s, false
	}
	s.pieces = (len(frame) - s.payload + s.mss - 1) / s.mss
	return s, true
}

// cut returns a new frame with the pieces from i up to, but without, j.
func (s segment) cut(i, j int) []byte {
	from, to := s.payload+i*s.mss, min(s.payload+j*s.mss, len(s.frame))
	b := append(append(make([]byte, 0, s.payload+to-from), s.frame[:s.payload]...), s.frame[from:to]...)
	binary.NativeEndian.PutUint16(b[2:], uint16(s.payload-vnetSize)) // hdr_len
	if j-i == 1 {
		b[1] = vnetTypeNone
		binary.NativeEndian.PutUint16(b[4:], 0)
	}
	var wasLen, isLen uint16 // of TCP header and data
	wasLen, isLen = uint16(len(s.frame)-s.l4), uint16(len(b)-s.l4)
	ip := b[s.l3:s.l4]
	if ip[0]>>4 == 4 {
		sum := ^binary.BigEndian.Uint16(ip[10:])
		for at, v := range map[int]uint16{2: uint16(len(b) - s.l3), 4: binary.BigEndian.Uint16(ip[4:]) + uint16(i)} {
			sum = replaced(sum, binary.BigEndian.Uint16(ip[at:]), v)
			binary.BigEndian.PutUint16(ip[at:], v)
		}
		binary.BigEndian.PutUint16(ip[10:], ^sum)
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(b)-s.l3-40))
	}
	tcp := b[s.l4:]
	binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+uint32(i*s.mss))
	if j < s.pieces {
		tcp[13] &^= tcpFIN | tcpPSH
	}
	if i > 0 {
		tcp[13] &^= tcpCWR
	}
	// The next sender completes the checksum. The field holds the sum of the pseudo header, which
	// includes the length.
	binary.BigEndian.PutUint16(tcp[16:], replaced(binary.BigEndian.Uint16(tcp[16:]), wasLen, isLen))
	return b
}

// replaced returns the one's complement sum after one of its words was replaced (RFC 1624).
func replaced(sum, was, is uint16) uint16 {
	n := uint32(sum) + uint32(^was) + uint32(is)
	n = n>>16 + n&0xffff
	return uint16(n>>16 + n&0xffff)
}
