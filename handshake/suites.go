package handshake

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// Versions in short: the numbers of crypto/tls, and those older than it knows.
const (
	versionSSL30 uint16 = 0x0300
	versionTLS10 uint16 = tls.VersionTLS10
	versionTLS12 uint16 = tls.VersionTLS12
	versionTLS13 uint16 = tls.VersionTLS13
)

// The signalling values among the CipherSuites (RFC 5746, section 3.3; RFC 7507, section 2).
const (
	suiteRenegotiationSCSV uint16 = 0x00ff
	suiteFallbackSCSV      uint16 = tls.TLS_FALLBACK_SCSV
)

// code is one line of an IANA registry: a number, its name, and other names
// that people write for it.
type code struct {
	id    uint16
	name  string
	alias []string
}

// codeName prints a number of a registry; a GREASE value (RFC 8701) and an
// unknown one as such, in hexadecimal.
func codeName(table []code, id uint16) string {
	if i := slices.IndexFunc(table, func(c code) bool { return c.id == id }); i >= 0 {
		return table[i].name
	}
	return unknownName(id)
}

func unknownName(id uint16) string {
	if isGREASE(id) {
		return fmt.Sprintf("GREASE(%#04x)", id)
	}
	return fmt.Sprintf("%#04x", id)
}

// isGREASE: 0x0a0a, 0x1a1a ... 0xfafa (RFC 8701, section 2).
func isGREASE(id uint16) bool {
	return id&0x0f0f == 0x0a0a && id>>8 == id&0xff
}

// numberOf resolves a name, without regard to case, among the codes that ok
// admits. The error names the registry (what) and the engine that lacks the others.
func numberOf(table []code, what, word, engine string, ok func(uint16) bool) (uint16, error) {
	var names []string
	for _, c := range table {
		has := strings.EqualFold(c.name, word)
		for _, a := range c.alias {
			has = has || strings.EqualFold(a, word)
		}
		switch {
		case has && ok(c.id):
			return c.id, nil
		case has:
			return 0, fmt.Errorf("%s %s is not implemented by %s", what, c.name, engine)
		case ok(c.id):
			names = append(append(names, c.name), c.alias...)
		}
	}
	return 0, fmt.Errorf("unknown %s %q%s", what, word, fielderr.Suggest(word, names))
}

// SuiteName prints a CipherSuite by its IANA name: "TLS_AES_128_GCM_SHA256".
// A GREASE value is "GREASE(0x0a0a)", an unknown one "0x1a2b".
func SuiteName(id uint16) string {
	if e, ok := lookupSuite(id); ok {
		return e.name
	}
	return unknownName(id)
}

func lookupSuite(id uint16) (suiteEntry, bool) {
	i, ok := slices.BinarySearchFunc(suiteTable[:], id, func(e suiteEntry, id uint16) int { return int(e.id) - int(id) })
	if !ok {
		return suiteEntry{}, false
	}
	return suiteTable[i], true
}

// IsTLS13Suite says whether a CipherSuite is one of TLS 1.3 (RFC 8446,
// appendix B.4), which name no key exchange and no signature.
func IsTLS13Suite(id uint16) bool { return id>>8 == 0x13 }

// Suites13 are those of them that are in use, in the order of the RFC.
func Suites13() []uint16 {
	return []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
}

// IsECDHE says whether a TLS 1.2 CipherSuite needs a common group and gives
// forward secrecy.
func IsECDHE(id uint16) bool { return strings.HasPrefix(SuiteName(id), "TLS_ECDHE_") }

// isAEAD says whether a CipherSuite encrypts and authenticates in one (RFC 5246, section 6.2.3.3).
func isAEAD(id uint16) bool {
	name := SuiteName(id)
	return strings.Contains(name, "_GCM_") || strings.Contains(name, "_CHACHA20_") || strings.Contains(name, "_CCM")
}

// VersionName prints a protocol version: "TLS 1.3".
func VersionName(v uint16) string { return codeName(versionTable[:], v) }

// GroupName prints a key exchange group: "X25519MLKEM768", "secp256r1".
func GroupName(id uint16) string { return codeName(groupTable[:], id) }

// GroupOnly13 says that a group exists in TLS 1.3 only: the ML-KEM hybrids.
func GroupOnly13(id uint16) bool { return strings.Contains(GroupName(id), "MLKEM") }

// SchemeName prints a signature scheme: "rsa_pss_rsae_sha256".
func SchemeName(id uint16) string { return codeName(schemeTable[:], id) }

// extensionName prints an extension's type with its number: "server_name(0)".
func extensionName(id uint16) string {
	name := codeName(extensionTable[:], id)
	if name == unknownName(id) {
		return name
	}
	return fmt.Sprintf("%s(%d)", name, id)
}
