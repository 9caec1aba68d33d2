package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/policy/pattern"
)

// addrs are the addresses of a certificate.
type addrs []netip.Addr

// parseText reads a string that is compared as it is.
func parseText(s string) (string, error) {
	if s == "" {
		return "", errors.New("the text is empty")
	}
	if !pattern.PlainText(s) {
		return "", errors.New("the text has control characters or is not UTF-8")
	}
	return s, nil
}

// parseDN reads a distinguished name into the one form in which those of
// certificates are compared with it. What is none is kept as it is: it never
// fits, and doubtDN says so.
func parseDN(s string) (string, error) {
	if !strings.Contains(s, "=") {
		return "", errors.New(`this is a distinguished name in the form of RFC 4514, "CN=Staff CA,O=Example"`)
	}
	if canonical, err := certname.Canonical(s); err == nil {
		return canonical, nil
	}
	return parseText(s)
}

func parseSPKI(s string) (string, error) {
	plain := strings.ReplaceAll(strings.ToLower(s), ":", "")
	if b, err := hex.DecodeString(plain); err != nil || len(b) != 32 {
		return "", errors.New("a pin is the SHA-256 of the SubjectPublicKeyInfo in 64 hex digits")
	}
	if plain != s {
		return "", fmt.Errorf("write the pin in lower case without colons: %q", plain)
	}
	return s, nil
}

// parseSerial: a serial number is positive and has at most 20 octets (RFC
// 5280, section 4.1.2.2).
func parseSerial(s string) (string, error) {
	plain := strings.TrimLeft(strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s, "0x")), ":", ""), "0")
	for _, c := range []byte(plain) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			plain = ""
		}
	}
	if plain == "" || len(plain) > 40 {
		return "", errors.New("a serial number is a positive number of at most 20 bytes in hex digits")
	}
	if plain != s {
		return "", fmt.Errorf("write the serial number in lower case without colons and leading zeros: %q", plain)
	}
	return s, nil
}

// parseOID: an OID is compared as its dotted form, which has one way only.
func parseOID(s string) (string, error) {
	arcs := strings.Split(s, ".")
	sound := len(arcs) >= 2 && len(arcs) <= 32 && len(arcs[0]) == 1 && arcs[0] <= "2"
	for _, a := range arcs {
		// 39 digits are what 128 bits have, for OIDs made of UUIDs.
		sound = sound && a != "" && len(a) <= 39 && strings.Trim(a, "0123456789") == "" && (a == "0" || a[0] != '0')
	}
	if !sound {
		return "", errors.New(`an OID is written "1.3.6.1.5.5.7.3.2"`)
	}
	return s, nil
}

// ekuNames are the extended key usages with a name (RFC 5280, section
// 4.2.1.12, and what is met beside it), in pairs.
var ekuNames = [...][2]string{
	{"anyExtendedKeyUsage", "2.5.29.37.0"},
	{"serverAuth", "1.3.6.1.5.5.7.3.1"},
	{"clientAuth", "1.3.6.1.5.5.7.3.2"},
	{"codeSigning", "1.3.6.1.5.5.7.3.3"},
	{"emailProtection", "1.3.6.1.5.5.7.3.4"},
	{"timeStamping", "1.3.6.1.5.5.7.3.8"},
	{"OCSPSigning", "1.3.6.1.5.5.7.3.9"},
	{"ipsecIKE", "1.3.6.1.5.5.7.3.17"},
	{"smartcardLogon", "1.3.6.1.4.1.311.20.2.2"},
}

func parseEKU(s string) (string, error) {
	var names []string
	for _, e := range ekuNames {
		if e[0] == s {
			return e[1], nil
		}
		names = append(names, e[0])
	}
	if _, err := parseOID(s); err == nil {
		return s, nil
	}
	return "", fmt.Errorf("this is no extended key usage; those with a name are %s, others are written as OIDs%s", orList(names), fielderr.Suggest(s, names))
}

func parseOtherName(s string) (string, error) {
	oid, text, ok := strings.Cut(s, "=")
	if !ok {
		return "", errors.New(`an otherName is written "OID=text", "1.3.6.1.4.1.311.20.2.3=joe@corp.example"`)
	}
	if _, err := parseOID(oid); err != nil {
		return "", err
	}
	_, err := parseText(text)
	return s, err
}

func parseDomain(s string) (string, error) {
	if rest, ok := strings.CutPrefix(s, pattern.SPIFFEScheme); ok {
		return "", fmt.Errorf("write the trust domain alone: %q", strings.TrimRight(rest, "/*"))
	}
	return s, pattern.CheckTrustDomain(s)
}

func parseKeyType(s string) (string, error) {
	words := keykind.Types()
	if slices.Contains(words, s) {
		return s, nil
	}
	return "", fmt.Errorf("the kinds of keys are %s%s", orList(words), fielderr.Suggest(s, words))
}

const day = 24 * time.Hour

// maxSpan is a hundred years: more is a slip of the keyboard.
const maxSpan = 36525 * day

// parseSpan reads a length of time: what time.ParseDuration takes, or days.
func parseSpan(s string) (time.Duration, error) {
	bad := errors.New(`a length of time is written "72h" or "30d" and more than 0`)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n == 0 || n > uint64(maxSpan/day) {
			return 0, bad
		}
		return time.Duration(n) * day, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxSpan {
		return 0, bad
	}
	return d, nil
}

// spanText is a length of time as a person reads it.
func spanText(d time.Duration) string {
	switch {
	case d < 0:
		// time.Time.Sub ends at the least Duration, whose negative is itself.
		return "-" + spanText(-max(d, -maxSpan))
	case d >= maxSpan:
		return "more than 100 years"
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d >= 2*day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	}
	return d.Round(time.Second).String()
}

// domainOf is the trust domain of a sound SPIFFE id.
func domainOf(id string) string {
	domain, _, _ := strings.Cut(strings.TrimPrefix(id, pattern.SPIFFEScheme), "/")
	return domain
}
