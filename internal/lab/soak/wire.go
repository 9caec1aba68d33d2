package soak

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// The protocol between client and origin. A connection begins with one request of requestSize
// bytes:
//
//	bytes 0-3    "SOAK"
//	byte 4       the operation
//	bytes 8-15   id of the connection, by which the origin records it
//	bytes 16-23  seed of the stream that is sent
//	bytes 24-31  n, its length in bytes
//
// opUp is followed by n bytes and answered by their SHA-256. opDown is
// answered by n bytes and their SHA-256. opBoth is both at once: n bytes each
// way, then the SHA-256 of what the origin sent and of what it received.
// opEcho is answered by what is sent, until the client half-closes.
const (
	opUp   = 'U'
	opDown = 'D'
	opBoth = 'B'
	opEcho = 'E'

	requestSize = 32
	sumSize     = sha256.Size
	// maxBytes bounds n: 1 GiB.
	maxBytes = 1 << 30
	// chunk is what is written at once, in bytes: two TLS records.
	chunk = 32 << 10
)

type request struct {
	op          byte
	id, seed, n uint64
}

func (r request) bytes() []byte {
	b := make([]byte, requestSize)
	copy(b, "SOAK")
	b[4] = r.op
	binary.BigEndian.PutUint64(b[8:], r.id)
	binary.BigEndian.PutUint64(b[16:], r.seed)
	binary.BigEndian.PutUint64(b[24:], r.n)
	return b
}

var errNotRequest = errors.New("no request of a soak client")

func parseRequest(b []byte) (r request, err error) {
	if len(b) != requestSize || string(b[:4]) != "SOAK" {
		return r, errNotRequest
	}
	r = request{b[4], binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])}
	switch r.op {
	case opUp, opDown, opBoth, opEcho:
	default:
		return r, fmt.Errorf("%w: operation %d", errNotRequest, r.op)
	}
	if r.n > maxBytes {
		return r, fmt.Errorf("%w: %d bytes", errNotRequest, r.n)
	}
	return r, nil
}

// stream returns n bytes that both sides can generate from the seed.
func stream(seed, n uint64) io.Reader {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	return io.LimitReader(rand.NewChaCha8(key), int64(n))
}

// down is the seed of what an origin sends; it differs from the client's seed.
func down(seed uint64) uint64 { return ^seed }

// sendStream writes the stream and returns the SHA-256 of the whole of it.
func sendStream(w io.Writer, seed, n uint64) ([]byte, error) {
	h := sha256.New()
	_, err := io.CopyBuffer(onlyWriter{w}, io.TeeReader(stream(seed, n), h), make([]byte, chunk))
	return h.Sum(nil), err
}

// onlyWriter hides ReadFrom, which would use a buffer of its own.
type onlyWriter struct{ io.Writer }

// receiveStream reads n bytes and returns their SHA-256.
func receiveStream(r io.Reader, n uint64) ([]byte, error) {
	h := sha256.New()
	got, err := io.CopyBuffer(h, io.LimitReader(r, int64(n)), make([]byte, chunk))
	if err == nil && got < int64(n) {
		err = io.ErrUnexpectedEOF
	}
	return h.Sum(nil), err
}
