package wire

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// Extensions that handshake does not decode (IANA "TLS ExtensionType Values").
const (
	extMaxFragmentLength uint16 = 1
	extUseSRTP           uint16 = 14
	extHeartbeat         uint16 = 15
	extClientCertType    uint16 = 19
	extServerCertType    uint16 = 20
	extPadding           uint16 = 21
	extCertAuthorities   uint16 = 47
	extOIDFilters        uint16 = 48
	extPostHandshakeAuth uint16 = 49
)

// place is a message with extensions: a column of the table of RFC 8446, section 4.2.
type place struct {
	message string
	allowed []uint16
	// asks says that the message is no answer: the reader ignores extensions that
	// it does not know. In an answer they are unsupported_extension.
	asks bool
}

// The columns SH, HRR, EE, CR, CT and NST of the table.
var (
	inServerHello = place{message: msgServerHello, allowed: []uint16{handshake.ExtPreSharedKey, handshake.ExtSupportedVersions, handshake.ExtKeyShare}}
	inHelloRetry  = place{message: handshake.MsgHelloRetryRequest, allowed: []uint16{handshake.ExtSupportedVersions, handshake.ExtCookie, handshake.ExtKeyShare}}
	inEncrypted   = place{message: msgEncryptedExtensions, allowed: []uint16{handshake.ExtServerName, extMaxFragmentLength, handshake.ExtSupportedGroups, extUseSRTP, extHeartbeat, handshake.ExtALPN, extClientCertType, extServerCertType, handshake.ExtEarlyData}}
	inCertRequest = place{message: handshake.MsgCertificateRequest, asks: true, allowed: []uint16{handshake.ExtStatusRequest, handshake.ExtSignatureAlgorithms, handshake.ExtSCT, extCertAuthorities, extOIDFilters, handshake.ExtSignatureAlgsCert}}
	inCertificate = place{message: handshake.MsgCertificate, allowed: []uint16{handshake.ExtStatusRequest, handshake.ExtSCT}}
	inNewTicket   = place{message: msgNewSessionTicket, asks: true, allowed: []uint16{handshake.ExtEarlyData}}
)

// known says whether the table names an extension at all, or TLS 1.2 knows it: one
// that is known and stands in a wrong message is illegal_parameter (RFC 8446,
// section 4.2).
func known(typ uint16) bool {
	switch typ {
	case handshake.ExtPointFormats, handshake.ExtExtendedMasterSecret, handshake.ExtSessionTicket, handshake.ExtRenegotiationInfo,
		extPadding, handshake.ExtCookie, handshake.ExtPSKModes, extPostHandshakeAuth:
		return true
	}
	for _, p := range []*place{&inServerHello, &inEncrypted, &inCertRequest} {
		if slices.Contains(p.allowed, typ) {
			return true
		}
	}
	return false
}

// readExtensions reads a block of extensions with its length, at the end of a message
// or of an entry. The place is judged by the caller: see judge.
func readExtensions(s *cryptobyte.String, message string) ([]handshake.Extension, error) {
	var block cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&block) {
		return nil, undecodable(message, "the extensions")
	}
	var list []handshake.Extension
	for !block.Empty() {
		var e handshake.Extension
		var data cryptobyte.String
		if !block.ReadUint16(&e.Type) || !block.ReadUint16LengthPrefixed(&data) {
			return nil, undecodable(message, "an extension")
		}
		if len(list) == maxExtensions {
			return nil, bad(message, handshake.AlertIllegalParameter, "more than %d extensions", maxExtensions)
		}
		// RFC 8446, section 4.2. The list is short (maxExtensions).
		if _, twice := find(list, e.Type); twice {
			return nil, bad(message, handshake.AlertIllegalParameter, "extension %d twice", e.Type)
		}
		e.Data = data
		list = append(list, e)
	}
	return list, nil
}

// judge says whether each extension may stand in that message.
func (p *place) judge(list []handshake.Extension) error {
	for _, e := range list {
		switch {
		case slices.Contains(p.allowed, e.Type):
		case known(e.Type):
			return bad(p.message, handshake.AlertIllegalParameter, "extension %d does not belong there", e.Type)
		case !p.asks:
			return bad(p.message, handshake.AlertUnsupportedExtension, "extension %d, which nobody asked for", e.Type)
		}
	}
	return nil
}

// read is readExtensions and judge.
func (p *place) read(s *cryptobyte.String) ([]handshake.Extension, error) {
	list, err := readExtensions(s, p.message)
	if err != nil {
		return nil, err
	}
	return list, p.judge(list)
}

// find is the content of an extension.
func find(list []handshake.Extension, typ uint16) (data []byte, ok bool) {
	for _, e := range list {
		if e.Type == typ {
			return e.Data, true
		}
	}
	return nil, false
}

// Answers says whether a message answers only what was asked for: a server or a client
// may not send an extension that the other side's message did not have (RFC 8446,
// section 4.2), the cookie of a HelloRetryRequest excepted. asked are the types of
// the hello or the request.
func Answers(message string, list []handshake.Extension, asked []uint16) error {
	for _, e := range list {
		if e.Type == handshake.ExtCookie && message == handshake.MsgHelloRetryRequest {
			continue
		}
		if !slices.Contains(asked, e.Type) {
			return bad(message, handshake.AlertUnsupportedExtension, "extension %d, which nobody asked for", e.Type)
		}
	}
	return nil
}

// addExtension writes one extension.
func addExtension(b *cryptobyte.Builder, typ uint16, data func(b *cryptobyte.Builder)) {
	b.AddUint16(typ)
	b.AddUint16LengthPrefixed(data)
}

// addEmpty writes an extension whose presence says it all.
func addEmpty(b *cryptobyte.Builder, typ uint16) {
	addExtension(b, typ, func(*cryptobyte.Builder) {})
}

// addExtensions writes a block: the list as it came, or where there is none what build
// adds.
func addExtensions(b *cryptobyte.Builder, list []handshake.Extension, build func(b *cryptobyte.Builder)) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		if list == nil {
			build(b)
			return
		}
		for _, e := range list {
			addExtension(b, e.Type, func(b *cryptobyte.Builder) { b.AddBytes(e.Data) })
		}
	})
}
