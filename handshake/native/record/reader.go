package record

import (
	"errors"
	"io"
	"net"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
)

const (
	// maxIdle bounds what a peer may send in a row that carries nothing:
	// change_cipher_spec, empty records. As many as crypto/tls allows.
	maxIdle = 16
	// maxEmptyReads of the connection below, in a row: io.ErrNoProgress.
	maxEmptyReads = 100
	// largeRecord is the content from which a kernel socket is read ahead, in bytes.
	largeRecord = 8 << 10
)

// Reader reads the records of one direction. It is not safe for several goroutines.
//
// An error that is no timeout ends it: every later call returns the same. It returns
// io.EOF for an end between two records and io.ErrUnexpectedEOF for one inside; a
// *Fault for what the peer may not send. After a timeout nothing is lost.
type Reader struct {
	conn    net.Conn
	buffers *Buffers
	waiting func() int // bytes that can be read at once; nil where the connection cannot tell
	waitFor func(int)

	buf   *[]byte // lent; r to w was read and not used
	r, w  int
	head  [handshake.RecordHeader]byte // of the next record, while nothing is lent
	got   int                          // bytes of it
	late  error                        // came with the last bytes
	ended error

	keys        *half // half; nil before the first keys
	half        half
	skipping    bool // of early data
	early       int  // bytes of it that may still be skipped
	plainAlert  bool // an alert may still come in the clear
	established bool
	v12         bool // TLS 1.2
	idle        int
	bulk        bool // the last record was large

	// Midway says that the caller has part of a message: no change_cipher_spec and no early
	// data may stand inside one (section 5.1).
	Midway bool
	// Clear says that the last record came in the clear although there are keys: an alert
	// of a client that refuses the ServerHello, or of anybody on the way.
	Clear bool
	// Records and Bytes are how much was read, headers included.
	Records, Bytes int
}

// NewReader reads from a connection, in the clear at first.
func NewReader(conn net.Conn, buffers *Buffers) *Reader {
	r := &Reader{conn: conn, buffers: buffers, plainAlert: true}
	if below, ok := handshake.Ability[handshake.InboundQueue](conn); ok {
		r.waiting = below.Waiting
		if w, ok := below.(handshake.InboundWaiter); ok {
			r.waitFor = w.WaitFor
		}
	}
	return r
}

// SetKeys opens what comes from now on with other keys. The records that were read
// already, and not returned, are of the new epoch.
func (r *Reader) SetKeys(t *keys.Traffic) {
	r.half = newHalf(t)
	r.keys = &r.half
}

// SkipEarlyData has at most n bytes of records be skipped that hold early data which
// is not accepted (RFC 8446, section 4.2.10): before the keys of the handshake are
// set all records of application data, and then those that do not open. The first
// one that does ends it, and so does 0.
func (r *Reader) SkipEarlyData(n int) { r.skipping, r.early = n > 0, n }

// Establish says that the handshake is over: no change_cipher_spec may come any more
// (section 5), and nothing is lent while the reader waits.
func (r *Reader) Establish() { r.established, r.plainAlert = true, false }

// Next waits for the next record that means something. The content is valid until the
// next call; that of application data may be empty.
func (r *Reader) Next() (typ uint8, content []byte, err error) { return r.NextInto(nil) }

// NextInto is Next, and opens the record in dst where that has room for the whole of it:
// content begins where dst does then. What stands in dst behind the content is no use.
func (r *Reader) NextInto(dst []byte) (typ uint8, content []byte, err error) {
	if r.ended != nil {
		return 0, nil, r.ended
	}
	for {
		header, body, err := r.whole()
		if err == nil {
			r.Records++
			r.Bytes += len(header) + len(body)
			typ, content, err = r.open(header, body, dst)
		}
		if err != nil && !handshake.IsTimeout(err) {
			r.ended = err
			r.Release()
		}
		if err != nil || typ != 0 {
			return typ, content, err
		}
	}
}

