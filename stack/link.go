package stack

import (
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/sslgate/sslgate/stack/sender"
)

// GSOPayload is the largest data in bytes that is handed to the device as one segment: 45
// segments of 1448 (MTU 1500, IPv4, timestamps), so that the last packet of each is as
// full as the others. With 32 KiB downloads ran at 0.7 of the rate.
const GSOPayload = 45 * 1448

// gsoMax makes netstack build segments of GSOPayload: netstack subtracts 129 bytes for
// headers.
const gsoMax = GSOPayload + header.TCPTotalHeaderMaximumSize + 1

// link is netstack's network interface: it sends to the device what netstack writes.
// Packets from the device are received in rx.go.
type link struct {
	queues  []deviceQueue // of the device, at least one
	mtu     uint32
	offload bool
	stats   *counters

	mu         sync.RWMutex
	dispatcher gstack.NetworkDispatcher

	batches sync.Pool // of *txBatch

	paced *sender.Sender // nil: netstack's own sender
	acks  *sender.DelayedACKs
}

// txBatch holds the buffers of one WriteBatch: the packets as lists of slices, and their
// virtio-net headers.
type txBatch struct {
	pkts   [][][]byte
	slices [][]byte
	vnet   []*[VirtioHeaderLen]byte
	used   int // of vnet
	bytes  int
}

func newLink(dev Device, stats *counters) *link {
	l := &link{
		queues:  queuesOf(dev),
		mtu:     uint32(dev.MTU()),
		offload: dev.Offload(),
		stats:   stats,
	}
	l.acks = sender.NewDelayedACKs(l.Whole, &stats.acksMerged)
	return l
}

// WritePackets sends the packets in one batch. It never returns an error, not even for a
// packet that the device does not take. An error would make netstack end the connection,
// but a lost packet is only sent again, as on every network.
func (l *link) WritePackets(list gstack.PacketBufferList) (int, tcpip.Error) {
	pkts := list.AsSlice()
	if len(l.queues) > 1 || l.paced != nil { // each packet goes to the queue of its flow
		for _, p := range pkts {
			_ = l.WritePacket(p)
		}
		return len(pkts), nil
	}
	b := l.batch()
	for _, p := range pkts {
		if !l.acks.Takes(p) {
			l.acks.Sent(p.NetworkHeader().Slice(), p.TransportHeader().Slice())
			l.add(b, p)
		}
	}
	l.send(b)
	return len(pkts), nil
}

// WritePacket is WritePackets for one packet. It makes link netstack's queueing
// discipline, because netstack's own makes a list for each packet.
func (l *link) WritePacket(p *gstack.PacketBuffer) tcpip.Error {
	if l.paced != nil && l.paced.Out(p) || l.acks.Takes(p) {
		return nil
	}
	l.Whole(p)
	return nil
}

// Whole sends a packet as netstack has made it.
func (l *link) Whole(p *gstack.PacketBuffer) {
	l.acks.Sent(p.NetworkHeader().Slice(), p.TransportHeader().Slice())
	b := l.batch()
	l.add(b, p)
	l.send(b)
}

// Part sends a part of a packet.
func (l *link) Part(p sender.Part) {
	ip := ipv4HeaderLen
	if p.V6 {
		ip = ipv6HeaderLen
	}
	l.acks.Sent(p.Head[:ip], p.Head[ip:])
	b := l.batch()
	first := len(b.slices)
	b.slices = append(b.slices, b.header(l.partHeader(p)), p.Head)
	if p.Pkt != nil {
		sender.Data(p.Pkt, p.At, p.Size, func(piece []byte) { b.slices = append(b.slices, piece) })
	}
	b.bytes += len(p.Head) + p.Size
	b.flatten(first, 2)
	b.pkts = append(b.pkts, b.slices[first:len(b.slices):len(b.slices)])
	l.send(b)
}

// maxPieces bounds the slices of one packet. Netstack merges many small writes made while
// the window was closed, and keeps a view for each. The kernel takes no more than 1024
// slices (UIO_MAXIOV), and far fewer are already quicker to copy into one.
const maxPieces = 16

func (l *link) batch() *txBatch {
	b, ok := l.batches.Get().(*txBatch)
	if !ok {
		b = new(txBatch)
	}
	return b
}

// add puts a packet into the batch.
func (l *link) add(b *txBatch, p *gstack.PacketBuffer) {
	first := len(b.slices)
	b.slices = append(b.slices, b.header(l.txHeader(p)))
	views, offset := p.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		s := v.AsSlice()
		if offset >= len(s) {
			offset -= len(s)
			continue
		}
		b.slices = append(b.slices, s[offset:])
		b.bytes += len(s) - offset
		offset = 0
	}
	b.flatten(first, 1)
	// If append has moved b.slices, earlier packets point into the old array, which still
	// holds the right slices.
	b.pkts = append(b.pkts, b.slices[first:len(b.slices):len(b.slices)])
}

