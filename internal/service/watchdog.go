package service

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/dialer"
)

// probeWait is how long the stack has to see the probe's packet.
const probeWait = time.Second

// watchdog tells systemd that the gateway is alive, as long as packets that the kernel sends into
// the TUN arrive in the stack. systemd restarts a gateway that hangs there.
func (s *Service) watchdog(ctx context.Context) error {
	if s.notify == nil || s.notify.every <= 0 {
		return nil
	}
	tick := time.NewTicker(s.notify.every)
	defer tick.Stop()
	for {
		if err := probe(ctx, s.device.Name(), ownMark(s.runtime().Config), func() uint64 { return s.stack.Stats().PacketsIn }); err == nil {
			s.notify.alive()
		} else if ctx.Err() == nil {
			s.log.Error("the packet path does not answer", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// probe sends one packet out of the TUN and waits until the count of packets read has grown.
// Any other packet proves the same.
func probe(ctx context.Context, tun string, mark dialer.Mark, count func() uint64) error {
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	before := count()
	if err := sendProbe(tun, mark); err != nil {
		return err
	}
	for count() == before {
		select {
		case <-ctx.Done():
			return fmt.Errorf("no packet of %s was read within %s", tun, probeWait)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// sendProbe sends an empty UDP datagram to port 9 (discard) of an address for documentation
// (RFC 5737). The socket is bound to the TUN, so the packet needs no route. The stack counts and
// ignores it.
func sendProbe(tun string, mark dialer.Mark) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open a socket for the probe: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.BindToDevice(fd, tun); err != nil {
		return fmt.Errorf("bind the probe to %s: %w", tun, err)
	}
	if err := mark.Set(fd); err != nil { // what programs send to captured ports by UDP is refused
		return err
	}
	if err := unix.Sendto(fd, nil, 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}); err != nil {
		return fmt.Errorf("send the probe by %s: %w", tun, err)
	}
	return nil
}
