package handshake

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/reason"
)

// maxListed is how many names of what a client offered a detail lists: enough
// to see what kind of client it is, and at most about 800 bytes.
const maxListed = 16

// Acceptable judges step 1 against a profile: nil if there is a protocol
// version, a CipherSuite and a group in common. It chooses the version as
// crypto/tls will, the highest in common, and looks for the rest in that
// version alone, so that what crypto/tls would answer with handshake_failure
// gets its exact alert while that can still be sent in plaintext:
//
//   - ProtocolVersion, alert 70: no version in common
//   - NoCommonSuite, alert 71: no CipherSuite of that version in common
//   - NoCommonGroup, alert 71: none of its groups, where the suite needs one
//   - SNIInvalid, alert 47: a name with a trailing dot, which crypto/tls
//     cannot decode
//   - HelloMalformed: an extension of TLS 1.3 that does not decode, in a hello
//     that does not offer it. Nobody needs it, but crypto/tls decodes it too
//
// It says nothing of the certificate: which signature algorithms go with it,
// or whether it fits an ECDSA or an RSA CipherSuite.
func (h *ClientHello) Acceptable(p Profile) *Error {
	if h.SNITrailingDot {
		return refusef(reason.SNIInvalid, "%s ends with a dot", escaped([]byte(h.SNISent), 64))
	}
	if h.Fault13 != nil {
		return h.Fault13
	}
	version := uint16(0)
	for v := p.MaxVersion; v >= p.MinVersion && v >= versionTLS12; v-- {
		if slices.Contains(h.SupportedVersions, v) {
			version = v
			break
		}
	}
	switch version {
	case versionTLS13:
		return h.acceptable13(p)
	case versionTLS12:
		return h.acceptable12(p)
	}
	return refusef(reason.ProtocolVersion, "the client offers %s", listed(h.SupportedVersions, VersionName))
}

func (h *ClientHello) acceptable13(p Profile) *Error {
	want := p.Suites13
	if want == nil {
		want = Suites13()
	}
	if !common(want, h.CipherSuites) {
		return h.noSuite(versionTLS13)
	}
	if !common(p.Groups, h.Groups) {
		return h.noGroup()
	}
	return nil
}

// acceptable12: without a common group the ECDHE suites fall away, and what is
// left, RSA key transport, needs none (RFC 8422, section 4).
func (h *ClientHello) acceptable12(p Profile) *Error {
	if !common(p.Suites12, h.CipherSuites) {
		return h.noSuite(versionTLS12)
	}
	groups := slices.DeleteFunc(slices.Clone(p.Groups), GroupOnly13)
	suites := p.Suites12
	if !common(groups, h.Groups) {
		suites = slices.DeleteFunc(slices.Clone(suites), IsECDHE)
	}
	if !common(suites, h.CipherSuites) {
		return h.noGroup()
	}
	return nil
}

func (h *ClientHello) noSuite(version uint16) *Error {
	return refusef(reason.NoCommonSuite, "for %s the client offers %s", VersionName(version), listed(h.CipherSuites, SuiteName))
}

func (h *ClientHello) noGroup() *Error {
	if len(h.Groups) == 0 {
		return refusef(reason.NoCommonGroup, "the client offers no supported_groups")
	}
	return refusef(reason.NoCommonGroup, "the client offers %s", listed(h.Groups, GroupName))
}

func common(a, b []uint16) bool {
	return slices.ContainsFunc(a, func(v uint16) bool { return slices.Contains(b, v) })
}

// listed names at most maxListed numbers, without GREASE values.
func listed(ids []uint16, name func(uint16) string) string {
	ids = slices.DeleteFunc(slices.Clone(ids), isGREASE)
	rest := max(0, len(ids)-maxListed)
	names := make([]string, 0, maxListed)
	for _, id := range ids[:len(ids)-rest] {
		names = append(names, name(id))
	}
	switch {
	case len(names) == 0:
		return "nothing known"
	case rest > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), rest)
	}
	return strings.Join(names, ", ")
}

// Summary is step 1 in short for the ledger, without GREASE: "TLS 1.3, 1.2; 17
// CipherSuites; X25519MLKEM768 share; sni shop.example; alpn h2". What the
// peer chose freely is bounded, and in quotes unless it is a host name.
func (h *ClientHello) Summary() string {
	known := func(id uint16) bool { return isGREASE(id) || id == suiteRenegotiationSCSV || id == suiteFallbackSCSV }
	n := len(slices.DeleteFunc(slices.Clone(h.CipherSuites), known))
	parts := []string{
		"TLS " + listed(h.SupportedVersions, func(v uint16) string { return strings.TrimPrefix(VersionName(v), "TLS ") }),
		Plural(n, "CipherSuite"),
	}
	if shares := slices.DeleteFunc(slices.Clone(h.KeyShares), isGREASE); len(shares) > 0 {
		parts = append(parts, listed(shares, GroupName)+" share")
	}
	switch {
	case h.SNIInvalid:
		parts = append(parts, "unusable sni "+escaped([]byte(h.SNISent), 64))
	case h.SNIPresent:
		parts = append(parts, "sni "+h.ServerName)
	default:
		parts = append(parts, "no sni")
	}
	if len(h.ALPN) > 0 {
		parts = append(parts, "alpn "+h.protocols())
	}
	if h.ECH {
		parts = append(parts, "ech")
	}
	return strings.Join(parts, "; ")
}

// protocols names at most four ALPN protocols.
func (h *ClientHello) protocols() string { return shortProtocols(h.ALPN) }

// shortProtocols names at most four protocols.
func shortProtocols(list []string) string {
	var names []string
	for i, p := range list {
		if i == 4 {
			names = append(names, "...")
			break
		}
		if q := escaped([]byte(p), 32); q != `"`+p+`"` || strings.ContainsAny(p, " ,;") {
			p = q
		}
		names = append(names, p)
	}
	return strings.Join(names, " ")
}
