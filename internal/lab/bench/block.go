package bench

import (
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// blocks moves blocks of blockSize over one connection with as little work as possible, so that
// the gateway is measured and not the load generator. It always sends the same buffer. Data that
// comes over plain TCP is dropped by recv(2) with MSG_TRUNC, which does not copy (tcp(7)).
// sendfile(2) is not used: it sends single pages, which cost the gateway a tenth more than what
// other programs send.
type blocks struct {
	conn net.Conn
	tcp  *net.TCPConn // nil over TLS
	buf  []byte
}

// newBlocks takes a *net.TCPConn or a *tls.Conn.
func newBlocks(c net.Conn) *blocks {
	b := &blocks{conn: c, buf: make([]byte, blockSize)}
	b.tcp, _ = c.(*net.TCPConn)
	return b
}

// send sends one block.
func (b *blocks) send(last bool) error {
	b.buf[0] = 0
	if last {
		b.buf[0] = blockLast
	}
	_, err := b.conn.Write(b.buf)
	return err
}

// receive reads one block and says whether it is the last.
func (b *blocks) receive() (last bool, err error) {
	if b.tcp == nil {
		if _, err := io.ReadFull(b.conn, b.buf); err != nil {
			return false, err
		}
		return b.buf[0] == blockLast, nil
	}
	if _, err := io.ReadFull(b.conn, b.buf[:1]); err != nil {
		return false, err
	}
	return b.buf[0] == blockLast, b.discard(blockSize - 1)
}

// discard drops n bytes of a plain connection.
func (b *blocks) discard(n int) error {
	raw, err := b.tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for n > 0 {
			k, _, err := unix.Recvfrom(int(fd), b.buf[:n], unix.MSG_TRUNC)
			switch {
			case err == unix.EAGAIN:
				return false
			case err == unix.EINTR:
			case err != nil:
				failed = os.NewSyscallError("recvfrom", err)
				return true
			case k == 0:
				failed = io.ErrUnexpectedEOF
				return true
			default:
				n -= k
			}
		}
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}
