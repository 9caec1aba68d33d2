package handshake

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/internal/reason"
)

// only13 says whether an extension means something in TLS 1.3 alone (RFC 8446,
// section 4.2). supported_versions is none of them: it says what is offered.
func only13(typ uint16) bool {
	switch typ {
	case ExtPreSharedKey, ExtEarlyData, ExtCookie, ExtPSKModes, ExtKeyShare, ExtECH:
		return true
	}
	return false
}

// malformed is the refusal of a hello that breaks the protocol, with the
// alert that the RFC names for it.
func malformed(a Alert, format string, args ...any) *Error {
	e := refusef(reason.HelloMalformed, format, args...)
	e.Wanted = a
	return e
}

// refusef is Refuse at step 1 with a formatted detail.
func refusef(code reason.Code, format string, args ...any) *Error {
	return Refuse(StepClientHello, code, fmt.Sprintf(format, args...))
}

// decode reads the content of one extension into its field. An extension that
// is not decoded is fine whatever it holds.
func (h *ClientHello) decode(ext Extension) *Error {
	s := cryptobyte.String(ext.Data)
	ok := true
	switch ext.Type {
	case ExtServerName:
		return h.decodeServerName(s)
	case ExtStatusRequest: // RFC 6066, section 8
		var typ uint8
		var responders, exts cryptobyte.String
		ok = s.ReadUint8(&typ) && s.ReadUint16LengthPrefixed(&responders) && s.ReadUint16LengthPrefixed(&exts) && s.Empty()
		h.StatusRequest = typ == 1
	case ExtSupportedGroups: // RFC 8446, section 4.2.7
		if e := tooMany16(s, "groups", maxGroups); e != nil {
			return e
		}
		ok = readList16(s, &h.Groups)
	case ExtPointFormats: // RFC 8422, section 5.1.2
		var formats cryptobyte.String
		ok = s.ReadUint8LengthPrefixed(&formats) && s.Empty() && !formats.Empty()
		h.PointFormats = formats
	case ExtSignatureAlgorithms, ExtSignatureAlgsCert: // RFC 8446, section 4.2.3
		if e := tooMany16(s, "signature algorithms", maxSchemes); e != nil {
			return e
		}
		into := &h.SignatureSchemes
		if ext.Type == ExtSignatureAlgsCert {
			into = &h.SignatureSchemesCert
		}
		ok = readList16(s, into)
	case ExtALPN:
		return h.decodeALPN(s)
	case ExtSCT: // RFC 6962, section 3.3.1
		ok = s.Empty()
	case ExtExtendedMasterSecret: // RFC 7627, section 5.1
		ok, h.ExtendedMasterSecret = s.Empty(), true
	case ExtSessionTicket: // RFC 5077, section 3.2
		h.SessionTicket = true
	case ExtPreSharedKey:
		h.PreSharedKey = true
		return decodePreSharedKey(s)
	case ExtEarlyData: // RFC 8446, section 4.2.10
		ok, h.EarlyData = s.Empty(), true
	case ExtSupportedVersions: // RFC 8446, section 4.2.1
		var versions cryptobyte.String
		ok = s.ReadUint8LengthPrefixed(&versions) && s.Empty() && readUint16s(versions, &h.SupportedVersions)
	case ExtCookie: // RFC 8446, section 4.2.2
		var cookie cryptobyte.String
		ok = s.ReadUint16LengthPrefixed(&cookie) && s.Empty() && !cookie.Empty()
	case ExtPSKModes: // RFC 8446, section 4.2.9
		var modes cryptobyte.String
		ok = s.ReadUint8LengthPrefixed(&modes) && s.Empty() && !modes.Empty()
	case ExtKeyShare:
		return h.decodeKeyShare(s)
	case ExtECH:
		h.ECH = true
		return decodeECH(s)
	case ExtRenegotiationInfo:
		h.SecureRenegotiation = true
		return decodeRenegotiationInfo(s)
	}
	if !ok {
		return badExtension(ext.Type)
	}
	return nil
}

func badExtension(typ uint16) *Error {
	return malformed(AlertDecodeError, "extension %s", extensionName(typ))
}

// decodeALPN reads a ProtocolNameList (RFC 7301, section 3.1).
func (h *ClientHello) decodeALPN(s cryptobyte.String) *Error {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || !s.Empty() || list.Empty() {
		return badExtension(ExtALPN)
	}
	for !list.Empty() {
		var name cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&name) || name.Empty() {
			return badExtension(ExtALPN)
		}
		if len(h.ALPN) == MaxALPN {
			return tooMany("ALPN protocols", MaxALPN)
		}
		h.ALPN = append(h.ALPN, string(name))
	}
	return nil
}

// decodeKeyShare reads KeyShareClientHello (RFC 8446, section 4.2.8). An empty
// list is legal: it asks for a HelloRetryRequest.
func (h *ClientHello) decodeKeyShare(s cryptobyte.String) *Error {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || !s.Empty() {
		return badExtension(ExtKeyShare)
	}
	for !list.Empty() {
		var group uint16
		var share cryptobyte.String
		if !list.ReadUint16(&group) || !list.ReadUint16LengthPrefixed(&share) || share.Empty() {
			return badExtension(ExtKeyShare)
		}
		if len(h.KeyShares) == maxKeyShares {
			return tooMany("key shares", maxKeyShares)
		}
		h.KeyShares = append(h.KeyShares, group)
	}
	return nil
}

