package probe

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// record wraps bytes as one record.
func record(typ byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{typ, 3, 3}, uint16(len(body))), body...)
}

// message wraps a body as a handshake message.
func message(typ byte, body []byte) []byte {
	n := len(body)
	return append([]byte{typ, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

// marshal encodes a ServerHello from its fields.
func (h *serverHello) marshal() []byte {
	var b cryptobyte.Builder
	b.AddUint16(h.legacy)
	b.AddBytes(h.random[:])
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.sessionID) })
	b.AddUint16(h.suite)
	b.AddUint8(h.compression)
	if h.hasExtensions {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, e := range h.extensions {
				b.AddUint16(e.Type)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.Data) })
			}
		})
	}
	return b.BytesOrPanic()
}

func hello12(suite uint16) *serverHello {
	return &serverHello{legacy: 0x0303, suite: suite, sessionID: make([]byte, 32), hasExtensions: true, extensions: []handshake.Extension{
		{Type: extExtendedMasterSecret}, {Type: extRenegotiationInfo, Data: []byte{0}}, {Type: extALPN, Data: []byte{0, 3, 2, 'h', '2'}},
	}}
}

func hello13(retry bool) *serverHello {
	h := &serverHello{legacy: 0x0303, suite: 0x1302, hasExtensions: true, extensions: []handshake.Extension{
		{Type: extSupportedVersions, Data: []byte{3, 4}}, {Type: extKeyShare, Data: []byte{0, 0x1d}},
	}}
	if retry {
		h.random = retryRandom
	}
	return h
}

// flight12 is everything a server of TLS 1.2 can say in its turn.
func flight12() []byte {
	var all []byte
	all = append(all, message(typeServerHello, hello12(0xc02f).marshal())...)
	all = append(all, message(typeCertificate, []byte{0, 0, 5, 0, 0, 2, 0x30, 0})...)
	all = append(all, message(typeCertificateStatus, []byte{1, 0, 0, 0})...)
	all = append(all, message(typeServerKeyExchange, []byte{3, 0, 0x17, 1, 4, 4, 1, 0, 0})...)
	all = append(all, message(typeCertificateRequest, []byte{2, 1, 64, 0, 2, 4, 3, 0, 4, 0, 2, 0x30, 0})...)
	return append(all, message(typeServerHelloDone, nil)...)
}

// For any input readFlight ends with an answer or an error, never reads beyond the
// server's turn, and what it decoded encodes to the same bytes.
func FuzzFlight(f *testing.F) {
	whole := flight12()
	f.Add(record(recordHandshake, whole))
	f.Add(append(record(recordHandshake, whole[:50]), record(recordHandshake, whole[50:])...))
	f.Add(record(recordHandshake, message(typeServerHello, hello13(false).marshal())))
	f.Add(record(recordHandshake, message(typeServerHello, hello13(true).marshal())))
	f.Add(record(recordAlert, []byte{2, 40}))
	f.Add(append(record(recordAlert, []byte{1, 112}), record(recordHandshake, whole)...))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		fl, err := readFlight(r)
		if err != nil {
			if fl != nil {
				t.Fatal("an error and a flight")
			}
			return
		}
		if fl.hello == nil && fl.alert == handshake.AlertNone {
			t.Fatal("neither hello nor alert")
		}
		if len(fl.certs) > maxCerts {
			t.Fatalf("%d certificates", len(fl.certs))
		}
		if fl.hello == nil {
			return
		}
		again, ok := parseServerHello(fl.hello.marshal())
		if !ok || !bytes.Equal(again.marshal(), fl.hello.marshal()) {
			t.Fatal("the hello does not survive")
		}
		if fl.request != nil {
			_ = request12(fl) // must not panic on any name
		}
	})
}

// FuzzServerHello: parse, marshal, the same bytes.
func FuzzServerHello(f *testing.F) {
	f.Add(hello12(0xc02f).marshal())
	f.Add(hello13(true).marshal())
	f.Add((&serverHello{legacy: 0x0301, suite: 10}).marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseServerHello(b)
		if !ok {
			if h != nil {
				t.Fatal("no, and a hello")
			}
			return
		}
		if !bytes.Equal(h.marshal(), b) {
			t.Fatalf("%x became %x", b, h.marshal())
		}
	})
}
