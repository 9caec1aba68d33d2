package stack

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/sslgate/sslgate/stack/sender"
)

const (
	// rxBatch is how many packets are read at once; their buffers take 2 MiB
	// for each queue.
	rxBatch = 32
	// rxBody is the room behind the head. A view of exactly 64 KiB comes from
	// netstack's pool, a larger one from the heap.
	rxBody = buffer.MaxChunkSize
	// copyMax is the largest body that is copied into a view of its own size. Netstack
	// counts the bytes of a segment, not the 64 KiB view that holds them. Without the
	// copy, small segments would take a multiple of the receive buffer.
	copyMax = 32 << 10
)

// rxSlot is the buffer for one packet.
type rxSlot struct {
	vnet [VirtioHeaderLen]byte
	head [headLen]byte
	body *buffer.View // rxBody bytes
}

// receive reads packets from the queue until the device is closed. It lets the gate judge
// each and hands those that pass to netstack. It adds the number of packets to read.
func (l *link) receive(g *gate, q deviceQueue, read *atomic.Uint64) error {
	slots := make([]rxSlot, rxBatch)
	bufs := make([][][]byte, rxBatch)
	sizes := make([]int, rxBatch)
	for i := range slots {
		s := &slots[i]
		s.body = buffer.NewViewSize(rxBody)
		defer func() { s.body.Release() }()
		bufs[i] = [][]byte{s.vnet[:], s.head[:], s.body.AsSlice()}
	}
	for {
		n, err := q.ReadBatch(bufs, sizes)
		read.Add(uint64(n))
		for i := range n {
			if i+1 < n && l.thinned(slots[i:n], sizes[i:n]) {
				continue
			}
			if l.receiveOne(g, &slots[i], sizes[i]-VirtioHeaderLen) {
				slots[i].body = buffer.NewViewSize(rxBody)
				bufs[i][2] = slots[i].body.AsSlice()
			}
		}
		if err != nil {
			return fmt.Errorf("read from the device: %w", err)
		}
	}
}

// thinned says whether the first of the packets can be skipped, because a later one of
// the same batch says more.
func (l *link) thinned(slots []rxSlot, sizes []int) bool {
	size := sizes[0] - VirtioHeaderLen
	if size < ipv4HeaderLen+tcpHeaderLen || size > maxACKLen {
		return false
	}
	first, sacks := slots[0].head[:size], l.paced != nil
	a, ok := readBareACK(first)
	if !ok || !a.thins(sacks) {
		return false
	}
	for j := 1; j < len(slots); j++ {
		other := sizes[j] - VirtioHeaderLen
		if other < ipv4HeaderLen+tcpHeaderLen || other > maxACKLen {
			continue
		}
		if a.outdated(first, slots[j].head[:other], sacks) {
			l.stats.packetsIn.Add(1)
			l.stats.bytesIn.Add(uint64(size))
			l.stats.acksOutdated.Add(1)
			return true
		}
	}
	return false
}

// receiveOne handles one packet of size bytes. It says whether netstack has
// kept the body of the slot.
func (l *link) receiveOne(g *gate, s *rxSlot, size int) (bodyKept bool) {
	if size < 0 || size > headLen+rxBody {
		l.stats.bad[badLength].Add(1)
		return false
	}
	l.stats.packetsIn.Add(1)
	l.stats.bytesIn.Add(uint64(size))
	var h vnetHeader
	if l.offload {
		h = decodeVnet(s.vnet[:])
	}
	return l.receivePacket(g, s, h, size)
}

