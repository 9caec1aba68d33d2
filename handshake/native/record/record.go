// Package record is the record layer of TLS 1.3 (RFC 8446, section 5) and, in
// record12.go, of TLS 1.2 with an AEAD (RFC 5246, section 6): it opens records in the
// buffer that they were read into, and seals them in the one that goes out. Which
// messages may come is the engine's part; which records may is decided here.
package record

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
)

// Sizes, in bytes.
const (
	// MaxCiphertext is the largest encrypted_record (section 5.2).
	MaxCiphertext = handshake.MaxPlaintext + 256
	// tagSize is that of every AEAD of TLS 1.3 in use.
	tagSize = 16
	// overhead is what a sealed record of TLS 1.3 has besides its content: header,
	// content type, tag. No padding is sent.
	overhead = handshake.RecordHeader + 1 + tagSize
)

// Fault says that a record of the peer breaks the protocol, and which alert RFC 8446
// wants for it.
type Fault struct {
	Alert  handshake.Alert
	Detail string // has numbers of the peer, none of its bytes
}

// Error is the detail.
func (f *Fault) Error() string { return f.Detail }

func fault(a handshake.Alert, format string, args ...any) error {
	return &Fault{Alert: a, Detail: fmt.Sprintf(format, args...)}
}

// errUsedUp: section 5.3. Nobody comes so far: see keys.Suite.MaxRecords.
var errUsedUp = errors.New("record: the sequence numbers of a key are used up")

// half is the protection of one direction in one epoch.
type half struct {
	aead  cipher.AEAD
	iv    [keys.NonceSize]byte
	nonce [keys.NonceSize]byte // of the record at hand
	seq   uint64               // of the next record

	v12      bool               // TLS 1.2
	explicit bool               // part of the nonce stands in the record
	blocks   uint64             // sealed so far, of 16 bytes; TLS 1.2 alone
	data     [additional12]byte // of the record at hand
}

func newHalf(t *keys.Traffic) (h half) {
	h.aead, h.iv = t.Protection()
	return h
}

// take gives out each nonce once (section 5.3).
func (h *half) take() ([]byte, error) {
	if h.seq == math.MaxUint64 {
		return nil, errUsedUp
	}
	h.nonce = h.iv
	n := binary.BigEndian.Uint64(h.iv[4:])
	binary.BigEndian.PutUint64(h.nonce[4:], n^h.seq)
	h.seq++
	return h.nonce[:], nil
}
