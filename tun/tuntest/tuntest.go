// Package tuntest replaces a TUN device in tests: two ends in memory, where packets
// written to one are read from the other.
package tuntest

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// HeaderLen is the length in bytes of the virtio-net header in front of every
// packet.
const HeaderLen = 10

const (
	// queueLen is how many packets wait to be read from one end: at most
	// 64 MiB of the largest ones.
	queueLen = 1024
	// patience is how long a write waits for room in the queue before it drops the
	// packet. A real device drops too when nobody reads, but a test should not lose
	// packets only because the machine is busy.
	patience = 200 * time.Millisecond
	// maxPacket is the largest IP packet in bytes.
	maxPacket = 65535
)

// Device is one end. It has the methods of a stack's Device; all may be called
// concurrently.
type Device struct {
	mtu     int
	offload bool
	peer    *Device
	queues  []chan []byte // packets to be read here, virtio-net header first
	steered sync.Map      // for each flow the queue (int) it was last written to
	seed    maphash.Seed
	filter  atomic.Pointer[func(pkt []byte) bool]

	closeOnce sync.Once
	closed    chan struct{}

	refused, dropped, moved atomic.Uint64
}

// Pair makes the two ends. mtu is in bytes, without the virtio-net header.
// offload says whether both ends take and give partial checksums and GSO
// packets; they then pass through unchanged.
func Pair(mtu int, offload bool) (a, b *Device) { return PairOf(1, mtu, offload) }

// PairOf makes two ends of which a has several queues: what b writes is read
// from one of them (steer.go).
func PairOf(queues, mtu int, offload bool) (a, b *Device) {
	a, b = newDevice(queues, mtu, offload), newDevice(1, mtu, offload)
	a.peer, b.peer = b, a
	return a, b
}

func newDevice(queues, mtu int, offload bool) *Device {
	d := &Device{mtu: mtu, offload: offload, seed: maphash.MakeSeed(), closed: make(chan struct{})}
	for range queues {
		d.queues = append(d.queues, make(chan []byte, queueLen))
	}
	return d
}

// SetFilter sets a function that sees every packet written to this end, virtio-net header
// first, and may change it in place. If it returns false the packet is lost. The writer
// calls it, so it must not block; nil removes it.
func (d *Device) SetFilter(filter func(pkt []byte) (forward bool)) {
	if filter == nil {
		d.filter.Store(nil)
		return
	}
	d.filter.Store(&filter)
}

// Inject makes the IP packet readable at this end, behind an empty virtio-net header, as
// if the other end had sent it. No filter sees it and nothing is checked. It says whether
// there was room.
func (d *Device) Inject(ip []byte) bool {
	return d.InjectRaw(append(make([]byte, HeaderLen), ip...))
}

// InjectRaw is Inject with the caller's virtio-net header in front, which may be wrong.
// The packet is kept.
func (d *Device) InjectRaw(pkt []byte) bool { return d.enqueue(d.steer(pkt), pkt) }

// InjectQueue is Inject into the queue n.
func (d *Device) InjectQueue(n int, ip []byte) bool {
	return d.enqueue(n, append(make([]byte, HeaderLen), ip...))
}

// Refused is the number of packets that no device takes: longer than the MTU, or with
// offloads that were not agreed on. Tests expect 0.
func (d *Device) Refused() uint64 { return d.refused.Load() }

// Dropped is the number of packets written to this end for which the other
// one had no room.
func (d *Device) Dropped() uint64 { return d.dropped.Load() }

// ReadBatch is ReadQueue of the first queue.
func (d *Device) ReadBatch(bufs [][][]byte, sizes []int) (int, error) {
	return d.ReadQueue(0, bufs, sizes)
}

// ReadQueue blocks until a packet is there, and scatters all that are there over the
// bufs. It cuts off what does not fit into an iovec. It returns os.ErrClosed after Close.
func (d *Device) ReadQueue(n int, bufs [][][]byte, sizes []int) (int, error) {
	queue := d.queues[n]
	if len(bufs) == 0 || len(sizes) < len(bufs) {
		return 0, fmt.Errorf("tuntest: %d buffers and %d sizes", len(bufs), len(sizes))
	}
	select { // closed goes first
	case <-d.closed:
		return 0, os.ErrClosed
	default:
	}
	select {
	case pkt := <-queue:
		sizes[0] = scatter(bufs[0], pkt)
	case <-d.closed:
		return 0, os.ErrClosed
	}
	for i := 1; i < len(bufs); i++ {
		select {
		case pkt := <-queue:
			sizes[i] = scatter(bufs[i], pkt)
		default:
			return i, nil
		}
	}
	return len(bufs), nil
}

// WriteBatch is WriteQueue of the first queue.
func (d *Device) WriteBatch(pkts [][][]byte) (int, error) { return d.WriteQueue(0, pkts) }

// WriteQueue sends the packets to the other end and returns how many it sent. The others
// were refused or dropped; a packet that the filter lost counts as sent.
func (d *Device) WriteQueue(n int, pkts [][][]byte) (int, error) {
	sent := 0
	for _, iov := range pkts {
		select {
		case <-d.closed:
			return sent, os.ErrClosed
		default:
		}
		pkt := gather(iov)
		if err := d.check(iov, pkt); err != nil {
			d.refused.Add(1)
			continue
		}
		if f := d.filter.Load(); f != nil && !(*f)(pkt) {
			sent++
			continue
		}
		d.note(n, pkt)
		if !d.peer.enqueue(d.peer.steer(pkt), pkt) {
			d.dropped.Add(1)
			continue
		}
		sent++
	}
	return sent, nil
}

// Queues is the number of queues.
func (d *Device) Queues() int { return len(d.queues) }

// MTU is the one given to Pair.
func (d *Device) MTU() int { return d.mtu }

// Offload is the one given to Pair.
func (d *Device) Offload() bool { return d.offload }

// Close ends this end: reads and writes return os.ErrClosed, what the other
// end sends is lost. Closing again does nothing.
func (d *Device) Close() error {
	d.closeOnce.Do(func() { close(d.closed) })
	return nil
}

// enqueue makes pkt readable in a queue of this end, unless the queue stays full for
// patience.
func (d *Device) enqueue(n int, pkt []byte) bool {
	queue := d.queues[n]
	select {
	case queue <- pkt:
		return true
	case <-d.closed:
		return false
	default:
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case queue <- pkt:
		return true
	case <-d.closed:
	case <-t.C:
	}
	return false
}

// check says why a device would not take the packet.
func (d *Device) check(iov [][]byte, pkt []byte) error {
	if len(iov) == 0 || len(iov[0]) != HeaderLen {
		return errors.New("the first slice is not a virtio-net header")
	}
	size := len(pkt) - HeaderLen
	if size < 1 || size > maxPacket {
		return fmt.Errorf("packet of %d bytes", size)
	}
	flags, gsoType := pkt[0], pkt[1]
	if !d.offload && (flags != 0 || gsoType != 0) {
		return errors.New("offloads on a device without")
	}
	if gsoType == 0 && size > d.mtu {
		return fmt.Errorf("packet of %d bytes, MTU is %d", size, d.mtu)
	}
	return nil
}

func gather(iov [][]byte) []byte {
	n := 0
	for _, s := range iov {
		n += len(s)
	}
	pkt := make([]byte, 0, n)
	for _, s := range iov {
		pkt = append(pkt, s...)
	}
	return pkt
}

func scatter(iov [][]byte, pkt []byte) int {
	n := 0
	for _, s := range iov {
		n += copy(s, pkt[n:])
	}
	return n
}
