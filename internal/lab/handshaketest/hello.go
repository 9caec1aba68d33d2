package handshaketest

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// RecordedHello returns the flight that a real crypto/tls client starts with:
// the record or records of its ClientHello.
func RecordedHello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer func() { _ = server.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, c).Handshake() // fails when the pipe is closed
		_ = client.Close()
	}()
	defer func() { _ = server.Close(); <-done }()
	_ = server.SetReadDeadline(testenv.Deadline())
	head := make([]byte, handshake.RecordHeader)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, handshake.RecordLen(head))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// Hello builds messages for tests: a valid TLS 1.3 hello, to be changed in one place.
type Hello struct {
	Legacy      uint16
	SID         []byte
	Suites      []uint16
	Compression []byte
	Exts        []handshake.Extension
}

// GoodHello offers TLS 1.3 and 1.2, for shop.example.
func GoodHello() *Hello {
	return &Hello{
		Legacy: 0x0303, Suites: []uint16{0x0a0a, 0x1301, 0xc02b}, Compression: []byte{0},
		Exts: []handshake.Extension{
			{Type: handshake.ExtServerName, Data: SNIData("shop.example")},
			{Type: handshake.ExtSupportedGroups, Data: List16(0x1a1a, 0x001d, 0x0017)},
			{Type: handshake.ExtSignatureAlgorithms, Data: List16(0x0403, 0x0804)},
			{Type: handshake.ExtSupportedVersions, Data: []byte{4, 3, 4, 3, 3}},
			{Type: handshake.ExtKeyShare, Data: KeyShares(0x001d)},
		},
	}
}

// Hello12 is a right hello of TLS 1.2 alone.
func Hello12() *Hello {
	h := GoodHello()
	h.Exts = h.Exts[:3]
	return h
}

// With sets an extension, at the end if it is not there yet.
func (h *Hello) With(typ uint16, data []byte) *Hello {
	for i := range h.Exts {
		if h.Exts[i].Type == typ {
			h.Exts[i].Data = data
			return h
		}
	}
	h.Exts = append(h.Exts, handshake.Extension{Type: typ, Data: data})
	return h
}

// Without takes an extension out.
func (h *Hello) Without(typ uint16) *Hello {
	h.Exts = slices.DeleteFunc(h.Exts, func(e handshake.Extension) bool { return e.Type == typ })
	return h
}

// Bytes is the handshake message, header included.
func (h *Hello) Bytes() []byte {
	m := &handshake.ClientHello{
		LegacyVersion: h.Legacy, SessionID: h.SID, CipherSuites: h.Suites, CompressionMethods: h.Compression,
		Extensions: h.Exts, HasExtensions: h.Exts != nil,
	}
	return m.Marshal()
}

// List16 is a vector of 16-bit numbers, with its length in 16 bits.
func List16(v ...uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(2*len(v)))
	for _, x := range v {
		b = binary.BigEndian.AppendUint16(b, x)
	}
	return b
}

// Prefixed puts a 16-bit length before b.
func Prefixed(b ...byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// SNIData is the content of server_name (RFC 6066, section 3).
func SNIData(names ...string) []byte {
	var b []byte
	for _, n := range names {
		b = append(append(b, 0), Prefixed([]byte(n)...)...)
	}
	return Prefixed(b...)
}

// KeyShares is the content of key_share in a ClientHello, with keys of 32 bytes (RFC
// 8446, section 4.2.8).
func KeyShares(groups ...uint16) []byte {
	var b []byte
	for _, g := range groups {
		b = binary.BigEndian.AppendUint16(b, g)
		b = append(b, Prefixed(make([]byte, 32)...)...)
	}
	return Prefixed(b...)
}

// PSKData is the content of pre_shared_key in a ClientHello (RFC 8446, section
// 4.2.11).
func PSKData(identities, binders int) []byte {
	var ids, bs []byte
	for range identities {
		ids = append(append(ids, Prefixed('t', 'i', 'c', 'k')...), 0, 0, 0, 1)
	}
	for range binders {
		bs = append(append(bs, 32), make([]byte, 32)...)
	}
	return append(Prefixed(ids...), Prefixed(bs...)...)
}
