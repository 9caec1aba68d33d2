package tuntest

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// An end of several queues distributes flows as the kernel does: packets of a flow go
// into the queue that the flow was last written to. Unknown flows go to a queue chosen by
// a hash, which has no ports for fragments.

// tuple identifies a flow as this end reads it.
type tuple struct{ src, dst netip.AddrPort }

// tupleOf reads the tuple of a TCP or UDP packet behind its virtio-net header.
func tupleOf(pkt []byte) (tuple, bool) {
	ip := pkt[min(HeaderLen, len(pkt)):]
	var src, dst netip.Addr
	var ports []byte
	switch {
	case len(ip) >= 24 && ip[0] == 0x45:
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		if binary.BigEndian.Uint16(ip[6:])&0x3fff == 0 {
			ports = ip[20:]
		}
	case len(ip) >= 44 && ip[0]>>4 == 6:
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		if ip[6] == 6 || ip[6] == 17 {
			ports = ip[40:]
		}
	default:
		return tuple{}, false
	}
	if ports == nil {
		return tuple{netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)}, true
	}
	return tuple{
		netip.AddrPortFrom(src, binary.BigEndian.Uint16(ports)),
		netip.AddrPortFrom(dst, binary.BigEndian.Uint16(ports[2:])),
	}, true
}

// steer is the queue that a packet is read from at this end.
func (d *Device) steer(pkt []byte) int {
	t, ok := tupleOf(pkt)
	if len(d.queues) == 1 || !ok {
		return 0
	}
	if n, known := d.steered.Load(t); known {
		return n.(int)
	}
	return int(maphash.Comparable(d.seed, t) % uint64(len(d.queues)))
}

// note records that a packet was written to the queue n of this end.
func (d *Device) note(n int, pkt []byte) {
	t, ok := tupleOf(pkt)
	if !ok || len(d.queues) == 1 {
		return
	}
	if old, known := d.steered.Swap(tuple{t.dst, t.src}, n); known && old != n {
		d.moved.Add(1)
	}
}

// Moved is how often a packet was written to another queue of this end than the previous
// packet of its flow.
func (d *Device) Moved() uint64 { return d.moved.Load() }
