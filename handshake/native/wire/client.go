package wire

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// ClientHello is what a client of TLS 1.3 alone offers (RFC 8446, section 4.1.2); what
// is nil or empty is left out. It marshals to what handshake.ParseClientHello reads.
type ClientHello struct {
	Random    [32]byte
	SessionID []byte // legacy_session_id: 32 bytes for middleboxes (appendix D.4), or none
	Suites    []uint16

	ServerName     string // a host name (RFC 6066, section 3)
	Groups         []uint16
	KeyShares      []KeyShare // of groups in Groups, in their order
	Signatures     []uint16
	SignaturesCert []uint16
	ALPN           []string
	StatusRequest  bool   // asks for an OCSP staple (RFC 6066, section 8)
	Cookie         []byte // of a HelloRetryRequest
	PSKModes       []byte // says that tickets are wanted (section 4.2.9)
}

// Marshal writes the message.
func (h *ClientHello) Marshal() ([]byte, error) {
	var exts []handshake.Extension
	add := func(typ uint16, data func(b *cryptobyte.Builder)) error {
		b := cryptobyte.NewBuilder(nil)
		data(b)
		content, err := b.Bytes()
		if err == nil && len(content) > 1<<16-1 {
			err = fmt.Errorf("%d bytes", len(content))
		}
		if err != nil {
			return fmt.Errorf("marshal extension %d of a ClientHello: %w", typ, err)
		}
		exts = append(exts, handshake.Extension{Type: typ, Data: content})
		return nil
	}
	for _, e := range h.extensions() {
		if !e.wanted {
			continue
		}
		if err := add(e.typ, e.data); err != nil {
			return nil, err
		}
	}
	return seal(handshake.TypeClientHello, func(b *cryptobyte.Builder) {
		b.AddUint16(version12)
		b.AddBytes(h.Random[:])
		vector8(b, h.SessionID)
		codes16(b, h.Suites)
		vector8(b, []byte{0}) // no compression
		addExtensions(b, exts, func(*cryptobyte.Builder) {})
	})
}

// offered is an extension of a hello.
type offered struct {
	typ    uint16
	wanted bool
	data   func(b *cryptobyte.Builder)
}

func (h *ClientHello) extensions() []offered {
	list16 := func(list []uint16) func(b *cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { codes16(b, list) }
	}
	return []offered{
		{handshake.ExtServerName, h.ServerName != "", func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				b.AddUint8(0) // host_name
				vector16(b, []byte(h.ServerName))
			})
		}},
		{handshake.ExtStatusRequest, h.StatusRequest, func(b *cryptobyte.Builder) { b.AddBytes([]byte{statusOCSP, 0, 0, 0, 0}) }},
		{handshake.ExtSupportedGroups, h.Groups != nil, list16(h.Groups)},
		{handshake.ExtSignatureAlgorithms, h.Signatures != nil, list16(h.Signatures)},
		{handshake.ExtSignatureAlgsCert, h.SignaturesCert != nil, list16(h.SignaturesCert)},
		{handshake.ExtALPN, h.ALPN != nil, func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				for _, p := range h.ALPN {
					vector8(b, []byte(p))
				}
			})
		}},
		{handshake.ExtSupportedVersions, true, func(b *cryptobyte.Builder) { b.AddBytes([]byte{2, 3, 4}) }},
		{handshake.ExtCookie, h.Cookie != nil, func(b *cryptobyte.Builder) { vector16(b, h.Cookie) }},
		{handshake.ExtPSKModes, h.PSKModes != nil, func(b *cryptobyte.Builder) { vector8(b, h.PSKModes) }},
		{handshake.ExtKeyShare, h.KeyShares != nil, func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				for _, s := range h.KeyShares {
					b.AddUint16(s.Group)
					vector16(b, s.Key)
				}
			})
		}},
	}
}

// Asked are the types of a hello's extensions: what may be answered, see Answers.
func Asked(h *handshake.ClientHello) []uint16 {
	types := make([]uint16, len(h.Extensions))
	for i, e := range h.Extensions {
		types[i] = e.Type
	}
	return types
}

// CheckServerHello holds a ServerHello or HelloRetryRequest against the hello that it
// answers (RFC 8446, sections 4.1.3, 4.1.4 and 4.2.8). retry is the HelloRetryRequest
// that came before, nil if there was none.
func CheckServerHello(offer *handshake.ClientHello, h, retry *ServerHello) error {
	name := msgServerHello
	if h.Retry {
		name = handshake.MsgHelloRetryRequest
	}
	illegal := func(what string) error { return bad(name, handshake.AlertIllegalParameter, "%s", what) }
	if h.Retry && retry != nil {
		return bad(name, handshake.AlertUnexpectedMessage, "the second one")
	}
	if err := Answers(name, h.Extensions, Asked(offer)); err != nil {
		return err
	}
	group := h.KeyShare.Group
	switch {
	case !bytes.Equal(h.SessionID, offer.SessionID):
		return illegal("legacy_session_id_echo is not that of the hello")
	case !slices.Contains(offer.CipherSuites, h.Suite) || !handshake.IsTLS13Suite(h.Suite):
		return illegal("a CipherSuite that is not offered for TLS 1.3")
	case retry != nil && h.Suite != retry.Suite:
		return illegal("another CipherSuite than in HelloRetryRequest")
	case retry != nil && retry.KeyShare.Group != 0 && group != retry.KeyShare.Group:
		return illegal("another group than in HelloRetryRequest")
	case group == 0:
	case h.Retry && (!slices.Contains(offer.Groups, group) || slices.Contains(offer.KeyShares, group)):
		return illegal("it asks for a key share that is not supported, or is there already")
	case !h.Retry && !slices.Contains(offer.KeyShares, group):
		return illegal("a key share of a group that had none in the hello")
	}
	if !h.PSK {
		return nil
	}
	psks, err := ReadPSKs(offer)
	if err != nil {
		return err
	}
	if psks == nil || int(h.SelectedIdentity) >= len(psks.Identities) {
		return illegal("a pre-shared key that is not offered")
	}
	return nil
}

// CheckEncrypted holds EncryptedExtensions against the hello (RFC 8446, section 4.3.1;
// RFC 7301, section 3.1). Early data is never offered, so it is never accepted.
func CheckEncrypted(offer *handshake.ClientHello, m *EncryptedExtensions) error {
	if err := Answers(msgEncryptedExtensions, m.Extensions, Asked(offer)); err != nil {
		return err
	}
	if m.ALPN != "" && !slices.Contains(offer.ALPN, m.ALPN) {
		return bad(msgEncryptedExtensions, handshake.AlertIllegalParameter, "a protocol that is not offered")
	}
	return nil
}
