package keys

import (
	"crypto/sha256"
	"crypto/sha512"
)

// This file is HMAC (RFC 2104) and HKDF (RFC 5869) over the hashes of the standard
// library. crypto/hkdf makes ten objects for each key, and leaves copies of the secrets in
// them that nobody clears. Here all of them stand on the stack, and are cleared.
// TestHMAC and FuzzHMAC hold them against the standard library's.

const (
	maxHash  = sha512.Size384   // bytes
	maxBlock = sha512.BlockSize // bytes
	// usualMessage has room for all that TLS 1.3 makes a MAC of, in bytes: the label of
	// HKDF-Expand-Label, or a shared secret.
	usualMessage = 128
)

// sum is the suite's hash of data.
func (s *Suite) sum(out *[maxHash]byte, data []byte) {
	if s.HashSize == sha256.Size {
		*(*[sha256.Size]byte)(out[:]) = sha256.Sum256(data)
		return
	}
	*out = sha512.Sum384(data)
}

// block is the length that HMAC pads its key to, in bytes.
func (s *Suite) block() int {
	if s.HashSize == sha256.Size {
		return sha256.BlockSize
	}
	return sha512.BlockSize
}

// mac is HMAC of the parts of a message, of HashSize bytes. out may be one of the parts, or
// the key.
func (s *Suite) mac(out *[maxHash]byte, key []byte, parts ...[]byte) {
	var room [maxBlock + usualMessage]byte
	var inner [maxHash]byte
	n := s.block()
	if len(key) > n {
		s.sum(&inner, key)
		key = inner[:s.HashSize]
	}
	copy(room[:n], key)
	for i := range room[:n] {
		room[i] ^= 0x36
	}
	size := n
	for _, p := range parts {
		size += len(p)
	}
	message := room[:n]
	if size > len(room) { // once, so that no copy is left where it grew
		message = append(make([]byte, 0, size), message...)
	}
	for _, p := range parts {
		message = append(message, p...)
	}
	s.sum(&inner, message)
	for i := range room[:n] {
		room[i] ^= 0x36 ^ 0x5c
	}
	outer := append(room[:n], inner[:s.HashSize]...)
	s.sum(out, outer)
	clear(room[:])
	clear(inner[:])
	clear(message) // where it was longer than the room
}

// extract is HKDF-Extract (RFC 5869, section 2.2).
func (s *Suite) extract(out *[maxHash]byte, ikm, salt []byte) { s.mac(out, salt, ikm) }

// expand is HKDF-Expand (section 2.3) of at most one block: no key of TLS 1.3 is longer.
func (s *Suite) expand(out, secret, info []byte) {
	if len(out) > s.HashSize {
		panic("keys: a key of two blocks")
	}
	var block [maxHash]byte
	s.mac(&block, secret, info, []byte{1})
	copy(out, block[:s.HashSize])
	clear(block[:])
}
