package handshake

import (
	"net"
	"sync"
)

// outbound is the sending side of step 9. crypto/tls hands over every record
// in a write of its own. While it is corked, during one large Write, the
// records are gathered, and go to the connection in pieces of segmentSize.
type outbound struct {
	mu   sync.Mutex // crypto/tls may answer a KeyUpdate while another goroutine writes
	pool *recordBuffers
	buf  *[]byte // nil unless corked
	n    int     // bytes in it
	err  error   // of a gathered write: no later one may follow it
}

func (o *outbound) write(conn net.Conn, b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	if o.buf == nil {
		return conn.Write(b)
	}
	for done := 0; done < len(b); {
		k := copy((*o.buf)[o.n:], b[done:])
		o.n += k
		done += k
		if o.n == len(*o.buf) {
			if err := o.flush(conn); err != nil {
				return 0, err
			}
		}
	}
	return len(b), nil
}

// cork begins to gather, where there is a buffer for it.
func (o *outbound) cork() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf == nil {
		o.buf = o.pool.take(&o.pool.out, segmentSize)
	}
}

// uncork sends what is gathered and ends it.
func (o *outbound) uncork(conn net.Conn) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf == nil {
		return o.err
	}
	err := o.flush(conn)
	o.pool.giveBack(&o.pool.out, o.buf)
	o.buf = nil
	return err
}

func (o *outbound) flush(conn net.Conn) error {
	if o.err == nil && o.n > 0 {
		_, o.err = conn.Write((*o.buf)[:o.n])
	}
	o.n = 0
	return o.err
}
