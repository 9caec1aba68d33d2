package stack

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// IP fragments are put together before the gate decides about the packet, so
// that it sees what netstack will see. A kernel that tracks connections has
// already put them together to steer the packet, but takes it apart again when
// it writes it to the device. What comes by another way is as likely an attack
// as a packet; so nothing is mended here:
//
//  1. a fragment that cannot belong to a packet for us is dropped (refuse);
//  2. the first fragment must hold all headers (checkFirst; RFC 7112, RFC 1858);
//  3. a fragment that overlaps another, or contradicts where the packet ends,
//     condemns the packet and all that still comes of it (RFC 5722, RFC 8200,
//     section 4.5; for IPv4 alike). The very same fragment again is ignored.
//  4. when all is there the packet is rebuilt without a trace of fragments
//     (rebuild) and takes the way of every other one.
//
// IPv6 packets with a fragment header that are whole (RFC 6946) do not come
// here: to parseIPv6 that is one more header to skip.

const (
	// fragmentTimeout is how long a packet may take from its first fragment to
	// arrive to its last. From the kernel they come back to back, and what the
	// network has delayed by more than a retransmission timeout (1 s at first,
	// RFC 6298) TCP has sent again as another packet. So there is no use in
	// the 15 s of RFC 791 or the 60 s of RFC 8200, which only keep the table
	// full.
	fragmentTimeout = 5 * time.Second
	// fragmentPackets is how many incomplete packets are held. In a flood of
	// fragments that never fit, it takes so many others between the fragments
	// of a good packet to lose it.
	fragmentPackets = 256
	// fragmentPacketsPerClient is how many of them one IPv4 address, or one
	// IPv6 /64, may have.
	fragmentPacketsPerClient = 16
	// fragmentBytes bounds the memory of all of them: 64 of the largest.
	fragmentBytes = 4 << 20
	// fragmentPieces is how many fragments a packet may come in: 64 KiB over a
	// hop of 576 bytes are 119.
	fragmentPieces = 128
	// maxPacket is the largest packet in bytes, its IP header included.
	maxPacket = 65535

	// What is held costs more than its bytes, about so many.
	packetCost = 512
	pieceCost  = 64
)

// fragment is what an IP packet says of being one (RFC 791, section 3.1; RFC
// 8200, section 4.5).
type fragment struct {
	id     uint32
	offset uint16 // of its data in the packet's, in bytes
	start  uint16 // of its data in this packet, in bytes
	next   uint8  // the protocol of the packet's data: of IPv6 maybe an extension header
	more   bool   // fragments follow
	is     bool
}

// reassembler holds the incomplete packets. Its methods may be called by
// several goroutines.
type reassembler struct {
	stats *counters

	mu        sync.Mutex
	held      map[fragmentKey]*list.Element
	order     list.List            // of *incomplete, oldest first
	perClient map[netip.Prefix]int // of held, by clientkey.Of; never holds a zero
	bytes     int                  // what held costs
}

// fragmentKey tells packets apart. Of IPv6 only the first fragment says the
// protocol reliably (RFC 8200, section 4.5), there proto is 0.
type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
}

// incomplete is a packet of which fragments are missing, or one that was
// condemned and is remembered only to drop the rest of it.
type incomplete struct {
	key       fragmentKey
	client    netip.Prefix // clientkey.Of the source
	since     time.Time
	header    [ipv6HeaderLen]byte // of the first fragment
	next      uint8               // of the first fragment
	pieces    []piece             // by offset
	have      int                 // bytes of data
	size      int                 // bytes of data when complete; 0: not yet known
	ecn       uint8               // the ECN fields seen: bit n for the value n
	cost      int                 // of held, in bytes
	condemned bool
}

// piece is the data of one fragment.
type piece struct {
	offset int
	data   []byte
}

func (p piece) end() int { return p.offset + len(p.data) }

func newReassembler(stats *counters) *reassembler {
	return &reassembler{
		stats:     stats,
		held:      make(map[fragmentKey]*list.Element),
		perClient: make(map[netip.Prefix]int),
	}
}

