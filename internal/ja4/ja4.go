// Package ja4 makes the JA4 fingerprint of a client hello, as FoxIO has published it
// (JA4: TLS client fingerprint). It tells programs apart by what they offer. A client
// chooses what it offers, so a fingerprint is a claim: nobody may be let through by it.
package ja4

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/handshake"
)

// none is what stands for an empty list.
const none = "000000000000"

// hashed is how many hexadecimal digits of a SHA-256 are kept.
const hashed = 12

// most is the largest count that two digits hold.
const most = 99

// Of is the fingerprint of a hello over TCP, such as
// "t13d1516h2_8daaf6152771_e5627efa2ab1". It needs the numbers of the extensions and not
// what is in them, except for what the hello has as fields: a compact hello will do.
func Of(h *handshake.ClientHello) string {
	suites := without(h.CipherSuites)
	var extensions []uint16 // those that are hashed
	count, sni := 0, "i"
	versions := []uint16{h.LegacyVersion}
	for _, e := range h.Extensions {
		if grease(e.Type) {
			continue
		}
		count++
		switch e.Type {
		case handshake.ExtServerName:
			sni = "d"
			continue
		case handshake.ExtALPN:
			continue
		case handshake.ExtSupportedVersions:
			versions = without(h.SupportedVersions)
		}
		extensions = append(extensions, e.Type)
	}
	slices.Sort(suites)
	slices.Sort(extensions)
	second, third := none, none
	if len(suites) > 0 {
		second = digest(list(suites))
	}
	if len(extensions) > 0 {
		text := list(extensions)
		if schemes := without(h.SignatureSchemes); len(schemes) > 0 {
			text += "_" + list(schemes) // in the client's order
		}
		third = digest(text)
	}
	return fmt.Sprintf("t%s%s%02d%02d%s_%s_%s", version(versions), sni, min(len(suites), most), min(count, most), protocol(h.ALPN), second, third)
}

// grease: 0x0a0a, 0x1a1a ... 0xfafa (RFC 8701, section 2).
func grease(id uint16) bool { return id&0x0f0f == 0x0a0a && id>>8 == id&0xff }

// without is a copy of a list without GREASE.
func without(ids []uint16) []uint16 { return slices.DeleteFunc(slices.Clone(ids), grease) }

// list is numbers in four hexadecimal digits, with commas.
func list(ids []uint16) string {
	b := make([]byte, 0, 5*len(ids))
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = hex.AppendEncode(b, []byte{byte(id >> 8), byte(id)})
	}
	return string(b)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:hashed]
}

// version is the highest version in two characters.
func version(all []uint16) string {
	if len(all) == 0 {
		return "00"
	}
	switch slices.Max(all) {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	}
	return "00"
}

// protocol is the first and the last character of the first ALPN protocol; of its
// hexadecimal form where one of them is neither a letter nor a digit.
func protocol(offered []string) string {
	if len(offered) == 0 || offered[0] == "" {
		return "00"
	}
	p := offered[0]
	if !alphanumeric(p[0]) || !alphanumeric(p[len(p)-1]) {
		p = hex.EncodeToString([]byte(p))
	}
	return string([]byte{p[0], p[len(p)-1]})
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
