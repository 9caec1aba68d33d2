package stack

import (
	"sync/atomic"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/sslgate/sslgate/stack/sender"
)

// Stats is a snapshot of the counters of a Stack.
type Stats struct {
	PacketsIn, BytesIn   uint64   // read from the device
	PacketsOut, BytesOut uint64   // written to the device
	WriteErrors          uint64   // packets the device did not take
	QueuePackets         []uint64 // of PacketsIn, by queue of the device

	// A fragment is counted in Fragments, and again in Bad or Ignored if it is one of
	// these.
	Fragments         uint64 // IP fragments read from the device
	Reassembled       uint64 // packets put together from fragments
	FragmentsTimedOut uint64 // packets given up because a fragment did not come in time
	FragmentsEvicted  uint64 // packets given up for newer ones: too many, or too large
	FragmentPackets   int    // incomplete packets held now
	FragmentBytes     int    // their memory in bytes

	Bad     BadPackets
	Ignored uint64 // well-formed, but neither TCP nor "packet too big"
	TooBig  uint64 // ICMP "packet too big" handed to netstack
	// TooBigLimited counts those that were not checked because there were too many about
	// one client.
	TooBigLimited uint64

	// Unusual segments that are accepted. A network without trouble has none.
	Urgent    uint64 // with the URG flag: urgent data is relayed in line
	SYNData   uint64 // SYNs with data, which the client sends again (RFC 7413, section 4.2.2)
	Unstamped uint64 // segments that completed a handshake without the agreed timestamps

	SYNPassed  uint64 // handed to netstack
	SYNReset   uint64 // answered RST: the Handler said so, the port is not taken, or draining
	SYNDropped uint64 // answered with nothing: the Handler said so
	SYNLimited uint64 // answered RST: MaxFlows or MaxFlowsPerClient is reached
	// SYNOverflow counts SYNs and ACKs of handshakes that were dropped because a queue
	// was full: the accept queue of a listener, or with AllPorts the queue of handshakes
	// that were given up but have not ended yet.
	SYNOverflow uint64

	DataDropped uint64 // segments with data, dropped because memory was short

	SYNCookiesSent     uint64 // SYNs answered with a cookie
	SYNCookiesAccepted uint64 // cookies that came back
	SYNCookiesInvalid  uint64 // ACKs without a connection and without a valid cookie
	HandshakesTimedOut uint64 // given up after HandshakeTimeout
	HandshakesEvicted  uint64 // given up for a newer one, with AllPorts

	// Packets that came behind the ACK of a cookie before its connection was made.
	EarlyHeld    uint64 // packets that waited for the connection
	EarlyDropped uint64 // packets dropped for lack of room
	EarlyBytes   int    // memory of the packets that wait now

	// Segments of connections that recover from a loss, whose client has used up its
	// budget for this: see recovery.go.
	RecoveryHeld    uint64 // acknowledgements that waited or were replaced by a newer one
	RecoveryDropped uint64 // segments with data that were dropped

	Retransmits    uint64 // segments sent again
	Timeouts       uint64 // retransmission timeouts
	ResetsSent     uint64 // by netstack, without those for SYNs
	ResetsReceived uint64
	ACKsOutdated   uint64 // not handled: a later one of the same batch acknowledged more
	ACKsMerged     uint64 // acknowledgements of netstack that data has taken along

	// Of the sender of package sender.
	PacedFlows, PacedPackets int    // flows with something under way, and packets of netstack that are kept, now
	PacedProbes              uint64 // tail loss probes
	PacedDuplicates          uint64 // segments that clients say they got twice (RFC 2883)
	PacedRefused             uint64 // acknowledgements of bytes that were not sent yet

	FlowsAccepted  uint64 // handed to the Handler
	FlowsRejected  uint64 // handshake complete, but no room any more: reset
	FlowsLive      int    // held by the Handler now
	FlowsLingering int    // closed, last bytes not yet acknowledged
	LingeringReset uint64 // lingering flows reset: LingerTimeout was over, or there were too many
}