// add takes the fragment p, which is head followed by rest, and returns the
// packet that it completes, or nil. It keeps neither slice.
func (r *reassembler) add(p packet, head, rest []byte, now time.Time) []byte {
	r.stats.fragments.Add(1)
	refused, ignored := refuse(p, head)
	if ignored {
		r.stats.ignored.Add(1)
		return nil
	}
	if refused != badNothing {
		r.stats.bad[refused].Add(1)
		return nil
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	e := r.packetOf(p, now)
	d := e.Value.(*incomplete)
	if bad := r.put(d, p, head, rest); bad != badNothing {
		r.stats.bad[bad].Add(1)
		r.condemn(d)
		return nil
	}
	for r.bytes > fragmentBytes {
		r.evict(r.order.Front())
	}
	if d.size == 0 || d.have < d.size || r.held[d.key] != e {
		return nil
	}
	r.remove(e)
	whole := d.rebuild(p.v6)
	if whole == nil {
		r.stats.bad[badFragment].Add(1)
		return nil
	}
	r.stats.reassembled.Add(1)
	return whole
}

// refuse says what is wrong with a fragment by itself; or that its packet is
// well-formed as far as can be seen, but none that the gate would let pass.
func refuse(p packet, head []byte) (bad badKind, ignored bool) {
	f, n := p.frag, p.size-int(p.frag.start)
	headerLen := ipv4HeaderLen
	if p.v6 {
		headerLen = ipv6HeaderLen
	}
	switch {
	case n == 0, f.more && n%8 != 0, headerLen+int(f.offset)+n > maxPacket:
		return badFragment, false
	case f.offset == 0:
		return checkFirst(p, head)
	}
	switch f.next {
	case protoTCP:
		if f.offset < tcpHeaderLen { // the first one held that (RFC 1858)
			return badFragment, false
		}
		return badNothing, false
	case protoICMP:
		return badNothing, p.v6
	case protoICMPv6, protoRouting, protoDestOpts:
		return badNothing, !p.v6
	}
	return badNothing, true
}

// checkFirst is refuse for the first fragment. parseIP has walked through its
// headers, and there was no second fragment header. IPv6 has room for all of
// TCP's header in it (RFC 7112, section 5); over IPv4, where a hop may have an
// MTU of 68 bytes, the options may be cut off.
func checkFirst(p packet, head []byte) (bad badKind, ignored bool) {
	n := p.size - p.upper
	upper := head[p.upper:]
	switch {
	case p.proto == protoTCP:
		if n < tcpHeaderLen {
			return badFragment, false
		}
		if len(upper) < tcpHeaderLen {
			return badOptions, false // pushed out of the head by extension headers
		}
		if p.v6 && n < int(upper[12]>>4)*4 {
			return badFragment, false
		}
		return badNothing, false
	case p.v6 && p.proto == protoICMPv6, !p.v6 && p.proto == protoICMP:
		if n < icmpHeaderLen || len(upper) < icmpHeaderLen {
			return badFragment, false
		}
		return badNothing, !isTooBig(p.v6, upper)
	}
	return badNothing, true
}

// packetOf finds the packet that the fragment belongs to, or begins it.
func (r *reassembler) packetOf(p packet, now time.Time) *list.Element {
	key := fragmentKey{src: p.src, dst: p.dst, id: p.frag.id}
	if !p.v6 {
		key.proto = p.proto
	}
	if e, ok := r.held[key]; ok {
		return e
	}
	who := clientkey.Of(p.src)
	if r.perClient[who] >= fragmentPacketsPerClient {
		for e := r.order.Front(); e != nil; e = e.Next() {
			if e.Value.(*incomplete).client == who {
				r.evict(e)
				break
			}
		}
	}
	if len(r.held) >= fragmentPackets {
		r.evict(r.order.Front())
	}
	e := r.order.PushBack(&incomplete{key: key, client: who, since: now, cost: packetCost})
	r.held[key] = e
	r.perClient[who]++
	r.bytes += packetCost
	return e
}

// put adds the fragment to its packet, unless something is wrong with that.
func (r *reassembler) put(d *incomplete, p packet, head, rest []byte) badKind {
	if d.condemned {
		return badOverlap
	}
	offset := int(p.frag.offset)
	end := offset + p.size - int(p.frag.start)
	switch {
	case d.size != 0:
		if p.frag.more && end >= d.size || !p.frag.more && end != d.size {
			return badOverlap
		}
	case !p.frag.more:
		if n := len(d.pieces); n > 0 && d.pieces[n-1].end() > offset {
			return badOverlap
		}
	}
	at, known := slices.BinarySearchFunc(d.pieces, offset, func(q piece, o int) int { return q.offset - o })
	if known {
		have, first := d.pieces[at].data, head[p.frag.start:]
		if len(have) == end-offset && bytes.Equal(have[:len(first)], first) && bytes.Equal(have[len(first):], rest) {
			return badNothing
		}
		return badOverlap
	}
	if at > 0 && d.pieces[at-1].end() > offset || at < len(d.pieces) && end > d.pieces[at].offset {
		return badOverlap
	}
	if len(d.pieces) >= fragmentPieces {
		return badFragment
	}

	data := append(append(make([]byte, 0, end-offset), head[p.frag.start:]...), rest...)
	d.pieces = slices.Insert(d.pieces, at, piece{offset, data})
	d.have += len(data)
	d.cost += len(data) + pieceCost
	r.bytes += len(data) + pieceCost
	if !p.frag.more {
		d.size = end
	}
	if offset == 0 {
		copy(d.header[:], head)
		d.next = p.frag.next
	}
	d.ecn |= 1 << ecn(p.v6, head)
	return badNothing
}

// condemn gives up the data of a packet, but not its key.
func (r *reassembler) condemn(d *incomplete) {
	r.bytes -= d.cost - packetCost
	d.cost = packetCost
	d.pieces = nil
	d.condemned = true
}

// sweep gives up the packets whose time is up.
func (r *reassembler) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
}

