package stack

import "encoding/binary"

// A device of several queues has one reader for each queue. The readers share the gate
// and its state. This is what keeps a flow in order then:
//
//  1. We write all packets of a flow to one queue, chosen by a hash of its addresses and
//     ports (flowHash). A TUN delivers a flow's packets to the queue that the flow was
//     last written to (tun_flow_update in the kernel), so one goroutine receives all of
//     them.
//  2. Packets that come before we have written anything, a SYN above all, go to a queue
//     that the kernel chooses by its own hash. This loses no order: the ACK of a SYN-ACK
//     cannot come before the SYN-ACK was written, and we write it only after the gate and
//     netstack had the SYN.
//  3. In four cases two segments of a flow may still overtake each other, as on every
//     network: a SYN that is sent again, an idle flow (the kernel forgets it after three
//     seconds), more flows than the kernel remembers (4096), and fragments, whose hash
//     has no ports. Netstack sorts segments by sequence number, early.go takes data and
//     the ACK of a cookie in any order, halfopen.go recognizes a SYN by its sequence
//     number, and reassemble.go does not care which queue a fragment came from. The cost
//     is a duplicate acknowledgement.

// deviceQueue reads and writes the packets of one queue. A Device of one queue is its own
// deviceQueue.
type deviceQueue interface {
	ReadBatch(bufs [][][]byte, sizes []int) (int, error)
	WriteBatch(pkts [][][]byte) (int, error)
}

// numbered is a queue of a Device that has several.
type numbered struct {
	dev MultiQueue
	n   int
}

// ReadBatch reads from the queue.
func (q numbered) ReadBatch(bufs [][][]byte, sizes []int) (int, error) {
	return q.dev.ReadQueue(q.n, bufs, sizes)
}

// WriteBatch writes to the queue.
func (q numbered) WriteBatch(pkts [][][]byte) (int, error) { return q.dev.WriteQueue(q.n, pkts) }

func queuesOf(dev Device) []deviceQueue {
	m, ok := dev.(MultiQueue)
	if !ok || m.Queues() <= 1 {
		return []deviceQueue{dev}
	}
	var all []deviceQueue
	for n := range m.Queues() {
		all = append(all, numbered{m, n})
	}
	return all
}

// queueOf is the queue for a packet that is written. ip is the slice that begins with the
// IP header; netstack has the TCP header in it too. With one queue ip is not read.
func (l *link) queueOf(ip []byte) deviceQueue {
	if len(l.queues) == 1 {
		return l.queues[0]
	}
	return l.queues[uint64(flowHash(ip))*uint64(len(l.queues))>>32]
}

// flowHash is the same for all TCP packets of a flow in both directions, and 0 for every
// other packet. It need not be secret: an attacker who finds flows of equal hash only
// gets them all into one queue, and one queue is the default for everybody.
func flowHash(ip []byte) uint32 {
	var addresses uint64
	var tcp []byte
	switch {
	case len(ip) >= ipv4HeaderLen+4 && ip[0] == 0x45 && ip[9] == protoTCP:
		addresses = uint64(binary.BigEndian.Uint32(ip[12:])) + uint64(binary.BigEndian.Uint32(ip[16:]))
		tcp = ip[ipv4HeaderLen:]
	case len(ip) >= ipv6HeaderLen+4 && ip[0]>>4 == 6 && ip[6] == protoTCP:
		addresses = binary.BigEndian.Uint64(ip[8:]) + binary.BigEndian.Uint64(ip[24:]) +
			golden*(binary.BigEndian.Uint64(ip[16:])+binary.BigEndian.Uint64(ip[32:]))
		tcp = ip[ipv6HeaderLen:]
	default:
		return 0
	}
	ports := uint64(binary.BigEndian.Uint16(tcp)) + uint64(binary.BigEndian.Uint16(tcp[2:]))
	return uint32((addresses*golden + ports) * golden >> 32)
}

// golden is 2^64 divided by the golden ratio. Its multiples lie as far apart as possible,
// for example for consecutive ports (Knuth, volume 3, section 6.4).
const golden = 0x9e3779b97f4a7c15
