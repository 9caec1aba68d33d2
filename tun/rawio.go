package tun

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxIovec bounds the pieces of a packet, which go into one system call. A packet of more
// is refused (EMSGSIZE).
const maxIovec = 32

// transfer is readv or writev on a descriptor that never blocks, without telling Go's
// scheduler (entersyscall). A write lasts until the kernel has forwarded the packet,
// often longer than 20 µs. After that time the scheduler gives the processor of a
// goroutine in a system call to another thread, and two threads would change places for
// each packet.
func transfer(trap uintptr, fd int, pieces [][]byte) (int, error) {
	if len(pieces) > maxIovec {
		return 0, unix.EMSGSIZE
	}
	var room [maxIovec]unix.Iovec
	iov := room[:0]
	for _, p := range pieces {
		if len(p) == 0 {
			continue
		}
		v := unix.Iovec{Base: &p[0]}
		v.SetLen(len(p))
		iov = append(iov, v)
	}
	if len(iov) == 0 {
		return 0, unix.EINVAL
	}
	n, _, e := syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