// BadPackets counts the packets that were dropped as malformed, by what was
// wrong with them.
type BadPackets struct {
	Length         uint64 // too short, or the lengths do not fit each other
	Version        uint64 // neither IPv4 nor IPv6
	HeaderChecksum uint64 // of the IPv4 header
	Options        uint64 // IPv4 options, or IPv6 extension headers we must not skip
	Fragment       uint64 // lengths that do not fit, headers cut, too many of a packet, or ECN fields that contradict each other
	Overlap        uint64 // fragment that overlaps another one or the packet's end, and all further ones of the packet
	Address        uint64 // source equals destination (LAND), multicast, broadcast, loopback, unspecified, v4-mapped
	TCPHeader      uint64 // data offset, or a port is 0
	Flags          uint64 // no sensible combination, or SYN+ACK: nothing here opens connections
	Checksum       uint64 // of TCP
	ICMP           uint64 // "packet too big" that cannot be true
}

// Total is the sum of all.
func (b BadPackets) Total() uint64 {
	return b.Length + b.Version + b.HeaderChecksum + b.Options + b.Fragment + b.Overlap +
		b.Address + b.TCPHeader + b.Flags + b.Checksum + b.ICMP
}

// counters are the numbers of Stats that netstack does not count itself.
type counters struct {
	packetsIn, bytesIn, packetsOut, bytesOut, writeErrors       atomic.Uint64
	bad                                                         [badKinds]atomic.Uint64
	ignored, tooBig                                             atomic.Uint64
	fragments, reassembled, fragmentsTimedOut, fragmentsEvicted atomic.Uint64
	synPassed, synReset, synDropped, synLimited                 atomic.Uint64
	synOverflow, handshakesTimedOut, dataDropped                atomic.Uint64
	handshakesEvicted                                           atomic.Uint64
	acksOutdated, acksMerged                                    atomic.Uint64
	tooBigLimited, urgent, unstamped, synData                   atomic.Uint64
}

func (c *counters) snapshot() Stats {
	bad := func(k badKind) uint64 { return c.bad[k].Load() }
	return Stats{
		PacketsIn: c.packetsIn.Load(), BytesIn: c.bytesIn.Load(),
		PacketsOut: c.packetsOut.Load(), BytesOut: c.bytesOut.Load(),
		WriteErrors: c.writeErrors.Load(),
		Bad: BadPackets{
			Length: bad(badLength), Version: bad(badVersion), HeaderChecksum: bad(badHeaderChecksum),
			Options: bad(badOptions), Fragment: bad(badFragment), Overlap: bad(badOverlap), Address: bad(badAddress),
			TCPHeader: bad(badTCPHeader), Flags: bad(badFlags), Checksum: bad(badChecksum), ICMP: bad(badICMP),
		},
		Fragments: c.fragments.Load(), Reassembled: c.reassembled.Load(),
		FragmentsTimedOut: c.fragmentsTimedOut.Load(), FragmentsEvicted: c.fragmentsEvicted.Load(),
		Ignored: c.ignored.Load(), TooBig: c.tooBig.Load(),
		SYNPassed: c.synPassed.Load(), SYNReset: c.synReset.Load(),
		SYNDropped: c.synDropped.Load(), SYNLimited: c.synLimited.Load(),
		DataDropped: c.dataDropped.Load(),
		SYNOverflow: c.synOverflow.Load(), HandshakesTimedOut: c.handshakesTimedOut.Load(),
		HandshakesEvicted: c.handshakesEvicted.Load(),
		ACKsOutdated:      c.acksOutdated.Load(),
		ACKsMerged:        c.acksMerged.Load(),
		TooBigLimited:     c.tooBigLimited.Load(), Urgent: c.urgent.Load(), Unstamped: c.unstamped.Load(), SYNData: c.synData.Load(),
	}
}

func (s *Stats) addPaced(p sender.Stats) {
	s.PacedFlows, s.PacedPackets = p.Flows, p.Packets
	s.PacedProbes, s.PacedDuplicates, s.PacedRefused = p.Probes, p.Duplicate, p.Refused
	s.Retransmits += p.Again
	s.Timeouts += p.Timeouts
}

func (s *Stats) addNetstack(ns *gstack.Stack) {
	t := ns.Stats().TCP
	s.SYNOverflow += t.ListenOverflowSynDrop.Value() + t.ListenOverflowAckDrop.Value()
	s.SYNCookiesSent = t.ListenOverflowSynCookieSent.Value()
	s.SYNCookiesAccepted = t.ListenOverflowSynCookieRcvd.Value()
	s.SYNCookiesInvalid = t.ListenOverflowInvalidSynCookieRcvd.Value()
	s.Retransmits = t.Retransmits.Value()
	s.Timeouts = t.Timeouts.Value()
	s.ResetsSent = t.ResetsSent.Value()
	s.ResetsReceived = t.ResetsReceived.Value()
}
