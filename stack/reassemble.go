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

// IP fragments are put together before the gate decides about the packet, so that the
// gate sees what netstack will see. A kernel that tracks connections has already
// reassembled the packet to steer it, but cuts it again when it writes it to the device.
// A fragment that comes another way may well be an attack, so nothing is repaired here:
//
//  1. A fragment that cannot belong to a packet for us is dropped (refuse).
//  2. The first fragment must hold all headers (checkFirst; RFC 7112, RFC 1858).
//  3. A fragment that overlaps another, or contradicts where the packet ends, condemns
//     the packet and all its later fragments (RFC 5722, RFC 8200, section 4.5; for IPv4
//     alike). An identical copy of a fragment is ignored.
//  4. Once all fragments are there, the packet is rebuilt without a trace of fragments
//     (rebuild) and handled like every other one.
//
// Whole IPv6 packets with a fragment header (RFC 6946) do not come here: parseIPv6 skips
// that header like any other.

const (
	// fragmentTimeout is how long a packet may take from the arrival of its first
	// fragment to that of its last. The kernel writes fragments back to back. If the
	// network delays one by more than a retransmission timeout (1 s at first, RFC 6298),
	// TCP has sent the data again as another packet. So the 15 s of RFC 791 or the 60 s
	// of RFC 8200 would only keep the table full.
	fragmentTimeout = 5 * time.Second
	// fragmentPackets is how many incomplete packets are held. In a flood of fragments
	// that never fit, a good packet is lost only if that many others begin between its
	// fragments.
	fragmentPackets = 256
	// fragmentPacketsPerClient is how many incomplete packets one IPv4 address or one
	// IPv6 /64 may have.
	fragmentPacketsPerClient = 16
	// fragmentBytes bounds the memory of all incomplete packets: 64 of the largest.
	fragmentBytes = 4 << 20
	// fragmentPieces is how many fragments a packet may have: 64 KiB over a hop with an
	// MTU of 576 bytes make 119.
	fragmentPieces = 128
	// maxPacket is the largest packet in bytes, its IP header included.
	maxPacket = 65535

	// Approximate memory in bytes that a packet and a fragment cost beside their data.
	packetCost = 512
	pieceCost  = 64
)

// fragment is what an IP packet says about itself as a fragment (RFC 791, section 3.1;
// RFC 8200, section 4.5).
type fragment struct {
	id     uint32
	offset uint16 // of its data in the whole packet's data, in bytes
	start  uint16 // where its data starts in this fragment, in bytes
	next   uint8  // the protocol of the packet's data; in IPv6 it may be an extension header
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
	bytes     int                  // the memory that held takes
}

// fragmentKey tells packets apart. In IPv6 only the first fragment states the protocol
// reliably (RFC 8200, section 4.5), so proto is 0 there.
type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
}

// incomplete is a packet of which fragments are missing. Or it is a condemned packet,
// which is remembered only to drop its later fragments.
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
	cost      int                 // memory it takes, in bytes
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

// refuse says what is wrong with a fragment taken by itself. ignored means that the
// packet is well-formed as far as can be seen, but is one that the gate would not let
// pass.
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
		if f.offset < tcpHeaderLen { // the first fragment held the TCP header (RFC 1858)
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

// checkFirst is refuse for the first fragment. parseIP has read its headers and found no
// second fragment header. In IPv6 the first fragment has room for the whole TCP header
// (RFC 7112, section 5). In IPv4, where a hop may have an MTU of 68 bytes, the options
// may be cut off.
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

// packetOf returns the packet that the fragment belongs to, and begins it if there is
// none.
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

// put adds the fragment to its packet, or says what is wrong with it.
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

// condemn drops the data of a packet but keeps its key.
func (r *reassembler) condemn(d *incomplete) {
	r.bytes -= d.cost - packetCost
	d.cost = packetCost
	d.pieces = nil
	d.condemned = true
}

// sweep drops the packets whose time is up.
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

// evict drops a packet to make room.
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

// rebuild returns the packet as it was before it was cut. An IPv6 packet loses the
// extension headers in front of its fragment header; the gate has read them and would
// remove them anyway. It returns nil if some fragments say that their sender uses ECN and
// others that it does not: then some were forged or tampered with (RFC 3168, section
// 5.3).
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
	congested := d.ecn&(1<<ecnCE) != 0 // one congested fragment is enough
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
