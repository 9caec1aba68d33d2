package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Both sides of a connection may agree in their SYNs to put timestamps into every
// segment. RFC 7323, section 3.2 says that a segment without them should be dropped
// then. Old Linux (3.10 to 4.14) and some middleboxes leave them out all the same,
// and Linux takes what they send. Netstack takes it too, but not as the segment that
// completes the handshake: the client would hang, and nothing would say why. So that
// segment gets timestamps here. They say nothing new: the last one that netstack has
// seen, and an echo of none, which is not measured.

// agreedTimestamps is asked about a segment without timestamps that is no SYN. It says
// whether netstack waits for it to complete a handshake with timestamps, and which one
// it has seen last (TS.Recent).
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

// withTimestamps returns a copy of head, an IP and a TCP header and what is behind
// them, with timestamps for its TCP options: nothing else is wanted of the segment
// that completes a handshake. size is that of the whole packet in bytes; ok is false
// where it would be too large. The checksum of TCP is not made anew: it was verified,
// or the kernel vouches for it, and netstack does not look at it.
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
