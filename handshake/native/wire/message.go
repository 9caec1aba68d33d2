package wire

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// The names of messages in errors; the others are handshake.Msg*.
const (
	msgServerHello         = "ServerHello"
	msgEncryptedExtensions = "EncryptedExtensions"
	msgNewSessionTicket    = "NewSessionTicket"
	msgKeyUpdate           = "KeyUpdate"
)

// typeMessageHash is the type of the message that stands for the first ClientHello
// in the transcript after a HelloRetryRequest (RFC 8446, section 4.4.1).
const typeMessageHash = 254

// The most entries that a list of the peer's may have. Each is several times what
// any implementation sends. Lists of CA names have no cap, for they are not unpacked.
const (
	maxExtensions   = 128
	maxCertificates = 256
	maxCodes        = 512 // signature algorithms, groups
)

// open takes the header off a message of that type (RFC 8446, section 4).
func open(msg []byte, typ uint8, name string) (cryptobyte.String, error) {
	s := cryptobyte.String(msg)
	var got uint8
	var body cryptobyte.String
	if !s.ReadUint8(&got) {
		return nil, undecodable(name, "an empty message")
	}
	if got != typ {
		return nil, bad(name, handshake.AlertUnexpectedMessage, "%s in its place", handshake.MessageName(got))
	}
	if !s.ReadUint24LengthPrefixed(&body) || !s.Empty() {
		return nil, undecodable(name, "the message's length")
	}
	return body, nil
}

// usualMessage has room for most messages but chains, in bytes.
const usualMessage = 512

// seal writes a message with its header. The error is of a field that is longer than
// its length can say.
func seal(typ uint8, body func(b *cryptobyte.Builder)) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, usualMessage))
	b.AddUint8(typ)
	b.AddUint24LengthPrefixed(body)
	msg, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("marshal %s: %w", handshake.MessageName(typ), err)
	}
	return msg, nil
}

// MessageHash is the message that takes the place of the first ClientHello in the
// transcript after a HelloRetryRequest; sum is the hash of that hello (RFC 8446,
// section 4.4.1), of at most 255 bytes.
func MessageHash(sum []byte) []byte {
	return append([]byte{typeMessageHash, 0, 0, byte(len(sum))}, sum...)
}

// vector8 adds bytes with a length of one byte, vector16 with one of two, vector24
// with one of three.
func vector8(b *cryptobyte.Builder, p []byte) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

func vector16(b *cryptobyte.Builder, p []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

func vector24(b *cryptobyte.Builder, p []byte) {
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

// codes16 adds a list of 16-bit numbers with a length of two bytes.
func codes16(b *cryptobyte.Builder, list []uint16) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, v := range list {
			b.AddUint16(v)
		}
	})
}

// readCodes16 reads such a list, which must not be empty, and nothing behind it.
func readCodes16(data []byte, message, field string) ([]uint16, error) {
	s := cryptobyte.String(data)
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || !s.Empty() || list.Empty() || len(list)%2 != 0 {
		return nil, undecodable(message, field)
	}
	if len(list) > 2*maxCodes {
		return nil, bad(message, handshake.AlertIllegalParameter, "more than %d entries in %s", maxCodes, field)
	}
	out := make([]uint16, len(list)/2)
	for i := range out {
		list.ReadUint16(&out[i])
	}
	return out, nil
}
