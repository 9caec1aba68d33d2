package native

import (
	"bytes"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
)

// messages12 are the messages that a CertificateVerify of TLS 1.2 signs, in order. Its hash,
// if it has one, is the client's choice and is not known before it comes (RFC 5246, section
// 7.4.8), so the messages are kept. The two of ours that may be large, the chain and the
// names of the CAs (64 KiB), are not: what they are made of is the plan's, so they are
// written anew.
type messages12 struct {
	wanted bool // a CertificateVerify may come
	parts  []part12
}

// part12 is one message.
type part12 struct {
	bytes []byte
	of    message // writes it anew; nil where bytes has it
}

// keep adds a message by its bytes.
func (l *messages12) keep(msg []byte) {
	if l.wanted {
		l.parts = append(l.parts, part12{bytes: msg})
	}
}

// add adds a message of ours.
func (l *messages12) add(m message, msg []byte) {
	switch m.(type) {
	case *wire.Certificate12, *request12:
		if l.wanted {
			l.parts = append(l.parts, part12{of: m})
		}
	default:
		l.keep(msg)
	}
}

// all are the bytes of all messages.
func (l *messages12) all() ([]byte, error) {
	var out bytes.Buffer
	for _, p := range l.parts {
		if p.of == nil {
			out.Write(p.bytes)
			continue
		}
		msg, err := p.of.Marshal()
		if err != nil {
			return nil, err
		}
		out.Write(msg)
	}
	return out.Bytes(), nil
}

// request12 is a CertificateRequest whose names are the plan's.
type request12 struct {
	wire.CertificateRequest12
	announced *handshake.AnnouncedCAs
}

// Marshal writes the message.
func (r *request12) Marshal() ([]byte, error) {
	m := r.CertificateRequest12
	for _, der := range r.announced.DER {
		m.Authorities = m.Authorities.Add(der)
	}
	return m.Marshal()
}
