package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// Record and handshake message types (RFC 8446, section 5.1 and 4; RFC 5246, section 7.4).
const (
	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordApplicationData  = 23

	typeServerHello        = 2
	typeCertificate        = 11
	typeServerKeyExchange  = 12
	typeCertificateRequest = 13
	typeServerHelloDone    = 14
	typeCertificateStatus  = 22
)

// Bounds in bytes of a flight, which is what a server sends before the client's turn.
// crypto/tls takes a Certificate message of at most 256 KiB.
const (
	maxFlight  = 512 << 10
	maxMessage = 256 << 10
	maxRecord  = 1<<14 + 256 // RFC 8446, section 5.2
	maxCerts   = 100
)

// flight is a server's plaintext answer to one ClientHello.
type flight struct {
	hello   *serverHello
	certs   [][]byte // DER, leaf first; before TLS 1.3
	keys    *keyExchange
	request *certificateRequest
	stapled bool // CertificateStatus came
	done    bool // ServerHelloDone came
	alert   handshake.Alert
}

// serverHello is a ServerHello or HelloRetryRequest (RFC 8446, section 4.1.3
// and 4.1.4; RFC 5246, section 7.4.1.3).
type serverHello struct {
	legacy        uint16
	random        [32]byte
	sessionID     []byte
	suite         uint16
	compression   uint8
	extensions    []handshake.Extension
	hasExtensions bool

	version uint16 // the one agreed on
	retry   bool   // it is a HelloRetryRequest
	group   uint16 // of key_share, 0 without
	alpn    string
}

// keyExchange is what a ServerKeyExchange says about its group.
type keyExchange struct {
	group  uint16 // ECDHE with a named curve, else 0
	dhBits int    // DHE: the size of its prime in bits, else 0
}

// certificateRequest is the CertificateRequest of TLS 1.0 to 1.2 (RFC 5246, section
// 7.4.4).
type certificateRequest struct {
	types   []byte
	schemes []uint16 // only TLS 1.2
	names   [][]byte // DER
}

var errFlight = errors.New("the answer is no TLS")

// answered says that the server chose something and did not take it back.
func (f *flight) answered() bool { return f.hello != nil && f.alert == handshake.AlertNone }

// readFlight reads until the server's turn is over: at ServerHelloDone, at an alert, and
// in TLS 1.3 behind the ServerHello, because the rest is encrypted. Either the flight has
// a hello or an alert, or there is an error.
func readFlight(r io.Reader) (*flight, error) {
	f := &flight{alert: handshake.AlertNone}
	var pending []byte // of handshake messages
	for total := 0; ; {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		n := int(binary.BigEndian.Uint16(head[3:]))
		if head[0] < recordChangeCipherSpec || head[0] > recordApplicationData || head[1] != 3 || n > maxRecord || n == 0 {
			return nil, fmt.Errorf("%w: it starts with %x", errFlight, head)
		}
		if total += n + len(head); total > maxFlight {
			return nil, fmt.Errorf("%w: more than %d bytes", errFlight, maxFlight)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		switch head[0] {
		case recordAlert:
			if n != 2 || handshake.Alert(body[1]) == handshake.AlertNone {
				return nil, fmt.Errorf("%w: a record of type alert that is none", errFlight)
			}
			if body[0] == 1 && body[1] == byte(handshake.AlertUnrecognizedName) {
				continue // RFC 6066, section 3: this warning is ignored
			}
			f.alert = handshake.Alert(body[1])
			return f, nil
		case recordHandshake:
			pending = append(pending, body...)
			rest, err := f.messages(pending)
			if err != nil {
				return nil, err
			}
			if f.done || f.hello != nil && f.hello.version > 0x0303 {
				return f, nil
			}
			pending = rest
		default:
			return nil, fmt.Errorf("%w: a record of type %d in place of the handshake", errFlight, head[0])
		}
	}
}

// messages parses the whole handshake messages at the start of b and returns the rest.
func (f *flight) messages(b []byte) ([]byte, error) {
	for len(b) >= 4 && !f.done {
		n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		if n > maxMessage {
			return nil, fmt.Errorf("%w: a handshake message of %d bytes", errFlight, n)
		}
		if len(b) < 4+n {
			return b, nil
		}
		if err := f.message(b[0], b[4:4+n]); err != nil {
			return nil, err
		}
		b = b[4+n:]
		if f.hello.version > 0x0303 {
			return nil, nil // only encrypted records may follow
		}
	}
	return b, nil
}

func (f *flight) message(typ byte, body cryptobyte.String) error {
	if (f.hello == nil) != (typ == typeServerHello) {
		return fmt.Errorf("%w: handshake message %d out of turn", errFlight, typ)
	}
	ok := true
	switch typ {
	case typeServerHello:
		f.hello, ok = parseServerHello(body)
	case typeCertificate:
		f.certs, ok = parseCertificates(body)
	case typeServerKeyExchange:
		f.keys, ok = parseKeyExchange(handshake.SuiteName(f.hello.suite), body)
	case typeCertificateRequest:
		f.request, ok = parseRequest(body, f.hello.version >= 0x0303)
	case typeCertificateStatus:
		f.stapled = true
	case typeServerHelloDone:
		f.done, ok = true, body.Empty()
	}
	if !ok {
		return fmt.Errorf("%w: handshake message %d cannot be decoded", errFlight, typ)
	}
	return nil
}
