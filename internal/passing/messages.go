package passing

import (
	"bytes"
	"crypto/sha256"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// clientRecord: nothing of the client is in the clear behind these.
func (r *Reader) clientRecord(byte) bool { return false }

// clientMessage reads a message of the client: its hello, and up to TLS 1.2 its
// certificate. It reads on until a record of another type comes.
func (r *Reader) clientMessage(msg []byte) bool {
	switch msg[0] {
	case handshake.TypeClientHello:
		if r.known || r.hello != nil { // or the one after a HelloRetryRequest
			return true
		}
		hello, err := handshake.ParseClientHello(msg)
		if err != nil {
			return false
		}
		r.hello = hello.Compact()
		r.held.Add(int64(r.hello.Held()))
		return true
	case handshake.TypeCertificate:
		leaf, ok := leaf12(msg)
		if ok && r.clientLeaf == nil {
			r.clientLeaf = r.keep(leaf)
		}
		return ok
	case handshake.TypeClientKeyExchange, handshake.TypeCertificateVerify:
		return true
	}
	return false
}

// serverRecord: in TLS 1.3 a change_cipher_spec means nothing (RFC 8446, appendix D.4); it
// stands between a HelloRetryRequest and the hello. Before that it ends what is in the
// clear: without a certificate before it, the session was resumed.
func (r *Reader) serverRecord(typ byte) bool {
	if typ != handshake.RecordCCS || r.state == nil {
		return false
	}
	if r.state.Version < version13 {
		r.state.Resumed = r.certificates == 0
		return false
	}
	return true
}

const version13 = 0x0304

// serverMessage reads a message of the server.
func (r *Reader) serverMessage(msg []byte) bool {
	body := cryptobyte.String(msg[handshake.MessageHeader:])
	switch msg[0] {
	case handshake.TypeServerHello:
		if r.state != nil && !r.state.HelloRetry {
			return false
		}
		state, retry, ok := serverHello(body)
		if !ok {
			return false
		}
		state.HelloRetry = retry || r.state != nil
		r.state = state
		return retry || state.Version < version13
	case handshake.TypeCertificate:
		leaf, ok := leaf12(msg)
		if r.state == nil || !ok {
			return false
		}
		if r.certificates++; r.certificates == 1 {
			r.destLeaf = r.keep(leaf)
		}
	case handshake.TypeServerKeyExchange:
		// RFC 8422, section 5.4: ECParameters, with a named curve.
		var typ uint8
		var group uint16
		if r.state != nil && handshake.IsECDHE(r.state.Suite) && body.ReadUint8(&typ) && typ == 3 && body.ReadUint16(&group) {
			r.state.Group = group
		}
	case handshake.TypeCertificateRequest:
		r.asked = true
	case handshake.TypeServerHelloDone:
		return false
	}
	return r.state != nil
}

// serverHello reads a ServerHello of any version (RFC 8446, section 4.1.3; RFC 5246,
// section 7.4.1.3), leniently: it is not ours to refuse.
func serverHello(s cryptobyte.String) (st *handshake.State, retry, ok bool) {
	st = &handshake.State{}
	var random []byte
	var session cryptobyte.String
	var compression uint8
	if !s.ReadUint16(&st.Version) || !s.ReadBytes(&random, 32) || !s.ReadUint8LengthPrefixed(&session) || !s.ReadUint16(&st.Suite) || !s.ReadUint8(&compression) {
		return nil, false, false
	}
	sum := sha256.Sum256([]byte("HelloRetryRequest"))
	retry = bytes.Equal(random, sum[:])
	if s.Empty() {
		return st, false, true
	}
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return nil, false, false
	}
	for !list.Empty() {
		var typ uint16
		var data cryptobyte.String
		if !list.ReadUint16(&typ) || !list.ReadUint16LengthPrefixed(&data) {
			return nil, false, false
		}
		switch typ {
		case handshake.ExtSupportedVersions:
			data.ReadUint16(&st.Version)
		case handshake.ExtKeyShare:
			data.ReadUint16(&st.Group)
		case handshake.ExtPreSharedKey:
			st.Resumed = true
		case handshake.ExtExtendedMasterSecret:
			st.ExtendedMasterSecret = true
		case handshake.ExtALPN:
			var names, name cryptobyte.String
			if data.ReadUint16LengthPrefixed(&names) && names.ReadUint8LengthPrefixed(&name) {
				st.ALPN = string(name)
			}
		}
	}
	if st.Version >= version13 {
		st.ExtendedMasterSecret = true
	}
	return st, retry, true
}

// leaf12 is the first certificate of a Certificate message up to TLS 1.2 (RFC 5246,
// section 7.4.2), empty where there is none.
func leaf12(msg []byte) (der []byte, ok bool) {
	body := cryptobyte.String(msg[handshake.MessageHeader:])
	var list, first cryptobyte.String
	if !body.ReadUint24LengthPrefixed(&list) || !body.Empty() {
		return nil, false
	}
	if list.Empty() {
		return nil, true
	}
	return first, list.ReadUint24LengthPrefixed(&first)
}
