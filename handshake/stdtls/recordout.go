package stdtls

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
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
	// ended: our FIN has been sent. What crypto/tls still writes of itself, answers to
	// KeyUpdates and alerts, has nowhere to go, and must not fail: after an answer that
	// failed crypto/tls does not change its keys for reading either.
	ended bool

	// answers counts the records that are as long as the answer to a KeyUpdate (RFC 8446,
	// section 4.6.3), less the data of that length: crypto/tls does not say what it writes.
	answers atomic.Int64

	ticketGate
	timer *time.Timer // sends what is held, where nothing else takes it along
}

// answerLen is the length of a record with a KeyUpdate in TLS 1.3: the header, the message,
// its type (section 5.2) and the tag of every AEAD of crypto/tls. Records of TLS 1.2 with
// data of that length cost their sender nothing that matters.
const answerLen = handshake.RecordHeader + handshake.MessageHeader + 1 + 1 + 16

// heldFor is how long a ticket that may leave waits for something to go with.
// It arrives soon enough for whoever waits for it, and most often the first answer takes it
// along: a packet less, and the client wakes up once.
const heldFor = 5 * time.Millisecond

// release sends what is held.
func (o *outbound) release(conn net.Conn) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.held) > 0 && o.err == nil {
		_, o.err = conn.Write(o.held)
	}
	o.held = nil
	return o.err
}

// releaseLater sends what is held, if it still is then.
func (o *outbound) releaseLater(conn net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.held) > 0 {
		o.timer = time.AfterFunc(heldFor, func() { _ = o.release(conn) }) // the next write meets its error
	}
}

// take is what is held, for a write that takes it along.
func (o *outbound) take() []byte {
	if o.timer != nil {
		o.timer.Stop()
		o.timer = nil
	}
	held := o.held
	o.held = nil
	return held
}

func (o *outbound) write(conn net.Conn, b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.ended:
		return len(b), nil
	case o.err != nil:
		return 0, o.err
	case o.shut:
		return 0, errNotGranted
	}
	if len(b) == answerLen {
		o.answers.Add(1)
	}
	held := o.take()
	if o.buf == nil {
		if held == nil {
			return conn.Write(b)
		}
		n, err := conn.Write(append(held, b...))
		if err != nil {
			o.err = err
		}
		return max(0, n-len(held)), err
	}
	o.n += copy((*o.buf)[o.n:], held) // a large write has just begun: there is room
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

// end says that our FIN is the next that leaves.
func (o *outbound) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

// over says whether end was called.
func (o *outbound) over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
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
