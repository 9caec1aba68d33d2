package stdtls

import (
	"errors"
	"net"
	"os"

	"github.com/sslgate/sslgate/handshake"
)

// inbound is the receiving side of step 9. It gives crypto/tls at most one
// record a Read, so that crypto/tls never holds part of the next one, and so
// knows whether a whole record waits: several can then be opened in one go
// without the risk of waiting for more.
//
// A connection that says how much waits (stack.Conn) is read straight into
// crypto/tls. Of a kernel socket much is read at once, into a buffer that is
// held only while there is something in it.
type inbound struct {
	conn    *tapConn
	pool    *recordBuffers
	waiting func() int // of the connection below the tap; nil: not known
	waitFor func(int)  // until so much waits; nil: the connection cannot

	off bool // the alignment is lost: bytes go straight through
	now bool // only what is there already, see errNotNow

	hdr  [handshake.RecordHeader]byte
	got  int // bytes of hdr that have been read
	gave int // bytes of hdr that were handed out
	body int // bytes of the record's body still to be handed out

	records int // whose header was read

	ready int // of waiting, when it was last asked, less what was read since
	buf   *[]byte
	r, w  int // what is in buf
}

// notNow is what crypto/tls gets in the place of waiting. It is temporary, so
// crypto/tls goes on afterwards as if nothing had been.
type notNow struct{}

func (notNow) Error() string { return "no further record waits" }

func (notNow) Timeout() bool { return false }

func (notNow) Temporary() bool { return true }

var errNotNow net.Error = notNow{}

// largeRecord is the body from which on it pays to read more than the record,
// in bytes.
const largeRecord = 4 << 10

func newInbound(conn *tapConn, pool *recordBuffers) *inbound {
	in := &inbound{conn: conn, pool: pool}
	if below, ok := handshake.Ability[handshake.InboundQueue](conn.Conn); ok {
		in.waiting = below.Waiting
		if w, ok := below.(handshake.InboundWaiter); ok {
			in.waitFor = w.WaitFor
		}
	}
	return in
}

// read is Read for crypto/tls. What it returns never crosses the end of a
// record.
func (in *inbound) read(b []byte) (int, error) {
	if in.off && in.gave == in.got {
		return in.pull(b)
	}
	if in.got < handshake.RecordHeader && !in.off {
		if in.now && !in.whole() {
			return 0, errNotNow
		}
		if err := in.header(); err != nil {
			return 0, err // part of a header is kept: a deadline may be moved
		}
	}
	n := 0
	if in.gave < in.got {
		n = copy(b, in.hdr[in.gave:in.got])
		in.gave += n
		if in.off || in.body == 0 || n == len(b) || in.available() == 0 {
			in.end()
			return n, nil
		}
	}
	k, err := in.pull(b[n:min(len(b), n+in.body)])
	in.body -= k
	in.end()
	if n > 0 && err != nil && k == 0 {
		// The next Read meets the same error.
		return n, nil
	}
	return n + k, err
}

// await waits for the next record: for all of it where the connection can tell,
// for its header where not. An error is left to read.
func (in *inbound) await() {
	if in.off {
		return
	}
	if in.got < handshake.RecordHeader {
		if err := in.header(); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) { // which may be moved
				in.conn.late = err // a kernel socket tells it once
			}
			return
		}
	}
	if in.off {
		return
	}
	if in.waitFor != nil && in.gave == 0 && in.available() < in.body {
		in.waitFor(in.body - len(in.conn.ahead))
		in.ready = 0 // asked anew
	}
}

// end is between two records once one has been handed out whole.
func (in *inbound) end() {
	if in.body == 0 && in.gave == handshake.RecordHeader {
		in.got, in.gave = 0, 0
	}
}

// header reads a record's header. Nothing is held while it waits for it.
func (in *inbound) header() error {
	for in.got < handshake.RecordHeader {
		n, err := in.pull(in.hdr[in.got:])
		in.got += n
		if err != nil && in.got < handshake.RecordHeader {
			return err
		}
	}
	in.records++
	if in.body = handshake.RecordLen(in.hdr[:]); in.body > handshake.MaxRecord {
		in.off = true // crypto/tls refuses it
	}
	return nil
}

// between says whether all that was read ends with the end of a record. Where
// the alignment is lost nobody knows, and it says no.
func (in *inbound) between() bool {
	return !in.off && in.got == 0 && in.body == 0 && in.r == in.w && len(in.conn.ahead) == 0
}

// whole says whether a whole record waits.
func (in *inbound) whole() bool {
	if in.off || in.gave != 0 {
		return false
	}
	if in.got < handshake.RecordHeader {
		if in.available() < handshake.RecordHeader-in.got || in.header() != nil {
			return false
		}
	}
	return !in.off && in.available() >= in.body
}

// available is how much can be read without waiting.
func (in *inbound) available() int {
	early := len(in.conn.ahead) // read during the handshake
	if in.waiting == nil {
		return in.w - in.r + early
	}
	if in.ready < handshake.RecordHeader+in.body {
		in.ready = in.waiting() + early
	}
	return in.ready
}

// pull reads from the connection, or what was read of it before.
func (in *inbound) pull(b []byte) (int, error) {
	if in.waiting == nil && in.r == in.w {
		in.release()
		if in.body > 0 && len(b) >= in.body && handshake.RecordLen(in.hdr[:]) >= largeRecord {
			in.buf = in.pool.take(&in.pool.in, inboundSize)
		}
		if in.buf != nil {
			n, err := in.conn.read(*in.buf)
			in.r, in.w = 0, n
			if n == 0 {
				in.release()
				return 0, err
			}
			// Data first: the next Read meets the same end again.
		}
	}
	if in.r < in.w {
		n := copy(b, (*in.buf)[in.r:in.w])
		in.r += n
		if in.r == in.w {
			in.release()
		}
		return n, nil
	}
	n, err := in.conn.read(b)
	in.ready = max(0, in.ready-n)
	return n, err
}

func (in *inbound) release() {
	if in.buf != nil {
		in.pool.giveBack(&in.pool.in, in.buf)
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// isNotNow says whether crypto/tls was kept from waiting.
func isNotNow(err error) bool { return errors.Is(err, errNotNow) }
