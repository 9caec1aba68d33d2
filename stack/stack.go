// Package stack is the userspace TCP/IP stack: packets of a Device go in,
// accepted TCP flows come out, each with its original source and destination.
// It is built on gVisor's netstack, and no gVisor type leaves it.
package stack

import (
	"context"
	"net/netip"
	"time"
)

// VirtioHeaderLen is the length in bytes of the virtio-net header in front of
// every packet of a Device (struct virtio_net_hdr without num_buffers).
const VirtioHeaderLen = 10

// Device is the source and destination of packets: tun.Device, or a tuntest pair. Every
// packet is a list of byte slices (an iovec). Its first slice has exactly VirtioHeaderLen
// bytes and holds the virtio-net header.
type Device interface {
	// ReadBatch blocks until at least one packet is there, scatters each over
	// its iovec (bufs[i]) and notes its length, header included, in sizes[i].
	// It returns how many packets it read; os.ErrClosed after Close.
	ReadBatch(bufs [][][]byte, sizes []int) (int, error)
	// WriteBatch writes the packets (pkts[i] is one iovec) and returns how many
	// the device took. A packet the device refuses is counted by the device
	// and does not stop the others. It is called from several goroutines at
	// once, and must not keep the slices after it has returned. No packet has
	// more than 17 slices.
	WriteBatch(pkts [][][]byte) (int, error)
	// MTU of the device in bytes, without the virtio-net header.
	MTU() int
	// Offload says whether the device takes and gives GSO super-packets and
	// partial checksums (virtio-net header in use, TUN_F_CSUM, TSO4, TSO6).
	Offload() bool
	// Close ends the device and unblocks ReadBatch.
	Close() error
}

// MultiQueue is a Device of several queues. Each queue is read by a goroutine of its own.
// All packets of a flow are written to the same queue; a TUN then delivers the flow's
// packets to that queue. With one queue, only ReadBatch and WriteBatch are used.
type MultiQueue interface {
	Device
	// Queues is the number of queues, at least one; it never changes.
	Queues() int
	// ReadQueue is ReadBatch for queue n, counted from 0.
	ReadQueue(n int, bufs [][][]byte, sizes []int) (int, error)
	// WriteQueue is WriteBatch for queue n, counted from 0.
	WriteQueue(n int, pkts [][][]byte) (int, error)
}

// Queues is the number of queues of a Device.
func Queues(d Device) int {
	if m, ok := d.(MultiQueue); ok {
		return max(1, m.Queues())
	}
	return 1
}

// SYN is what is known of a connection before netstack has seen it.
type SYN struct {
	Src, Dst netip.AddrPort
	At       time.Time
	// Full says which limit leaves no room for the flow. SYNPass then counts as SYNReset.
	// The Handler is asked all the same, so that it can record the reason.
	Full Full
	// NotTaken says that the port is none of Config.Ports. The SYN is answered RST
	// whatever the Handler returns. It was sent to another port, which was rewritten on
	// the way (DNAT).
	NotTaken bool
}

// Full says which limit a SYN met.
type Full uint8

// The limits.
const (
	FullNot    Full = iota // there is room
	FullTotal              // Config.MaxFlows
	FullClient             // Config.MaxFlowsPerClient
)

// SYNAnswer says what becomes of a SYN. The zero value resets.
type SYNAnswer uint8

// The answers.
const (
	SYNReset SYNAnswer = iota // answer RST
	SYNDrop                   // no answer
	SYNPass                   // give it to netstack
)

// Handler takes the flows.
type Handler interface {
	// OnSYN decides about every SYN before netstack sees it. It runs on the packet path,
	// so it must not block. It may be asked again about a retransmitted SYN, and about
	// several SYNs at once if the Device has several queues.
	OnSYN(SYN) SYNAnswer
	// HandleFlow owns the flow from its three-way handshake to its end. It is called in a
	// goroutine of its own. If it returns without having closed the flow, the flow is
	// reset. ctx ends when the stack stops.
	HandleFlow(ctx context.Context, f *Flow)
}
