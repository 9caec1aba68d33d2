package stack

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Both sides of a connection may agree in their SYNs to put timestamps into every
// segment. RFC 7323, section 3.2 then says to drop a segment without them. Old Linux
// (3.10 to 4.14) and some middleboxes leave them out all the same, and Linux accepts such
// segments. Netstack accepts them too, except as the segment that completes the
// handshake: the client would hang without any message. So that segment gets timestamps
// here. They carry no new information: the value is the last that netstack has seen, and
// the echo is 0, which netstack does not measure.

// stampedSYNs remembers which clients may now be in a handshake for which they offered
// timestamps. Only their segments are looked up in netstack; otherwise it would be every
// segment of a client without timestamps. It may wrongly say yes (it stores one time per
// hash value), but never wrongly no.
type stampedSYNs struct {
	seed  maphash.Seed
	begin time.Time
	life  time.Duration // how long a handshake may take
	last  [1 << 12]atomic.Int64
}

func newStampedSYNs(life time.Duration) *stampedSYNs {
	return &stampedSYNs{seed: maphash.MakeSeed(), begin: time.Now(), life: life}
}

func (y *stampedSYNs) place(t synTuple) *atomic.Int64 {
	return &y.last[maphash.Comparable(y.seed, t)%uint64(len(y.last))]
}

// add records a SYN with timestamps before netstack gets it.
func (y *stampedSYNs) add(t synTuple, now time.Time) {
	y.place(t).Store(int64(now.Sub(y.begin)) + 1) // 0 is never
}

// may says whether the tuple may be in a handshake with timestamps.
func (y *stampedSYNs) may(t synTuple, now func() time.Time) bool {
	place := y.place(t)
	at := place.Load()
	if at == 0 {
		return false
	}
	if now().Sub(y.begin)-time.Duration(at) <= y.life+2*sweepInterval { // the sweep ends them a little late
		return true
	}
	place.CompareAndSwap(at, 0) // so that the next call need not read the clock
	return false
}

// stamp returns the head of a segment as netstack is to see it. It adds timestamps if the
// segment would not complete a handshake without them.
func (g *gate) stamp(p packet, head, rest []byte) []byte {
	t := synTuple{p.tcp.src, p.tcp.dst}
	if p.tcp.stamped || p.tcp.flags&(flagSYN|flagRST|flagACK) != flagACK || !g.stamped.may(t, g.now) {
		return head
	}
	recent, agreed := g.agreed(t)
	if !agreed {
		return head
	}
	stamped, fits := withTimestamps(p.v6, head, len(head)+len(rest), recent)
	if !fits {
		return head // the client sends the acknowledgement again, without data
	}
	g.stats.unstamped.Add(1)
	return stamped
}

// agreedTimestamps is called for a segment that has no timestamps and is no SYN. It says
// whether netstack waits for the segment to complete a handshake with timestamps, and
// which timestamp netstack has seen last (TS.Recent).
func agreedTimestamps(ns *gstack.Stack, t synTuple) (recent uint32, agreed bool) {
	ep, ok := ns.FindTransportEndpoint(t.proto(), tcp.ProtocolNumber, t.id(), nicID).(*tcp.Endpoint)
	if !ok || ep.EndpointState() != tcp.StateSynRecv {
		return 0, false
	}
	ep.LockUser() // nothing takes long before the handshake is complete
	defer ep.UnlockUser()
	if ep.EndpointState() != tcp.StateSynRecv || !ep.SendTSOk {
		return 0, false
	}
	return ep.RecentTS, true
}

// hasTimestamps says whether netstack finds timestamps in a TCP header.
func hasTimestamps(tcp []byte) bool {
	options := tcp[tcpHeaderLen:]
	switch {
	case len(options) == 0:
		return false
	case onlyTimestamps(tcp):
		return true
	}
	return header.ParseTCPOptions(options).TS
}

// timestampsLen is the length of the options that withTimestamps makes, in bytes.
const timestampsLen = 12

// withTimestamps returns a copy of head, which is an IP header, a TCP header and data,
// with timestamps as its only TCP options: the segment that completes a handshake needs
// no others. size is the size of the whole packet in bytes; ok is false if it would
// become too large. The TCP checksum is not recomputed: it was verified or the kernel
// vouches for it, and netstack does not check it again.
func withTimestamps(v6 bool, head []byte, size int, recent uint32) (out []byte, ok bool) {
	ip := ipv4HeaderLen
	if v6 {
		ip = ipv6HeaderLen
	}
	old := tcpHeaderSize(head[ip:])
	size += tcpHeaderLen + timestampsLen - old
	if size > 1<<16-1 {
		return nil, false
	}
	out = make([]byte, 0, len(head)+timestampsLen)
	out = append(out, head[:ip+tcpHeaderLen]...)
	out = append(out, 1, 1, 8, 10) // NOP, NOP, timestamps (RFC 7323, appendix A)
	out = binary.BigEndian.AppendUint32(out, recent)
	out = binary.BigEndian.AppendUint32(out, 0) // TSecr: nothing is echoed
	out = append(out, head[ip+old:]...)
	tcp := out[ip:]
	tcp[12] = tcp[12]&0xf | (tcpHeaderLen+timestampsLen)/4<<4
	if v6 {
		binary.BigEndian.PutUint16(out[4:], uint16(size-ip))
		return out, true
	}
	binary.BigEndian.PutUint16(out[2:], uint16(size))
	out[10], out[11] = 0, 0
	binary.BigEndian.PutUint16(out[10:], ^checksum.Checksum(out[:ip], 0))
	return out, true
}
