package handshake

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/internal/reason"
)

// MaxHello bounds a ClientHello, in bytes with its 4-byte header, whatever
// the configuration says. It is also the bound of crypto/tls. The largest
// hellos in use (ML-KEM key share, session ticket, ECH) stay below 4 KiB.
const MaxHello = 64 << 10

// ClientHello is step 1 as the client sent it (RFC 8446, section 4.1.2). It
// is parsed from one handshake message and marshals back to the same bytes.
// It is shared by everyone who looks at the flow: nobody changes it.
type ClientHello struct {
	// Raw is the handshake message with its 4-byte header.
	Raw []byte
	// RecordVersion is the version of the record(s) it came in: of the first
	// one. RFC 8446, section 5.1, wants it ignored, so nothing is decided by it.
	RecordVersion uint16
	// Records is the number of records it came in; 0 where that is not known.
	Records int

	LegacyVersion      uint16
	Random             [32]byte
	SessionID          []byte
	CipherSuites       []uint16 // in the client's order, GREASE and signalling values included
	CompressionMethods []byte
	Extensions         []Extension // in the client's order, unknown ones included; nil if the hello had no extensions block
	HasExtensions      bool        // false for a hello that ends after the compression methods

	// Decoded from Extensions; nil or zero where absent.

	// ServerName is the SNI host_name in lower case without trailing dot, ""
	// where absent or unusable. SNIPresent tells absent from unusable;
	// SNIInvalid is set for a name that is no DNS host name (RFC 6066, section
	// 3): an address literal, an empty label, a forbidden byte. See hostName
	// for the exact reading.
	ServerName string
	SNIPresent bool
	SNIInvalid bool
	// SNISent is the name byte for byte as it was sent, usable or not: for the
	// record alone, and to be escaped there. Nothing may be decided by it.
	SNISent string
	// SNITrailingDot says that the name was sent with a trailing dot. RFC
	// 6066, section 3, excludes it and crypto/tls does not go on with it.
	SNITrailingDot bool

	ALPN                 []string
	SupportedVersions    []uint16 // supported_versions, else derived from LegacyVersion
	Groups               []uint16
	PointFormats         []byte
	KeyShares            []uint16 // groups of the key shares, in order
	SignatureSchemes     []uint16
	SignatureSchemesCert []uint16
	ExtendedMasterSecret bool
	SecureRenegotiation  bool // the extension or TLS_EMPTY_RENEGOTIATION_INFO_SCSV
	StatusRequest        bool
	EarlyData            bool
	PreSharedKey         bool
	SessionTicket        bool
	ECH                  bool // encrypted_client_hello present, GREASE or not: the outer name decides

	// Fault13 is the first extension of TLS 1.3 that does not decode, in a hello
	// that does not offer TLS 1.3: nothing is decided by it, see Acceptable.
	Fault13 *Error
}

// Extension is one extension as it stands on the wire.
type Extension struct {
	Type uint16
	Data []byte
}

// ParseClientHello reads one handshake message with its 4-byte header: step 1
// of TLS 1.0 to 1.3. It copies msg.
//
// It is strict: what RFC 8446 or RFC 5246 forbid is refused even where
// crypto/tls would let it pass, and what passes here crypto/tls can decode
// too (except a name with a trailing dot, see SNITrailingDot, and extensions of TLS
// 1.3 without an offer of it, see Acceptable). An extension that is unknown, or that
// nothing here needs, is carried as it is. The rules of TLS 1.3 are for hellos that
// offer it: to a server of TLS 1.2 its extensions are unknown ones.
//
// The error is a *Error of step 1 with the alert that the RFC names:
// decode_error for wrong lengths, illegal_parameter or missing_extension for
// what can be read but may not be sent, protocol_version for SSL 3.0 and
// older. The hello is nil then. A list that is longer than its cap (see
// maxCipherSuites) is refused before it is read: reading and judging a hello
// cost no more than linear time in its bytes.
func ParseClientHello(msg []byte) (*ClientHello, error) {
	h, e := parseClientHello(msg)
	if e != nil {
		return nil, e
	}
	return h, nil
}

func parseClientHello(msg []byte) (*ClientHello, *Error) {
	if len(msg) > MaxHello {
		return nil, Refuse(StepClientHello, reason.HelloTooLarge, "")
	}
	h := &ClientHello{Raw: bytes.Clone(msg)}
	s := cryptobyte.String(h.Raw)
	var typ uint8
	var body cryptobyte.String
	if !s.ReadUint8(&typ) {
		return nil, malformed(AlertDecodeError, "empty message")
	}
	if typ != TypeClientHello {
		return nil, malformed(AlertUnexpectedMessage, "handshake message of type %d instead of ClientHello", typ)
	}
	if !s.ReadUint24LengthPrefixed(&body) || !s.Empty() {
		return nil, malformed(AlertDecodeError, "the message's length does not fit its content")
	}
	if e := h.readFixed(&body); e != nil {
		return nil, e
	}
	if e := h.readExtensions(&body); e != nil {
		return nil, e
	}
	h.derive()
	if h.Fault13 != nil && h.offers13() {
		return nil, h.Fault13
	}
	if e := h.checkCompression(); e != nil {
		return nil, e
	}
	if e := h.checkTogether(); e != nil {
		return nil, e
	}
	return h, nil
}

