package record

import (
	"encoding/binary"
	"net"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
)

// bulkChunk is the content of records while there is much to send, in bytes: four of
// them fill a segment of outSize.
func (w *Writer) bulkChunk() int { return outSize/4 - w.keys.overhead() }

// Writer writes the records of one direction. It is not safe for several goroutines.
// An error ends it, timeouts too, for part of a record may have left: every later call
// returns the same.
type Writer struct {
	conn    net.Conn
	buffers *Buffers
	buf     *[]byte // lent while there is something in it
	n       int
	err     error

	keys    *half // half; nil before the first keys
	half    half
	traffic *keys.Traffic // of keys; nil in TLS 1.2
	most    uint64        // records under one key

	data int64 // bytes of application data that are in the buffer
	// Sent is how many bytes of application data have left in whole records.
	Sent int64
}

// NewWriter writes to a connection, in the clear at first.
func NewWriter(conn net.Conn, buffers *Buffers) *Writer {
	return &Writer{conn: conn, buffers: buffers}
}

// SetKeys seals what is added from now on with other keys. The secret is the writer's,
// which clears it.
func (w *Writer) SetKeys(t *keys.Traffic) {
	w.forget()
	w.half, w.traffic, w.most = newHalf(t), t, t.Suite().MaxRecords
	w.keys = &w.half
}

// Update goes on to the next epoch: a KeyUpdate was added (RFC 8446, section 4.6.3).
func (w *Writer) Update() {
	w.SetKeys(w.traffic.Next())
}

// forget clears the secret of the epoch.
func (w *Writer) forget() {
	if w.traffic != nil {
		w.traffic.Clear()
	}
}

// Due says whether the keys have sealed what they may, but for a KeyUpdate (section
// 5.5).
func (w *Writer) Due() bool { return w.keys != nil && !w.keys.v12 && w.keys.seq+dueBefore > w.most }

// dueBefore is how many records may still be sealed when Due says so.
const dueBefore = 128

// Add puts content into as many records as it takes. They leave with Flush, or when
// the buffer is full. Empty content makes no record.
func (w *Writer) Add(typ uint8, content []byte) error {
	chunk := handshake.MaxPlaintext
	if len(content) > chunk && w.buf == nil {
		w.buf, chunk = w.buffers.large(&w.buffers.out, outSize), w.bulkChunk()
	}
	for len(content) > 0 && w.err == nil {
		n := min(len(content), chunk)
		if w.buf != nil && w.n+n+w.keys.overhead() > len(*w.buf) {
			w.flush()
		}
		if w.buf == nil {
			w.buf = w.buffers.record()
		}
		w.seal(typ, content[:n])
		if typ == handshake.RecordAppData {
			w.data += int64(n)
		}
		content = content[n:]
	}
	return w.err
}

// seal makes one record behind what is in the buffer, where there is room for it.
func (w *Writer) seal(typ uint8, content []byte) {
	out := (*w.buf)[w.n:]
	if w.keys == nil {
		out[0], out[1], out[2] = typ, 3, 3
		binary.BigEndian.PutUint16(out[3:], uint16(len(content)))
		w.n += handshake.RecordHeader + copy(out[handshake.RecordHeader:], content)
		return
	}
	if w.keys.v12 {
		w.seal12(out, typ, content)
		return
	}
	nonce, err := w.keys.take()
	if err != nil {
		w.fail(err)
		return
	}
	out[0], out[1], out[2] = handshake.RecordAppData, 3, 3
	binary.BigEndian.PutUint16(out[3:], uint16(len(content)+1+tagSize))
	header, inner := out[:handshake.RecordHeader], out[handshake.RecordHeader:]
	copy(inner, content)
	inner[len(content)] = typ
	sealed := w.keys.aead.Seal(inner[:0], nonce, inner[:len(content)+1], header)
	w.n += handshake.RecordHeader + len(sealed)
}

// Flush sends what was added, and gives the buffer back.
func (w *Writer) Flush() error {
	w.flush()
	w.release()
	return w.err
}

func (w *Writer) flush() {
	if w.err == nil && w.n > 0 {
		if _, err := w.conn.Write((*w.buf)[:w.n]); err != nil {
			w.fail(err)
		} else {
			w.Sent += w.data
		}
	}
	w.n, w.data = 0, 0
}

func (w *Writer) release() {
	if w.buf != nil {
		w.buffers.back(w.buf)
		w.buf = nil
	}
	w.n = 0
}

// End has nothing more be sent: what was added is dropped, and every later call
// returns err.
func (w *Writer) End(err error) {
	w.fail(err)
	w.release()
	w.forget()
}

func (w *Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}