// receivePacket is receiveOne for a packet whose size is checked. The packet may have
// been put together from fragments.
func (l *link) receivePacket(g *gate, s *rxSlot, h vnetHeader, size int) (bodyKept bool) {
	head := s.head[:min(size, headLen)]
	rest := s.body.AsSlice()[:size-len(head)]
	p, ok := g.admit(h, head, rest)
	if p.frag.is {
		whole := g.fragments.add(p, head, rest, g.now())
		if whole == nil {
			return false
		}
		// The whole packet takes the slot of the fragment that completed it. Nobody
		// vouches for its checksum. It cannot be a fragment again: see checkFirst.
		copy(s.body.AsSlice(), whole[copy(s.head[:], whole):])
		return l.receivePacket(g, s, vnetHeader{}, len(whole))
	}
	if !ok {
		return false
	}

	proto := header.IPv4ProtocolNumber
	if p.v6 {
		proto = header.IPv6ProtocolNumber
		if p.upper > ipv6HeaderLen {
			head = withoutExtensions(p, head)
		}
	}
	switch {
	case p.proto != protoTCP:
	case !p.tcp.isSYN():
		head = g.stamp(p, head, rest)
	case p.tcp.payload > 0:
		// TCP Fast Open (RFC 7413), which netstack does not support: it acknowledges the
		// SYN alone, and the client sends the data again. So netstack need not keep the
		// data.
		l.stats.synData.Add(1)
		head, rest = withoutData(p.v6, head, p.tcp.flags), nil
	}
	if p.proto == protoTCP && !p.tcp.isSYN() && l.paced != nil {
		if !l.heard(p, head) {
			return false
		}
		p.tcp.sack = false
		if p.tcp.flags&flagRST != 0 {
			defer l.paced.Check(sender.Tuple{Client: p.tcp.src, Dest: p.tcp.dst})
		}
	}
	if p.proto == protoTCP && p.tcp.flags&(flagSYN|flagRST) == 0 {
		l.acks.Expect(sender.Tuple{Client: p.tcp.src, Dest: p.tcp.dst}, p.tcp.seq, p.tcp.payload+int(p.tcp.flags&flagFIN))
	}
	// The headers have a view of their own. Netstack pulls the headers up, which would
	// copy all of a shared view.
	payload := buffer.MakeWithView(buffer.NewViewWithData(head))
	// Append fails only if the size overflows an int.
	switch {
	case len(rest) == 0:
	case len(rest) <= copyMax:
		_ = payload.Append(buffer.NewViewWithData(rest))
	default:
		s.body.CapLength(len(rest))
		_ = payload.Append(s.body)
		bodyKept = true
	}
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: payload})
	defer pkt.DecRef()
	if p.proto == protoTCP && !p.tcp.isSYN() && !g.recovery.take(p.tcp, pkt) {
		return bodyKept
	}
	answer := earlyAll
	if p.proto == protoTCP && !p.tcp.isSYN() && g.early.wanted() {
		answer = g.early.take(p.tcp, pkt)
	}
	switch answer {
	case earlyAll:
		l.deliver(proto, pkt)
	case earlyACK:
		ack := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(withoutData(p.v6, head, flagACK))})
		l.deliver(proto, ack)
		ack.DecRef()
	case earlyNone:
	}
	return bodyKept
}

// heard tells the sender of a segment; head has no extension headers any more. It says
// whether netstack has to see the segment, and takes SACK blocks out of it.
func (l *link) heard(p packet, head []byte) bool {
	tcp := head[ipv4HeaderLen:]
	if p.v6 {
		tcp = head[ipv6HeaderLen:]
	}
	return l.paced.In(sender.Tuple{Client: p.tcp.src, Dest: p.tcp.dst}, tcp[:tcpHeaderSize(tcp)], p.tcp.payload)
}

// withoutExtensions returns head without the IPv6 extension headers that the gate has
// read, so that netstack cannot read them in another way than the gate did.
func withoutExtensions(p packet, head []byte) []byte {
	shift := p.upper - ipv6HeaderLen
	copy(head[shift:p.upper], head[:ipv6HeaderLen])
	head = head[shift:]
	head[6] = p.proto
	binary.BigEndian.PutUint16(head[4:], uint16(p.size-p.upper))
	return head
}