// readFixed reads what every hello has, up to the compression methods.
func (h *ClientHello) readFixed(s *cryptobyte.String) *Error {
	if !s.ReadUint16(&h.LegacyVersion) || !s.CopyBytes(h.Random[:]) {
		return malformed(AlertDecodeError, "ends before the random does")
	}
	// RFC 8446, appendix D.5: a hello of SSL 3.0 gets protocol_version.
	if h.LegacyVersion <= versionSSL30 {
		return Refuse(StepClientHello, reason.ProtocolVersion, "the hello is of "+VersionName(h.LegacyVersion))
	}
	var sid, suites, compression cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&sid) || len(sid) > 32 {
		return malformed(AlertDecodeError, "session ID")
	}
	// RFC 8446, section 4.1.2: cipher_suites<2..2^16-2>, compression_methods<1..2^8-1>.
	if !s.ReadUint16LengthPrefixed(&suites) {
		return malformed(AlertDecodeError, "list of CipherSuites")
	}
	if len(suites) > 2*maxCipherSuites {
		return tooMany("CipherSuites", maxCipherSuites)
	}
	if !readUint16s(suites, &h.CipherSuites) {
		return malformed(AlertDecodeError, "list of CipherSuites")
	}
	if !s.ReadUint8LengthPrefixed(&compression) || compression.Empty() {
		return malformed(AlertDecodeError, "list of compression methods")
	}
	h.SessionID, h.CompressionMethods = sid, compression
	return nil
}

// readExtensions reads the extensions block, which a hello before TLS 1.3 may
// lack altogether (RFC 5246, section 7.4.1.2).
func (h *ClientHello) readExtensions(s *cryptobyte.String) *Error {
	if s.Empty() {
		return nil
	}
	h.HasExtensions = true
	var block cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&block) || !s.Empty() {
		return malformed(AlertDecodeError, "the length of the extensions does not fit the message")
	}
	seen := make(map[uint16]struct{}, 16)
	for !block.Empty() {
		var ext Extension
		var data cryptobyte.String
		if !block.ReadUint16(&ext.Type) || !block.ReadUint16LengthPrefixed(&data) {
			return malformed(AlertDecodeError, "an extension is cut short")
		}
		if len(h.Extensions) == maxExtensions {
			return tooMany("extensions", maxExtensions)
		}
		ext.Data = data
		// RFC 8446, section 4.2: not more than one extension of a type.
		if _, twice := seen[ext.Type]; twice {
			return malformed(AlertIllegalParameter, "extension %s twice", extensionName(ext.Type))
		}
		seen[ext.Type] = struct{}{}
		h.Extensions = append(h.Extensions, ext)
		e := h.decode(ext)
		// RFC 8446, section 4.2.11.
		if e == nil && ext.Type == ExtPreSharedKey && !block.Empty() {
			e = malformed(AlertIllegalParameter, "pre_shared_key is not the last extension")
		}
		switch {
		case e == nil:
		case !only13(ext.Type) || e.Reason != reason.HelloMalformed:
			return e
		case h.Fault13 == nil:
			h.Fault13 = e // whether TLS 1.3 is offered is known behind the last one
		}
	}
	return nil
}

// derive fills in what follows from absent extensions and signalling values.
func (h *ClientHello) derive() {
	if slices.Contains(h.CipherSuites, suiteRenegotiationSCSV) {
		h.SecureRenegotiation = true
	}
	if h.SupportedVersions == nil {
		// RFC 8446, section 4.2.1: without supported_versions TLS 1.2 or older
		// is meant, even if legacy_version is later.
		for v := min(h.LegacyVersion, versionTLS12); v >= versionTLS10; v-- {
			h.SupportedVersions = append(h.SupportedVersions, v)
		}
	}
}

// offers13 says whether the client attempts TLS 1.3 (RFC 8446, section 9.2).
func (h *ClientHello) offers13() bool {
	return slices.Contains(h.SupportedVersions, versionTLS13)
}

// checkCompression: RFC 5246, section 7.4.1.2, demands the null method; RFC
// 8446, section 4.1.2, nothing else in a hello that offers TLS 1.3.
func (h *ClientHello) checkCompression() *Error {
	if !bytes.Contains(h.CompressionMethods, []byte{0}) {
		return refusef(reason.BadCompression, "methods %s, without null", hexList(h.CompressionMethods))
	}
	if h.offers13() && len(h.CompressionMethods) != 1 {
		return refusef(reason.BadCompression, "methods %s with TLS 1.3", hexList(h.CompressionMethods))
	}
	return nil
}

// Marshal encodes the hello from its fields and Extensions: the same bytes
// that were parsed. The fields that are decoded from extensions are not used.
func (h *ClientHello) Marshal() []byte {
	b := make([]byte, 4, len(h.Raw)+4)
	b[0] = TypeClientHello
	b = binary.BigEndian.AppendUint16(b, h.LegacyVersion)
	b = append(b, h.Random[:]...)
	b = append(b, byte(len(h.SessionID)))
	b = append(b, h.SessionID...)
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(h.CipherSuites)))
	for _, s := range h.CipherSuites {
		b = binary.BigEndian.AppendUint16(b, s)
	}
	b = append(b, byte(len(h.CompressionMethods)))
	b = append(b, h.CompressionMethods...)
	if h.HasExtensions {
		at := len(b)
		b = append(b, 0, 0)
		for _, e := range h.Extensions {
			b = binary.BigEndian.AppendUint16(b, e.Type)
			b = binary.BigEndian.AppendUint16(b, uint16(len(e.Data)))
			b = append(b, e.Data...)
		}
		binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	}
	n := len(b) - 4
	b[1], b[2], b[3] = byte(n>>16), byte(n>>8), byte(n)
	return b
}