// open judges one record and opens it, in dst or in place. typ is 0 for one that is dropped.
func (r *Reader) open(header, body, dst []byte) (typ uint8, content []byte, err error) {
	typ = header[0]
	switch {
	case r.v12:
		return r.open12(header, body, dst)
	case typ == handshake.RecordCCS:
		return 0, nil, r.changeCipherSpec(body)
	case r.keys == nil && typ == handshake.RecordAppData && r.skipping && !r.Midway: // section 5.1: nothing stands inside a message
		return 0, nil, r.skip(len(body))
	case r.keys == nil && typ != handshake.RecordAlert && typ != handshake.RecordHandshake:
		return 0, nil, fault(handshake.AlertUnexpectedMessage, "a record of type %d before there are keys", typ)
	case r.keys == nil, typ == handshake.RecordAlert && r.plainAlert && len(body) == 2:
		// A client that refuses the ServerHello, or cannot go on, may have no keys.
		r.Clear = r.keys != nil
		return typ, body, r.plain(typ, body)
	case typ != handshake.RecordAppData:
		return 0, nil, fault(handshake.AlertUnexpectedMessage, "a record of type %d in the clear", typ)
	}
	inner, err := r.unseal(header, body, dst)
	if err != nil || inner == nil {
		return 0, nil, err
	}
	r.skipping, r.plainAlert, r.Clear = false, false, false
	// Section 5.4: the content type is the last byte that is not zero.
	n := len(inner)
	for n > 0 && inner[n-1] == 0 {
		n--
	}
	if n == 0 {
		return 0, nil, fault(handshake.AlertUnexpectedMessage, "a record of padding alone")
	}
	typ, content = inner[n-1], inner[:n-1]
	r.bulk = len(content) >= largeRecord
	switch {
	case typ != handshake.RecordAlert && typ != handshake.RecordHandshake && typ != handshake.RecordAppData:
		return 0, nil, fault(handshake.AlertUnexpectedMessage, "an encrypted record of type %d", typ)
	case len(content) > 0:
		r.idle = 0
	case typ != handshake.RecordAppData: // section 5.4
		return 0, nil, fault(handshake.AlertUnexpectedMessage, "an empty record of type %d", typ)
	default:
		return typ, content, r.useless()
	}
	return typ, content, nil
}

// unseal opens a record with the keys of the epoch; nil is early data that is skipped.
func (r *Reader) unseal(header, body, dst []byte) ([]byte, error) {
	if len(body) < 1+tagSize {
		if r.skipping { // as little as one that does not open was it ever of this epoch
			return nil, r.skip(len(body))
		}
		return nil, fault(handshake.AlertBadRecordMAC, "an encrypted record of %d bytes", len(body))
	}
	seq := r.keys.seq
	nonce, err := r.keys.take()
	if err != nil {
		return nil, err
	}
	if len(dst) < len(body)-tagSize {
		dst = body
	}
	inner, err := r.keys.aead.Open(dst[:0], nonce, body, header)
	switch {
	case err != nil && r.skipping:
		r.keys.seq = seq // it was never a record of this epoch
		return nil, r.skip(len(body))
	case err != nil:
		return nil, fault(handshake.AlertBadRecordMAC, "a record does not open")
	case len(inner) > handshake.MaxPlaintext+1:
		return nil, fault(handshake.AlertRecordOverflow, "a record of %d bytes", len(inner)-1)
	}
	return inner, nil
}

// plain judges a record in the clear.
func (r *Reader) plain(typ uint8, body []byte) error {
	switch {
	case len(body) > handshake.MaxPlaintext:
		return fault(handshake.AlertRecordOverflow, "a record of %d bytes", len(body))
	case len(body) == 0: // section 5.1
		return fault(handshake.AlertUnexpectedMessage, "an empty record of type %d", typ)
	}
	return nil
}

// changeCipherSpec drops what is sent for middleboxes (section 5).
func (r *Reader) changeCipherSpec(body []byte) error {
	if r.established || r.Midway || len(body) != 1 || body[0] != 1 {
		return fault(handshake.AlertUnexpectedMessage, "change_cipher_spec of %d bytes", len(body))
	}
	return r.useless()
}

func (r *Reader) useless() error {
	if r.idle++; r.idle > maxIdle {
		return fault(handshake.AlertUnexpectedMessage, "%d records in a row that carry nothing", r.idle)
	}
	return nil
}

// skip charges early data.
func (r *Reader) skip(n int) error {
	if r.early -= max(n, 1); r.early < 0 {
		return fault(handshake.AlertUnexpectedMessage, "more early data than is skipped")
	}
	return nil
}

// whole reads one record. An error that can be waited out loses nothing.
func (r *Reader) whole() (header, body []byte, err error) {
	if r.established {
		r.Trim()
	}
	n, err := r.header()
	if err != nil {
		return nil, nil, err
	}
	r.borrow(n)
	if err := r.fill(handshake.RecordHeader + n); err != nil {
		return nil, nil, err
	}
	at := (*r.buf)[r.r:]
	r.r += handshake.RecordHeader + n
	return at[:handshake.RecordHeader], at[handshake.RecordHeader:][:n], nil
}