func (r *reassembler) expire(now time.Time) {
	for e := r.order.Front(); e != nil; e = r.order.Front() {
		d := e.Value.(*incomplete)
		if now.Sub(d.since) < fragmentTimeout {
			return
		}
		r.remove(e)
		if !d.condemned {
			r.stats.fragmentsTimedOut.Add(1)
		}
	}
}

// evict gives up a packet to make room.
func (r *reassembler) evict(e *list.Element) {
	r.remove(e)
	if !e.Value.(*incomplete).condemned {
		r.stats.fragmentsEvicted.Add(1)
	}
}

func (r *reassembler) remove(e *list.Element) {
	d := r.order.Remove(e).(*incomplete)
	delete(r.held, d.key)
	r.bytes -= d.cost
	if r.perClient[d.client]--; r.perClient[d.client] <= 0 {
		delete(r.perClient, d.client)
	}
}

func (r *reassembler) snapshot(s *Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.FragmentPackets, s.FragmentBytes = len(r.held), r.bytes
}

// Values of the ECN field (RFC 3168, section 5).
const (
	ecnNotECT = 0
	ecnCE     = 3
)

func ecn(v6 bool, head []byte) uint8 {
	if v6 {
		return head[1] >> 4 & 3
	}
	return head[1] & 3
}

// rebuild returns the packet, as it was before it was cut; of IPv6 without the
// extension headers that were in front of the fragment header, which the gate
// has read and would take away anyway. It returns nil if the fragments differ
// in whether their sender knows ECN: some are not its own, or were tampered
// with (RFC 3168, section 5.3).
func (d *incomplete) rebuild(v6 bool) []byte {
	if d.ecn&(1<<ecnNotECT) != 0 && d.ecn != 1<<ecnNotECT {
		return nil
	}
	headerLen := ipv4HeaderLen
	if v6 {
		headerLen = ipv6HeaderLen
	}
	pkt := append(make([]byte, 0, headerLen+d.size), d.header[:headerLen]...)
	for _, p := range d.pieces {
		pkt = append(pkt, p.data...)
	}
	congested := d.ecn&(1<<ecnCE) != 0 // one is enough
	if v6 {
		if congested {
			pkt[1] |= ecnCE << 4
		}
		binary.BigEndian.PutUint16(pkt[4:], uint16(d.size))
		pkt[6] = d.next
		return pkt
	}
	if congested {
		pkt[1] |= ecnCE
	}
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	pkt[6], pkt[7] = pkt[6]&0x40, 0 // of the flags, don't-fragment stays
	pkt[10], pkt[11] = 0, 0
	binary.BigEndian.PutUint16(pkt[10:], ^checksum.Checksum(pkt[:ipv4HeaderLen], 0))
	return pkt
}
