package stack

import "encoding/binary"

// A device of several queues has a reader for each, and they share the gate and
// all it knows. What keeps a flow in order then:
//
//  1. Everything of a flow that we write goes to one queue, by a hash of its
//     addresses and ports (flowHash). A TUN sends what comes of a flow to the
//     queue it was last written to (tun_flow_update in the kernel), so one
//     goroutine receives all of it.
//  2. What comes before we have written something, a SYN first of all, is where
//     a hash of the kernel's own puts it. No order is lost between it and what
//     follows: the ACK of a SYN-ACK cannot come before that was written, and the
//     SYN-ACK not be written before the gate and netstack had the SYN.
//  3. Between both lie a SYN that is sent again, an idle flow (the kernel forgets
//     after three seconds), more flows than the kernel remembers (4096), and
//     fragments, whose hash has no ports. There two segments of a flow may
//     overtake each other, as on every network: netstack sorts them by sequence
//     number, early.go takes data and the ACK of a cookie in any order, halfopen.go
//     knows a SYN again by its sequence number, reassemble.go does not ask where a
//     fragment came from. It costs a duplicate acknowledgement.

// deviceQueue is where packets of one queue are read and written; a Device of one
// queue is it itself.
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

// queueOf is the queue for a packet that is written, given the slice that its IP
// header begins: netstack has TCP's in it too. With one queue nothing is looked at.
func (l *link) queueOf(ip []byte) deviceQueue {
	if len(l.queues) == 1 {
		return l.queues[0]
	}
	return l.queues[uint64(flowHash(ip))*uint64(len(l.queues))>>32]
}

// flowHash is the same for all TCP packets of a flow, in either direction; 0 for
// every other packet. It need not be secret: who finds flows of one hash gets them
// all into one queue, which is what everybody has by default.
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

// golden is 2^64 divided by the golden ratio: multiples of it, as of ports that
// follow each other, lie as far apart as can be (Knuth, volume 3, section 6.4).
const golden = 0x9e3779b97f4a7c15
