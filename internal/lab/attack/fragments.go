package attack

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab"
)

// smallBuffer is the receive buffer of a client that does not read, in bytes: the data must
// wait in the gateway and not here.
const smallBuffer = 4 << 10

// control sets options before the connection is made.
func (a *assault) control(_ context.Context, _, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// Without this option a port is taken for all destinations, and ports run out.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if a.job.Kind == Windows {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, smallBuffer)
		}
	})
}

// fragments sends first fragments, each of another packet.
func (a *assault) fragments(ctx context.Context) {
	fail := func(err error) {
		text := err.Error()
		a.failure.CompareAndSwap(nil, &text)
	}
	target := a.job.To[0]
	if !target.Addr().Is4() {
		fail(fmt.Errorf("fragments: IPv4 only"))
		return
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		fail(fmt.Errorf("raw socket: %w", err))
		return
	}
	defer func() { _ = unix.Close(fd) }()
	to := &unix.SockaddrInet4{Addr: target.Addr().As4()}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	id := uint16(rand.Uint32())
	for {
		for range a.job.Workers {
			id++
			parts, err := lab.Segment{
				Src: netip.AddrPortFrom(a.job.From[0], 1024+id%60000), Dst: target,
				Seq: rand.Uint32(), Ack: 1, Flags: lab.ACK, Payload: make([]byte, 1200),
			}.Fragments(800, id)
			if err == nil {
				err = unix.Sendto(fd, parts[0], 0, to)
			}
			if err != nil {
				a.refused.Add(1)
				fail(err)
				continue
			}
			a.made.Add(1)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
