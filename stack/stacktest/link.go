package stacktest

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// headerLen is the length of the virtio-net header. It is read and written
// here without the code under test, as the kernel would.
const headerLen = 10

// link is the client's interface. It uses everything of the channel endpoint but the
// channel.
type link struct {
	*channel.Endpoint
	dev Device
	wg  sync.WaitGroup
	bad atomic.Uint64 // packets whose offloads a kernel would not take
}

func newLink(dev Device) *link {
	l := &link{Endpoint: channel.New(0, uint32(dev.MTU()), ""), dev: dev}
	if dev.Offload() {
		l.SupportedGSOKind = gstack.HostGSOSupported
		l.LinkEPCapabilities |= gstack.CapabilityRXChecksumOffload
	}
	return l
}

// GSOMaxSize is about the size of the segments that kernels make.
func (*link) GSOMaxSize() uint32 { return 65000 }

// WritePackets writes to the device.
func (l *link) WritePackets(list gstack.PacketBufferList) (int, tcpip.Error) {
	for _, p := range list.AsSlice() {
		hdr := make([]byte, headerLen)
		if l.dev.Offload() && p.GSOOptions.Type != gstack.GSONone {
			hdr[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
			binary.NativeEndian.PutUint16(hdr[2:], uint16(p.HeaderSize()))
			binary.NativeEndian.PutUint16(hdr[6:], p.GSOOptions.L3HdrLen)
			binary.NativeEndian.PutUint16(hdr[8:], p.GSOOptions.CsumOffset)
			if p.Data().Size() > int(p.GSOOptions.MSS) {
				hdr[1] = 1 // VIRTIO_NET_HDR_GSO_TCPV4
				if p.GSOOptions.Type == gstack.GSOTCPv6 {
					hdr[1] = 4
				}
				binary.NativeEndian.PutUint16(hdr[4:], p.GSOOptions.MSS)
			}
		}
		_, _ = l.dev.WriteBatch([][][]byte{append([][]byte{hdr}, p.AsSlices()...)})
	}
	return list.Len(), nil
}

// run hands what comes from the device to netstack until the device is closed.
func (l *link) run() {
	buf := make([]byte, headerLen+65536)
	bufs, sizes := [][][]byte{{buf}}, make([]int, 1)
	for {
		n, err := l.dev.ReadBatch(bufs, sizes)
		if err != nil {
			return
		}
		if n == 1 && sizes[0] > headerLen {
			l.receive(buf[:headerLen], buf[headerLen:sizes[0]])
		}
	}
}

func (l *link) receive(hdr, ip []byte) {
	if l.dev.Offload() && !l.valid(hdr, ip) {
		l.bad.Add(1)
		return
	}
	proto := header.IPv4ProtocolNumber
	if ip[0]>>4 == 6 {
		proto = header.IPv6ProtocolNumber
	}
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(ip)})
	defer pkt.DecRef()
	l.InjectInbound(proto, pkt)
}

// valid checks the offloads of a TCP packet as a kernel does: either the checksum is
// right, or it is to be finished and the header has everything needed for that.
func (l *link) valid(hdr, ip []byte) bool {
	var src, dst tcpip.Address
	var tcp []byte
	switch ip[0] >> 4 {
	case 4:
		h := header.IPv4(ip)
		if !h.IsValid(len(ip)) || !h.IsChecksumValid() {
			return false
		}
		src, dst, tcp = h.SourceAddress(), h.DestinationAddress(), h.Payload()
	case 6:
		h := header.IPv6(ip)
		if !h.IsValid(len(ip)) {
			return false
		}
		src, dst, tcp = h.SourceAddress(), h.DestinationAddress(), h.Payload()
	default:
		return false
	}
	pseudo := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(tcp)))
	const needsCsum = 1
	if hdr[0]&needsCsum == 0 {
		return hdr[1] == 0 && checksum.Checksum(tcp, pseudo) == 0xffff
	}
	l3 := len(ip) - len(tcp)
	if int(binary.NativeEndian.Uint16(hdr[6:])) != l3 || binary.NativeEndian.Uint16(hdr[8:]) != header.TCPChecksumOffset ||
		header.TCP(tcp).Checksum() != pseudo {
		return false
	}
	if hdr[1] == 0 {
		return len(ip) <= l.dev.MTU()
	}
	hdrLen, mss := int(binary.NativeEndian.Uint16(hdr[2:])), int(binary.NativeEndian.Uint16(hdr[4:]))
	return hdrLen == l3+int(header.TCP(tcp).DataOffset()) && mss > 0 && hdrLen+mss <= l.dev.MTU()
}
