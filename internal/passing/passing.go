// Package passing reads the handshake of a TLS connection that goes by and is not
// terminated: both hellos, and up to TLS 1.2 the certificates, which TLS 1.3 encrypts. It
// sends nothing, holds nothing up, and what it has read proves nothing: anybody can show a
// certificate. Each direction is read on its own, within bounds, until its part is over.
package passing

import (
	"crypto/x509"
	"sync/atomic"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certread"
)

// Bounds of one direction, in bytes. Whoever needs more is not read any further.
const (
	// maxMessage is that of a hello, too: chains are shorter, most of them by far.
	maxMessage = handshake.MaxHello
	// maxBytes is what may go by before the direction's part is over.
	maxBytes = 160 << 10
	// maxCertificate is the largest certificate that is kept.
	maxCertificate = 16 << 10
	warning        = 1 // the level of an alert (RFC 5246, section 7.2)
	// maxRecord is the length of a record with its protection (RFC 8446, section 5.2).
	maxRecord = handshake.MaxPlaintext + 256
)

// Seen is what was read.
type Seen struct {
	// Hello is the client's, compact; nil if none was read.
	Hello *handshake.ClientHello
	// State is what the server has chosen; nil if its hello was not read. ALPN is known
	// up to TLS 1.2 alone.
	State *handshake.State
	// Asked says that the server asked for a certificate (TLS 1.2 and before).
	Asked bool
	// Client and Destination are the certificates that were shown (TLS 1.2 and before), nil
	// for none. Nothing is verified.
	Client, Destination *x509.Certificate
	// Alert is the one that ended the handshake in the clear, ByClient who sent it.
	Alert    handshake.Alert
	ByClient bool
}

// Reader reads both directions of one connection. One goroutine may call Client and
// another one Server; Seen is called when both have ended. The zero value is ready.
type Reader struct {
	client, server half
	held           atomic.Int64

	known                bool // the caller has the hello
	hello                *handshake.ClientHello
	state                *handshake.State
	asked                bool
	clientLeaf, destLeaf []byte // DER
	certificates         int    // messages of the server with certificates
}

// New is a Reader for a connection. known says that the caller has the client's hello: it
// goes by once more, and is not read again.
func New(known bool) *Reader { return &Reader{known: known} }

// Client is given the next bytes of the client, and says whether it wants more. It only
// borrows them.
func (r *Reader) Client(b []byte) (more bool) {
	return r.read(&r.client, b, r.clientRecord, r.clientMessage)
}

// Server is Client for the bytes of the server.
func (r *Reader) Server(b []byte) (more bool) {
	return r.read(&r.server, b, r.serverRecord, r.serverMessage)
}

// Held is about how many bytes of the heap the Reader holds. Anybody may ask at any time.
func (r *Reader) Held() int { return int(r.held.Load()) }

// Seen is what was read of both directions.
func (r *Reader) Seen() Seen {
	s := Seen{Hello: r.hello, State: r.state, Asked: r.asked, Alert: handshake.AlertNone}
	s.Client, s.Destination = certificate(r.clientLeaf), certificate(r.destLeaf)
	if s.State != nil && s.Hello != nil {
		s.State.ServerName = s.Hello.ServerName
	}
	switch {
	case r.server.alerted:
		s.Alert = r.server.alert
	case r.client.alerted:
		s.Alert, s.ByClient = r.client.alert, true
	}
	return s
}

// certificate reads one; nil for none, and for one that cannot be read.
func certificate(der []byte) *x509.Certificate {
	if der == nil {
		return nil
	}
	c, err := certread.Certificate(der)
	if err != nil {
		return nil
	}
	return c
}

// half is one direction.
type half struct {
	over    bool
	head    [handshake.RecordHeader]byte
	n       int    // of head that are there
	left    int    // of the current record
	msg     []byte // the current handshake message, as far as it has come
	bytes   int    // so far
	alert   handshake.Alert
	alerted bool
	notice  []byte // the alert's two bytes
}

// read takes bytes apart: records, then messages. record is asked about each record by its
// type and says whether to go on; message is given each whole handshake message.
func (r *Reader) read(h *half, b []byte, record func(typ byte) bool, message func(msg []byte) bool) bool {
	for len(b) > 0 && !h.over {
		if h.left == 0 {
			n := copy(h.head[h.n:], b)
			h.n, b = h.n+n, b[n:]
			h.bytes += n
			if h.n == len(h.head) && !h.begin(record) {
				r.end(h)
			}
			continue
		}
		part := b[:min(len(b), h.left, max(maxBytes-h.bytes, 0))]
		if len(part) == 0 {
			r.end(h)
			break
		}
		b = b[len(part):]
		h.left -= len(part)
		h.bytes += len(part)
		if h.left == 0 {
			h.n = 0
		}
		switch h.head[0] {
		case handshake.RecordHandshake:
			if !r.messages(h, part, message) {
				r.end(h)
			}
		case handshake.RecordAlert:
			if h.notice = append(h.notice, part...); len(h.notice) == 2 {
				if alert := handshake.Alert(h.notice[1]); h.notice[0] != warning || alert == handshake.AlertCloseNotify {
					h.alert, h.alerted = alert, true
					r.end(h)
				}
				h.notice = h.notice[:0] // a warning ends nothing (RFC 5246, section 7.2)
			}
		}
	}
	return !h.over
}

// begin looks at the header of a record.
func (h *half) begin(record func(typ byte) bool) bool {
	typ, size := h.head[0], handshake.RecordLen(h.head[:])
	if h.head[1] != 3 || size == 0 || size > maxRecord {
		return false
	}
	h.left = size
	switch typ {
	case handshake.RecordHandshake:
		return true
	case handshake.RecordAlert:
		return size == 2 && len(h.msg) == 0 // a longer one is encrypted
	}
	return len(h.msg) == 0 && record(typ)
}

// messages adds a part of a handshake record.
func (r *Reader) messages(h *half, part []byte, message func(msg []byte) bool) bool {
	before := cap(h.msg)
	h.msg = append(h.msg, part...)
	r.held.Add(int64(cap(h.msg) - before))
	rest := h.msg
	for len(rest) >= handshake.MessageHeader {
		size := handshake.MessageHeader + int(rest[1])<<16 + int(rest[2])<<8 + int(rest[3])
		if size > maxMessage {
			return false
		}
		if len(rest) < size {
			break
		}
		if !message(rest[:size]) {
			return false
		}
		rest = rest[size:]
	}
	switch {
	case len(rest) == 0: // the next message may be long in coming
		r.held.Add(-int64(cap(h.msg)))
		h.msg = nil
	case len(rest) < len(h.msg): // once for all messages: the time is linear in the bytes
		h.msg = h.msg[:copy(h.msg, rest)]
	}
	return true
}

func (r *Reader) end(h *half) {
	h.over = true
	r.held.Add(-int64(cap(h.msg)))
	h.msg, h.notice = nil, nil
}

// keep copies a certificate, unless it is too long.
func (r *Reader) keep(der []byte) []byte {
	if len(der) == 0 || len(der) > maxCertificate {
		return nil
	}
	r.held.Add(int64(len(der)))
	return append([]byte(nil), der...)
}