// decodePreSharedKey checks OfferedPsks (RFC 8446, section 4.2.11).
func decodePreSharedKey(s cryptobyte.String) *Error {
	var identities, binders cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&identities) || !s.ReadUint16LengthPrefixed(&binders) || !s.Empty() ||
		identities.Empty() || binders.Empty() {
		return badExtension(ExtPreSharedKey)
	}
	offered, bound := 0, 0
	for ; !identities.Empty(); offered++ {
		var identity cryptobyte.String
		var age uint32
		if offered == maxPSKs {
			return tooMany("pre-shared keys", maxPSKs)
		}
		if !identities.ReadUint16LengthPrefixed(&identity) || identity.Empty() || !identities.ReadUint32(&age) {
			return badExtension(ExtPreSharedKey)
		}
	}
	for ; !binders.Empty(); bound++ {
		var binder cryptobyte.String
		if bound == maxPSKs {
			return tooMany("binders of pre-shared keys", maxPSKs)
		}
		// PskBinderEntry<32..255>: no hash of TLS 1.3 is shorter.
		if !binders.ReadUint8LengthPrefixed(&binder) || len(binder) < 32 {
			return badExtension(ExtPreSharedKey)
		}
	}
	if offered != bound {
		return malformed(AlertIllegalParameter, "pre_shared_key has %d identities and %d binders", offered, bound)
	}
	return nil
}

// decodeECH checks ECHClientHello (RFC 9849, section 5): the content is not
// ours to read, but its shape is, for crypto/tls checks it too.
func decodeECH(s cryptobyte.String) *Error {
	const outer, inner = 0, 1
	var typ, config uint8
	if !s.ReadUint8(&typ) {
		return badExtension(ExtECH)
	}
	switch typ {
	case inner:
		if !s.Empty() {
			return badExtension(ExtECH)
		}
	case outer:
		var kdf, aead uint16
		var enc, payload cryptobyte.String
		if !s.ReadUint16(&kdf) || !s.ReadUint16(&aead) || !s.ReadUint8(&config) ||
			!s.ReadUint16LengthPrefixed(&enc) || !s.ReadUint16LengthPrefixed(&payload) || !s.Empty() || payload.Empty() {
			return badExtension(ExtECH)
		}
	default:
		return malformed(AlertIllegalParameter, "encrypted_client_hello of type %d", typ)
	}
	return nil
}

// decodeRenegotiationInfo: the first hello of a connection has nothing to
// renegotiate. RFC 5746, section 3.6, wants handshake_failure otherwise.
func decodeRenegotiationInfo(s cryptobyte.String) *Error {
	var info cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&info) || !s.Empty() {
		return badExtension(ExtRenegotiationInfo)
	}
	if !info.Empty() {
		return malformed(AlertHandshakeFailure, "renegotiation_info of a renegotiation in the first hello")
	}
	return nil
}

// checkTogether refuses extensions that contradict or lack one another.
func (h *ClientHello) checkTogether() *Error {
	has := func(typ uint16) bool {
		return slices.ContainsFunc(h.Extensions, func(e Extension) bool { return e.Type == typ })
	}
	if !h.offers13() {
		// RFC 8422, section 5.1.2: the list must have the uncompressed format.
		if h.PointFormats != nil && !slices.Contains(h.PointFormats, 0) {
			return malformed(AlertIllegalParameter, "ec_point_formats without uncompressed")
		}
		return nil
	}
	// RFC 8446, section 4.2.8: one share for a group, and only for groups of
	// supported_groups. Both lists are short (maxKeyShares, maxGroups).
	for i, g := range h.KeyShares {
		if slices.Contains(h.KeyShares[:i], g) {
			return malformed(AlertIllegalParameter, "two key shares of %s", GroupName(g))
		}
		if h.Groups != nil && !slices.Contains(h.Groups, g) {
			return malformed(AlertIllegalParameter, "a key share of %s, which supported_groups lacks", GroupName(g))
		}
	}
	// RFC 8446, section 4.2.9.
	if h.PreSharedKey && !has(ExtPSKModes) {
		return malformed(AlertMissingExtension, "pre_shared_key without psk_key_exchange_modes")
	}
	// RFC 8446, section 9.2.
	switch groups, shares := has(ExtSupportedGroups), has(ExtKeyShare); {
	case !groups && shares:
		return malformed(AlertMissingExtension, "key_share without supported_groups")
	case groups && !shares:
		return malformed(AlertMissingExtension, "supported_groups without key_share")
	case !groups && !h.PreSharedKey:
		return malformed(AlertMissingExtension, "TLS 1.3 without supported_groups")
	case !has(ExtSignatureAlgorithms) && !h.PreSharedKey:
		return malformed(AlertMissingExtension, "TLS 1.3 without signature_algorithms")
	}
	return nil
}

// readList16 reads a list of 16-bit values with a 16-bit length, not empty,
// and nothing behind it.
func readList16(s cryptobyte.String, out *[]uint16) bool {
	var list cryptobyte.String
	return s.ReadUint16LengthPrefixed(&list) && s.Empty() && readUint16s(list, out)
}

// readUint16s reads 16-bit values to the end of s. False for none, and for
// half a value.
func readUint16s(s cryptobyte.String, out *[]uint16) bool {
	if s.Empty() || len(s)%2 != 0 {
		return false
	}
	*out = make([]uint16, 0, len(s)/2)
	for i := 0; i < len(s); i += 2 {
		*out = append(*out, binary.BigEndian.Uint16(s[i:]))
	}
	return true
}

// hexList shows bytes of the peer, at most 16 of them.
func hexList(b []byte) string {
	if len(b) > 16 {
		return fmt.Sprintf("%s... (%d)", hex.EncodeToString(b[:16]), len(b))
	}
	return hex.EncodeToString(b)
}
