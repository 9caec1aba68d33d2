package stack

import "encoding/binary"

// Flags and kinds of struct virtio_net_hdr (Linux, include/uapi/linux/virtio_net.h).
const (
	vnetNeedsCsum = 1 // flags: the checksum covers only the pseudo-header so far; the receiver adds the rest
	vnetDataValid = 2 // flags: the checksum was verified by hardware

	vnetGSONone  = 0
	vnetGSOTCPv4 = 1
	vnetGSOTCPv6 = 4
)

// vnetHeader is struct virtio_net_hdr. A TUN device uses the byte order of the machine.
type vnetHeader struct {
	flags      uint8
	gsoType    uint8
	hdrLen     uint16 // bytes of all headers of a GSO packet
	gsoSize    uint16 // bytes of payload in each segment (the MSS)
	csumStart  uint16 // where the checksummed bytes start
	csumOffset uint16 // where the checksum lies, from csumStart
}

// encode writes the header into the first VirtioHeaderLen bytes of b.
func (h vnetHeader) encode(b []byte) {
	_ = b[VirtioHeaderLen-1]
	b[0], b[1] = h.flags, h.gsoType
	binary.NativeEndian.PutUint16(b[2:], h.hdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], h.csumStart)
	binary.NativeEndian.PutUint16(b[8:], h.csumOffset)
}

// decodeVnet reads the header from the first VirtioHeaderLen bytes of b.
func decodeVnet(b []byte) vnetHeader {
	_ = b[VirtioHeaderLen-1]
	return vnetHeader{
		flags:      b[0],
		gsoType:    b[1],
		hdrLen:     binary.NativeEndian.Uint16(b[2:]),
		gsoSize:    binary.NativeEndian.Uint16(b[4:]),
		csumStart:  binary.NativeEndian.Uint16(b[6:]),
		csumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}
