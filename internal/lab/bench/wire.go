package bench

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// What load and origin say to each other. A connection begins with one
// request of requestSize bytes:
//
//	byte 0       the operation
//	bytes 8-15   n: nanoseconds for opDown, bytes for the two checked ones
//	bytes 16-23  seed of the checked ones
//
// opEcho is answered by the same bytes, and so is every further requestSize
// bytes. opUp is followed by blocks, the last of which says so in its first
// byte, and answered by the number of bytes of the blocks received. opDown is
// answered by blocks for n nanoseconds. The checked operations move n bytes
// of a stream that both sides know; opCheckUp is answered by the SHA-256 of
// what came. Nothing rests on a half-closed connection, so that the peers are
// compared in what all of them can do.
const (
	opEcho      = 'E'
	opUp        = 'U'
	opDown      = 'D'
	opCheckUp   = 'u'
	opCheckDown = 'd'

	requestSize = 64
	// blockSize is 1 MiB: the end of a timed run is off by at most one block
	// a flow.
	blockSize = 1 << 20
	// blockLast is the first byte of the last block; of the others it is 0.
	blockLast = 1
	// maxCheck bounds a checked stream, in bytes.
	maxCheck = 1 << 30
	// maxDown bounds a timed download.
	maxDown = 5 * time.Minute
)

// request is the first message of a connection.
type request struct {
	op   byte
	n    uint64
	seed uint64
}

func (r request) bytes() []byte {
	b := make([]byte, requestSize)
	b[0] = r.op
	binary.BigEndian.PutUint64(b[8:], r.n)
	binary.BigEndian.PutUint64(b[16:], r.seed)
	return b
}

// readRequest reads a request; an unknown operation is an error.
func readRequest(rd io.Reader, buf []byte) (request, error) {
	if _, err := io.ReadFull(rd, buf[:requestSize]); err != nil {
		return request{}, err
	}
	return parseRequest(buf[:requestSize])
}

func parseRequest(b []byte) (request, error) {
	r := request{op: b[0], n: binary.BigEndian.Uint64(b[8:]), seed: binary.BigEndian.Uint64(b[16:])}
	switch r.op {
	case opEcho, opUp:
	case opDown:
		if r.n > uint64(maxDown) {
			return request{}, fmt.Errorf("a download of %d ns, at most %v", r.n, maxDown)
		}
	case opCheckUp, opCheckDown:
		if r.n > maxCheck {
			return request{}, fmt.Errorf("a checked stream of %d bytes, at most %d", r.n, maxCheck)
		}
	default:
		return request{}, fmt.Errorf("unknown operation %d", r.op)
	}
	return r, nil
}

// stream is the pseudo-random stream of a seed: ChaCha8, so that no run of
// equal bytes can hide a swap.
func stream(seed uint64) io.Reader {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// streamSum is the SHA-256 of the first n bytes of a stream.
func streamSum(seed, n uint64) ([]byte, error) {
	h := sha256.New()
	if _, err := io.CopyN(h, stream(seed), int64(n)); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}
