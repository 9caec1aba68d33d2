package record

import (
	"encoding/binary"
	"errors"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
)

// This file is what TLS 1.2 has otherwise (RFC 5246, section 6): the content type stands
// in the header, change_cipher_spec is the sign that the keys change, and a key never
// changes again.

// additional12 is what a record's AEAD authenticates besides its content: sequence number,
// type, version and length, in bytes (RFC 5246, section 6.2.3.3).
const additional12 = 8 + 1 + 2 + 2

// maxBlocks bounds what one key of AES-GCM may seal, in blocks of 16 bytes: those of 2^24
// records of full size, as in TLS 1.3 (RFC 8446, section 5.5), which has KeyUpdate then.
const maxBlocks = 1 << 34

// errLimit ends the sending of a connection of TLS 1.2 whose key has sealed 256 GiB.
var errLimit = errors.New("record: the key has sealed as much as it may, and TLS 1.2 has no other")

func newHalf12(t *keys.Traffic12) half {
	h := half{v12: true}
	h.aead, h.iv, h.explicit = t.Protection()
	return h
}

// overhead is what a sealed record has besides its content, in bytes.
func (h *half) overhead() int {
	switch {
	case h == nil || !h.v12:
		return overhead
	case h.explicit:
		return handshake.RecordHeader + keys.ExplicitNonce + tagSize
	}
	return handshake.RecordHeader + tagSize
}

// additional is the data that goes with a record of n bytes of content.
func (h *half) additional(seq uint64, typ uint8, n int) []byte {
	binary.BigEndian.PutUint64(h.data[:], seq)
	h.data[8], h.data[9], h.data[10] = typ, 3, 3
	binary.BigEndian.PutUint16(h.data[11:], uint16(n))
	return h.data[:]
}

// SetKeys12 seals what is added from now on with keys of TLS 1.2. They are the writer's,
// which clears them.
func (w *Writer) SetKeys12(t *keys.Traffic12) {
	w.forget()
	w.half, w.traffic = newHalf12(t), nil
	w.keys = &w.half
	t.Clear()
}

// seal12 makes one record at out. The explicit part of a nonce is the sequence number:
// no other is ever used with the key (RFC 5288, section 3).
func (w *Writer) seal12(out []byte, typ uint8, content []byte) {
	h := w.keys
	seq := h.seq
	nonce, err := h.take()
	if h.blocks += uint64(len(content))/16 + 2; err == nil && h.explicit && h.blocks > maxBlocks {
		err = errLimit
	}
	if err != nil {
		w.fail(err)
		return
	}
	n := h.overhead() - handshake.RecordHeader + len(content)
	out[0], out[1], out[2] = typ, 3, 3
	binary.BigEndian.PutUint16(out[3:], uint16(n))
	body := out[handshake.RecordHeader:]
	if h.explicit {
		body = body[copy(body, nonce[len(nonce)-keys.ExplicitNonce:]):]
	}
	h.aead.Seal(body[:0], nonce, content, h.additional(seq, typ, len(content)))
	w.n += handshake.RecordHeader + n
}

// Begin12 says that TLS 1.2 was chosen: change_cipher_spec is returned to the caller, and
// the type of every record stands in its header.
func (r *Reader) Begin12() { r.v12, r.skipping = true, false }

// SetKeys12 opens what comes from now on with keys of TLS 1.2, which are cleared. Nothing
// comes in the clear any more.
func (r *Reader) SetKeys12(t *keys.Traffic12) {
	r.half, r.plainAlert = newHalf12(t), false
	r.keys = &r.half
	t.Clear()
}

// open12 judges one record of TLS 1.2 and opens it, in dst or in place.
func (r *Reader) open12(header, body, dst []byte) (typ uint8, content []byte, err error) {
	if typ, content = header[0], body; r.keys != nil {
		if content, err = r.unseal12(typ, body, dst); err != nil {
			return 0, nil, err
		}
	}
	r.bulk = len(content) >= largeRecord
	switch {
	case header[2] != 3:
		return 0, nil, fault(handshake.AlertProtocolVersion, "a record of version %#02x%02x", header[1], header[2])
	case typ == handshake.RecordAppData && r.keys != nil && len(content) == 0:
		return typ, content, r.useless()
	case typ == handshake.RecordAppData && r.keys != nil:
	case typ != handshake.RecordAlert && typ != handshake.RecordHandshake && (typ != handshake.RecordCCS || r.keys != nil):
		return 0, nil, fault(handshake.AlertUnexpectedMessage, "a record of type %d", typ)
	case len(content) == 0: // RFC 5246, section 6.2.1
		return 0, nil, fault(handshake.AlertUnexpectedMessage, "an empty record of type %d", typ)
	case len(content) > handshake.MaxPlaintext:
		return 0, nil, fault(handshake.AlertRecordOverflow, "a record of %d bytes", len(content))
	}
	r.idle = 0
	return typ, content, nil
}

// unseal12 opens a record. A peer may choose the explicit part of a nonce as it likes.
func (r *Reader) unseal12(typ uint8, body, dst []byte) ([]byte, error) {
	h := r.keys
	most := h.overhead() - handshake.RecordHeader
	if len(body) < most {
		return nil, fault(handshake.AlertBadRecordMAC, "an encrypted record of %d bytes", len(body))
	}
	n := len(body) - most
	if n > handshake.MaxPlaintext {
		return nil, fault(handshake.AlertRecordOverflow, "a record of %d bytes", n)
	}
	seq := h.seq
	nonce, err := h.take()
	if err != nil {
		return nil, err
	}
	if h.explicit {
		copy(nonce[len(nonce)-keys.ExplicitNonce:], body)
		body = body[keys.ExplicitNonce:]
	}
	if len(dst) < n {
		dst = body
	}
	content, err := h.aead.Open(dst[:0], nonce, body, h.additional(seq, typ, n))
	if err != nil {
		return nil, fault(handshake.AlertBadRecordMAC, "a record does not open")
	}
	return content, nil
}
