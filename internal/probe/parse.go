package probe

import (
	"bytes"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// retryRandom marks a HelloRetryRequest (RFC 8446, section 4.1.3).
var retryRandom = [32]byte{
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
}

// parseServerHello reads the body of a ServerHello; nil and false if it is not one.
func parseServerHello(s cryptobyte.String) (*serverHello, bool) {
	h := &serverHello{}
	var sid cryptobyte.String
	if !s.ReadUint16(&h.legacy) || !s.CopyBytes(h.random[:]) || !s.ReadUint8LengthPrefixed(&sid) || len(sid) > 32 ||
		!s.ReadUint16(&h.suite) || !s.ReadUint8(&h.compression) {
		return nil, false
	}
	h.sessionID, h.version, h.retry = sid, h.legacy, h.random == retryRandom
	if s.Empty() {
		return h, true
	}
	h.hasExtensions = true
	var block cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&block) || !s.Empty() {
		return nil, false
	}
	for !block.Empty() {
		var e handshake.Extension
		var data cryptobyte.String
		// RFC 8446, section 4.2: not more than one extension of a type.
		if !block.ReadUint16(&e.Type) || !block.ReadUint16LengthPrefixed(&data) || h.has(e.Type) {
			return nil, false
		}
		e.Data = data
		h.extensions = append(h.extensions, e)
		ok := true
		switch e.Type {
		case extSupportedVersions:
			ok = data.ReadUint16(&h.version) && data.Empty()
		case extKeyShare: // a HelloRetryRequest has only the group
			ok = data.ReadUint16(&h.group)
		case extALPN:
			var list, proto cryptobyte.String
			ok = data.ReadUint16LengthPrefixed(&list) && data.Empty() && list.ReadUint8LengthPrefixed(&proto) && list.Empty()
			h.alpn = string(proto)
		}
		if !ok {
			return nil, false
		}
	}
	return h, true
}

// has says whether the server sent an extension.
func (h *serverHello) has(typ uint16) bool {
	for _, e := range h.extensions {
		if e.Type == typ {
			return true
		}
	}
	return false
}

// parseCertificates reads the Certificate of TLS 1.2 and before (RFC 5246,
// section 7.4.2).
func parseCertificates(s cryptobyte.String) ([][]byte, bool) {
	var list cryptobyte.String
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil, false
	}
	var out [][]byte
	for !list.Empty() {
		var c cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&c) || len(out) == maxCerts {
			return nil, false
		}
		out = append(out, bytes.Clone(c))
	}
	return out, true
}

// parseKeyExchange reads the group of a ServerKeyExchange: a named curve (RFC
// 8422, section 5.4), or the prime of a finite field (RFC 5246, section 7.4.3).
func parseKeyExchange(suite string, s cryptobyte.String) (*keyExchange, bool) {
	k := &keyExchange{}
	switch {
	case strings.HasPrefix(suite, "TLS_ECDH"):
		const namedCurve = 3
		var typ uint8
		if !s.ReadUint8(&typ) {
			return nil, false
		}
		if typ == namedCurve && !s.ReadUint16(&k.group) {
			return nil, false
		}
	case strings.HasPrefix(suite, "TLS_DH"):
		var p cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&p) {
			return nil, false
		}
		k.dhBits = bits(p)
	}
	return k, true
}

// bits is the length of a big-endian number without leading zeros.
func bits(b []byte) int {
	b = bytes.TrimLeft(b, "\x00")
	if len(b) == 0 {
		return 0
	}
	n := 8 * (len(b) - 1)
	for top := b[0]; top != 0; top >>= 1 {
		n++
	}
	return n
}

// parseRequest reads a CertificateRequest; schemes says that it has signature algorithms,
// as in TLS 1.2.
func parseRequest(s cryptobyte.String, schemes bool) (*certificateRequest, bool) {
	r := &certificateRequest{}
	var types, names cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&types) {
		return nil, false
	}
	r.types = bytes.Clone(types)
	if schemes {
		var list cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&list) {
			return nil, false
		}
		for !list.Empty() {
			var id uint16
			if !list.ReadUint16(&id) {
				return nil, false
			}
			r.schemes = append(r.schemes, id)
		}
	}
	if !s.ReadUint16LengthPrefixed(&names) || !s.Empty() {
		return nil, false
	}
	for !names.Empty() {
		var n cryptobyte.String
		if !names.ReadUint16LengthPrefixed(&n) {
			return nil, false
		}
		r.names = append(r.names, bytes.Clone(n))
	}
	return r, true
}
