package tun

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ReadBatch blocks until at least one packet is there, scatters each over its
// iovec (bufs[i], whose first slice is the 10-byte virtio-net header and is
// all zero without offload) and notes its length, header included, in
// sizes[i]. It takes what is there without waiting for a full batch, and
// returns how many packets it read. The kernel does not say whether it cut a
// packet to the space there was: one that fills its iovec to the last byte is
// thrown away and counted as truncated, so give a byte more than the largest
// packet has. The error is os.ErrClosed after Close and
// ErrGone when the device was deleted; nothing can be read after either.
func (d *Device) ReadBatch(bufs [][][]byte, sizes []int) (int, error) {
	if len(bufs) == 0 || len(sizes) < len(bufs) {
		return 0, fmt.Errorf("read from %s: %d buffers and %d sizes", d.name, len(bufs), len(sizes))
	}
	n := 0
	var failed error
	err := d.raw.Read(func(fd uintptr) bool {
		for n < len(bufs) {
			size, err := d.readOne(int(fd), bufs[n])
			switch {
			case errors.Is(err, unix.EAGAIN):
				return n > 0
			case err != nil:
				failed = err
				return true
			case size < 0: // thrown away
			default:
				sizes[n] = size
				n++
			}
		}
		return true
	})
	d.stats.read.Add(uint64(n))
	if n > 0 {
		return n, nil // what failed then fails again at the next call
	}
	return 0, d.ioError("read from", failed, err)
}

// readOne reads one packet; -1 without an error means it did not fit.
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

// WriteBatch writes the packets (pkts[i] is one iovec, its first slice the
// virtio-net header) and returns how many the kernel took. A packet it refuses
// is counted in Stats and does not stop the others, nor does a device that is
// down. The error is os.ErrClosed after Close, ErrGone when the device was
// deleted, and ErrHeader.
func (d *Device) WriteBatch(pkts [][][]byte) (int, error) {
	next, taken := 0, 0
	var failed, header error
	err := d.raw.Write(func(fd uintptr) bool {
		for next < len(pkts) {
			pkt := pkts[next]
			if len(pkt) < 2 || len(pkt[0]) != headerLen || !d.offload && !zero(pkt[0]) {
				header = ErrHeader
				d.stats.refused.Add(1)
				next++
				continue
			}
			if !d.offload {
				pkt = pkt[1:]
			}
			switch _, err := transfer(unix.SYS_WRITEV, int(fd), pkt); {
			case err == nil:
				taken++
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.EAGAIN):
				return false
			case errors.Is(err, unix.EIO): // tun_get_user: the device is not IFF_UP
				d.stats.down.Add(1)
			case gone(err):
				failed = err
				return true
			default:
				d.stats.refused.Add(1)
			}
			next++
		}
		return true
	})
	d.stats.written.Add(uint64(taken))
	if failed != nil || err != nil {
		return taken, d.ioError("write to", failed, err)
	}
	return taken, header
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// ioError tells a closed and a deleted device from anything else. failed is
// what the system call said, err what the poller said.
func (d *Device) ioError(what string, failed, err error) error {
	if d.closed.Load() {
		return os.ErrClosed
	}
	// EFAULT: the receive side was shut down under a reader (tun_ring_recv).
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