// flatten copies the slices of the packet that begins at first into one, but for the first
// keep of them, if they are more than maxPieces.
func (b *txBatch) flatten(first, keep int) {
	if len(b.slices)-first <= maxPieces {
		return
	}
	pieces := b.slices[first+keep:]
	whole := slices.Concat(pieces...)
	clear(pieces)
	b.slices = append(b.slices[:first+keep], whole)
}

// send writes the batch to the queue of its first packet, and returns the batch to the
// pool.
func (l *link) send(b *txBatch) {
	if len(b.pkts) > 0 {
		l.write(b.pkts, b.bytes)
	}
	clear(b.pkts)
	clear(b.slices)
	b.pkts, b.slices, b.used, b.bytes = b.pkts[:0], b.slices[:0], 0, 0
	l.batches.Put(b)
}

// header takes the next virtio-net header of the batch.
func (b *txBatch) header(h vnetHeader) []byte {
	if b.used == len(b.vnet) {
		b.vnet = append(b.vnet, new([VirtioHeaderLen]byte))
	}
	at := b.vnet[b.used]
	b.used++
	h.encode(at[:])
	return at[:]
}

// write sends finished packets and counts them. With several queues, all of them are of
// one flow.
func (l *link) write(pkts [][][]byte, bytes int) {
	n, err := l.queueOf(pkts[0][1]).WriteBatch(pkts)
	l.stats.packetsOut.Add(uint64(n))
	l.stats.bytesOut.Add(uint64(bytes))
	if err != nil || n < len(pkts) {
		l.stats.writeErrors.Add(uint64(len(pkts) - n))
	}
}

// txHeader tells the device which work netstack has left to it: checksum and
// segmentation.
func (l *link) txHeader(p *gstack.PacketBuffer) vnetHeader {
	if !l.offload || p.GSOOptions.Type == gstack.GSONone {
		return vnetHeader{}
	}
	h := vnetHeader{hdrLen: uint16(p.HeaderSize())}
	if p.GSOOptions.NeedsCsum {
		h.flags = vnetNeedsCsum
		h.csumStart = p.GSOOptions.L3HdrLen
		h.csumOffset = p.GSOOptions.CsumOffset
	}
	if p.Data().Size() > int(p.GSOOptions.MSS) {
		h.gsoType = vnetGSOTCPv4
		if p.GSOOptions.Type == gstack.GSOTCPv6 {
			h.gsoType = vnetGSOTCPv6
		}
		h.gsoSize = p.GSOOptions.MSS
	}
	return h
}

// partHeader is txHeader for a part of a packet.
func (l *link) partHeader(p sender.Part) vnetHeader {
	if !l.offload || p.Pkt == nil {
		return vnetHeader{}
	}
	ip, gso := ipv4HeaderLen, uint8(vnetGSOTCPv4)
	if p.V6 {
		ip, gso = ipv6HeaderLen, vnetGSOTCPv6
	}
	h := vnetHeader{
		flags: vnetNeedsCsum, hdrLen: uint16(len(p.Head)),
		csumStart: uint16(ip), csumOffset: header.TCPChecksumOffset,
	}
	if p.Size > p.MSS {
		h.gsoType, h.gsoSize = gso, uint16(p.MSS)
	}
	return h
}

// deliver hands a packet to netstack.
func (l *link) deliver(proto tcpip.NetworkProtocolNumber, p *gstack.PacketBuffer) {
	l.mu.RLock()
	d := l.dispatcher
	l.mu.RUnlock()
	if d != nil {
		d.DeliverNetworkPacket(proto, p)
	}
}

// Attach is called by netstack with the dispatcher that receives packets; nil removes it.
func (l *link) Attach(d gstack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached says whether Attach was called.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// Capabilities says that netstack need not verify checksums of received packets: the gate
// has verified them, or the kernel vouches for them.
func (l *link) Capabilities() gstack.LinkEndpointCapabilities {
	return gstack.CapabilityRXChecksumOffload
}

// SupportedGSO says whether the device cuts large segments.
func (l *link) SupportedGSO() gstack.SupportedGSO {
	if l.offload {
		return gstack.HostGSOSupported
	}
	return gstack.GSONotSupported
}

// The rest of the interface. There is no link layer, and no goroutine of link's own to
// wait for.

func (l *link) GSOMaxSize() uint32                       { return gsoMax }
func (l *link) MTU() uint32                              { return l.mtu }
func (*link) SetMTU(uint32)                              {}
func (*link) MaxHeaderLength() uint16                    { return 0 }
func (*link) LinkAddress() tcpip.LinkAddress             { return "" }
func (*link) SetLinkAddress(tcpip.LinkAddress)           {}
func (*link) ARPHardwareType() header.ARPHardwareType    { return header.ARPHardwareNone }
func (*link) AddHeader(*gstack.PacketBuffer)             {}
func (*link) ParseHeader(*gstack.PacketBuffer) (ok bool) { return true }
func (*link) Wait()                                      {}
func (*link) Close()                                     {}
func (*link) SetOnCloseAction(func())                    {}

var (
	_ gstack.LinkEndpoint       = (*link)(nil)
	_ gstack.GSOEndpoint        = (*link)(nil)
	_ gstack.QueueingDiscipline = (*link)(nil)
	_ sender.Device             = (*link)(nil)
)
