package tun

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ReadBatch is ReadQueue of the first queue.
func (d *Device) ReadBatch(bufs [][][]byte, sizes []int) (int, error) {
	return d.ReadQueue(0, bufs, sizes)
}

// ReadQueue blocks until at least one packet is there. It scatters each packet over its
// iovec (bufs[i], whose first slice is the 10-byte virtio-net header, all zero without
// offload) and stores its length, header included, in sizes[i]. It takes what is there
// without waiting for a full batch, and returns how many packets it read. The kernel does
// not say whether it cut a packet to the space there was. So a packet that fills its
// iovec to the last byte is dropped and counted as truncated: give a byte more than the
// largest packet has. The error is os.ErrClosed after Close and ErrGone when the device
// was deleted; nothing can be read after either.
func (d *Device) ReadQueue(n int, bufs [][][]byte, sizes []int) (int, error) {
	if len(bufs) == 0 || len(sizes) < len(bufs) {
		return 0, fmt.Errorf("read from %s: %d buffers and %d sizes", d.name, len(bufs), len(sizes))
	}
	q := d.queues[n]
	r := &q.reading
	r.bufs, r.sizes, r.n, r.waited, r.failed = bufs, sizes, 0, false, nil
	err := q.raw.Read(r.attempt)
	got, failed := r.n, r.failed
	r.bufs, r.sizes, r.failed = nil, nil, nil
	d.stats.read.Add(uint64(got))
	if got > 0 {
		return got, nil // an error after these packets comes again at the next call
	}
	return 0, d.ioError("read from", failed, err)
}

// readState is the state of one ReadQueue. It is kept in the queue so that a call
// allocates nothing.
type readState struct {
	d       *Device
	bufs    [][][]byte
	sizes   []int
	n       int
	waited  bool // nothing was there at first
	failed  error
	attempt func(fd uintptr) bool // is always r.try
}

// try reads what is there; it returns false to wait if nothing is. After a wait it takes
// only one packet: most often there is no other yet, and checking would cost a system
// call. The next call finds any other.
func (r *readState) try(fd uintptr) bool {
	most := len(r.bufs)
	if r.waited {
		most = 1
	}
	for r.n < most {
		size, err := r.d.readOne(int(fd), r.bufs[r.n])
		switch {
		case errors.Is(err, unix.EAGAIN):
			r.waited = true
			return r.n > 0
		case err != nil:
			r.failed = err
			return true
		case size < 0: // dropped as truncated
		default:
			r.sizes[r.n] = size
			r.n++
		}
	}
	return true
}

// readOne reads one packet; -1 without an error means that the packet was dropped as
// truncated.
func (d *Device) readOne(fd int, iov [][]byte) (int, error) {
	space := 0
	for _, b := range iov {
		space += len(b)
	}
	if len(iov) < 2 || len(iov[0]) != headerLen {
		return 0, unix.EINVAL
	}
	off := 0
	if !d.offload {
		clear(iov[0])
		iov, off = iov[1:], headerLen
	}
	for {
		n, err := transfer(unix.SYS_READV, fd, iov)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		n += off
		if n >= space {
			d.stats.truncated.Add(1)
			return -1, nil
		}
		return n, nil
	}
}

// WriteBatch is WriteQueue of the first queue.
func (d *Device) WriteBatch(pkts [][][]byte) (int, error) { return d.WriteQueue(0, pkts) }

// WriteQueue writes the packets and returns how many the kernel took. pkts[i] is one
// iovec of at most 32 slices, the first of which is the virtio-net header. A packet that
// the kernel refuses is counted in Stats and does not stop the others; nor does a device
// that is down. The error is os.ErrClosed after Close, ErrGone when the device was
// deleted, or ErrHeader. Any number of goroutines may write at once.
//
// Afterwards the kernel delivers packets of the same flow to the queue n
// (tun_flow_update), until nothing was written of the flow for three seconds. Flows that
// it does not know it spreads over all queues by a hash of its own.
func (d *Device) WriteQueue(n int, pkts [][][]byte) (int, error) {
	w, ok := d.writes.Get().(*writeState)
	if !ok {
		w = newWriteState(d)
	}
	w.pkts = pkts
	// Several goroutines may write at once: the kernel takes packets from all of them.
	// Only when the kernel takes none do they wait for the descriptor, one after the
	// other.
	raw := d.queues[n].raw
	err := raw.Control(w.attempt)
	if err == nil && w.full {
		err = raw.Write(w.again)
	}
	taken, failed, header := w.taken, w.failed, w.header
	w.pkts, w.next, w.taken, w.full, w.failed, w.header = nil, 0, 0, false, nil, nil
	d.writes.Put(w)
	d.stats.written.Add(uint64(taken))
	if failed != nil || err != nil {
		return taken, d.ioError("write to", failed, err)
	}
	return taken, header
}

// writeState is the state of one WriteQueue. It is kept for later calls so that a call
// allocates nothing.
type writeState struct {
	d              *Device
	pkts           [][][]byte
	next, taken    int
	full           bool // the kernel takes nothing now
	failed, header error
	attempt        func(fd uintptr)      // is always w.try
	again          func(fd uintptr) bool // calls w.try; false while full
}

func newWriteState(d *Device) *writeState {
	w := &writeState{d: d}
	w.attempt = w.try
	w.again = func(fd uintptr) bool { w.try(fd); return !w.full }
	return w
}

func (w *writeState) try(fd uintptr) {
	for w.full = false; w.next < len(w.pkts); w.next++ {
		pkt := w.pkts[w.next]
		if len(pkt) < 2 || len(pkt[0]) != headerLen || !w.d.offload && !zero(pkt[0]) {
			w.header = ErrHeader
			w.d.stats.refused.Add(1)
			continue
		}
		if !w.d.offload {
			pkt = pkt[1:]
		}
		_, err := transfer(unix.SYS_WRITEV, int(fd), pkt)
		for errors.Is(err, unix.EINTR) {
			_, err = transfer(unix.SYS_WRITEV, int(fd), pkt)
		}
		switch {
		case err == nil:
			w.taken++
		case errors.Is(err, unix.EAGAIN):
			w.full = true
			return
		case errors.Is(err, unix.EIO): // tun_get_user: the device is not IFF_UP
			w.d.stats.down.Add(1)
		case gone(err):
			w.failed = err
			return
		default:
			w.d.stats.refused.Add(1)
		}
	}
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// ioError tells a closed and a deleted device from other errors. failed is the error of
// the system call, err that of the poller.
func (d *Device) ioError(what string, failed, err error) error {
	if d.closed.Load() {
		return os.ErrClosed
	}
	// EFAULT: the receive side was shut down while a reader waited (tun_ring_recv).
	if gone(failed) || errors.Is(failed, unix.EFAULT) {
		return fmt.Errorf("%s %s: %w", what, d.name, ErrGone)
	}
	if failed == nil {
		failed = err
	}
	return fmt.Errorf("%s %s: %w", what, d.name, failed)
}

// gone says whether the queue has lost its device.
func gone(err error) bool {
	return errors.Is(err, unix.EBADFD) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
}