// header reads the header of the next record and judges its length.
func (r *Reader) header() (n int, err error) {
	if r.buf == nil && !r.established {
		r.borrow(0)
	}
	h := r.head[:]
	if r.buf != nil {
		if err := r.fill(handshake.RecordHeader); err != nil {
			return 0, err
		}
		h = (*r.buf)[r.r:][:handshake.RecordHeader]
	} else {
		for r.got < len(r.head) {
			m, err := r.read(r.head[r.got:])
			if r.got += m; err != nil {
				return 0, r.cut(err, r.got)
			}
		}
	}
	most := handshake.MaxPlaintext
	if r.keys != nil || r.skipping {
		most = MaxCiphertext
	}
	n = handshake.RecordLen(h)
	switch {
	case h[1] != 3: // section 5.1 has the rest of the version ignored
		return 0, fault(handshake.AlertProtocolVersion, "a record of version %#02x%02x", h[1], h[2])
	case n > most:
		return 0, fault(handshake.AlertRecordOverflow, "a record of %d bytes", n)
	}
	return n, nil
}

// borrow has a buffer at hand that a record of n bytes fits.
func (r *Reader) borrow(n int) {
	if r.buf != nil {
		return
	}
	if r.bulk && r.established && r.waiting == nil && n >= largeRecord {
		r.buf = r.buffers.large(&r.buffers.in, inSize)
	}
	if r.buf == nil {
		r.buf = r.buffers.record()
	}
	r.r, r.w = 0, copy(*r.buf, r.head[:r.got])
	r.got = 0
}

// fill reads until n bytes are in the buffer, and what comes with them.
func (r *Reader) fill(n int) error {
	if r.r == r.w || len(*r.buf)-r.r < n {
		r.w = copy(*r.buf, (*r.buf)[r.r:r.w])
		r.r = 0
	}
	for r.w-r.r < n {
		m, err := r.read((*r.buf)[r.w:])
		if r.w += m; err != nil && r.w-r.r < n {
			return r.cut(err, r.w-r.r)
		}
	}
	return nil
}

// read reads at least one byte. An error that came with bytes is told by the next
// call.
func (r *Reader) read(b []byte) (int, error) {
	if err := r.late; err != nil {
		if handshake.IsTimeout(err) {
			r.late = nil
		}
		return 0, err
	}
	for range maxEmptyReads {
		n, err := r.conn.Read(b)
		if n > 0 {
			r.late = err
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// cut words an end of the stream with so many bytes of a record read.
func (r *Reader) cut(err error, got int) error {
	if errors.Is(err, io.EOF) && got > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Buffered says whether a whole record can be read without waiting.
func (r *Reader) Buffered() bool {
	switch {
	case r.ended != nil:
		return true
	case r.buf != nil && r.w > r.r:
		have := (*r.buf)[r.r:r.w]
		return len(have) >= handshake.RecordHeader && len(have)+r.below() >= handshake.RecordHeader+handshake.RecordLen(have)
	case r.below() < handshake.RecordHeader-r.got:
		return false
	}
	r.Release()
	n, err := r.header() // it does not wait
	return err == nil && r.below() >= n
}

// below is how much can be read of the connection without waiting.
func (r *Reader) below() int {
	if r.waiting == nil {
		return 0
	}
	return r.waiting()
}

// Await waits until a record has come, or its header where the connection cannot tell,
// or an end. Nothing is lent meanwhile. What is wrong is told by Next.
func (r *Reader) Await() {
	if r.ended != nil || r.buf != nil && r.w > r.r {
		return
	}
	r.Release()
	n, err := r.header()
	if err != nil {
		var f *Fault
		if !errors.As(err, &f) && !handshake.IsTimeout(err) && r.late == nil {
			r.late = err // a kernel socket tells it once
		}
		return
	}
	if r.waitFor != nil {
		r.waitFor(n)
	}
}

// Trim gives back a buffer that has nothing in it.
func (r *Reader) Trim() {
	if r.r == r.w {
		r.Release()
	}
}

// Release gives back what is lent, with what is in it: that was used, or the
// connection is over.
func (r *Reader) Release() {
	if r.buf != nil {
		r.buffers.back(r.buf)
		r.buf, r.r, r.w = nil, 0, 0
	}
}
