package handshake

// ClientHello is step 1 as the client sent it (RFC 8446, section 4.1.2). It
// is parsed from one handshake message and marshals back to the same bytes.
type ClientHello struct {
	// Raw is the handshake message with its 4-byte header.
	Raw []byte
	// RecordVersion is the version of the record(s) it came in.
	RecordVersion uint16

	LegacyVersion      uint16
	Random             [32]byte
	SessionID          []byte
	CipherSuites       []uint16 // in the client's order, GREASE and signalling values included
	CompressionMethods []byte
	Extensions         []Extension // in the client's order, unknown ones included; nil if the hello had no extensions block
	HasExtensions      bool        // false for a hello that ends after the compression methods

	// Decoded from Extensions; nil or zero where absent.

	// ServerName is the SNI host_name in lower case without trailing dot, ""
	// where absent. SNIPresent tells absent from unusable; SNIInvalid is set
	// for a name that is no DNS host name (RFC 6066, section 3): an address
	// literal, an empty label, a forbidden byte.
	ServerName string
	SNIPresent bool
	SNIInvalid bool

	ALPN                 []string
	SupportedVersions    []uint16 // supported_versions, else derived from LegacyVersion
	Groups               []uint16
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
}

// Extension is one extension as it stands on the wire.
type Extension struct {
	Type uint16
	Data []byte
}
