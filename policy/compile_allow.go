package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// compileAllow compiles the alternatives of a rule.
func compileAllow(at scope, list []AllowSpec) []alternative {
	if list != nil && len(list) == 0 {
		at.errorf("allow", "the list is empty; leave it out to allow every certificate of the authorities")
	}
	var out []alternative
	seen := map[string]int{}
	for i := range list {
		field := fmt.Sprintf("allow[%d]", i)
		here := at.in(field)
		a := compileAlternative(here, &list[i])
		if a.empty(&list[i]) {
			here.errorf("", "this entry demands nothing, so it would allow every certificate of the authorities; leave allow out if that is meant")
			continue
		}
		canonical := a.canonical()
		if first, twice := seen[canonical]; twice {
			here.warnf("", "this says the same as allow[%d]", first)
			continue
		}
		seen[canonical] = i
		out = append(out, a)
	}
	return out
}

func compileAlternative(at scope, spec *AllowSpec) alternative {
	a := alternative{
		dns:      parseList(at, "san_dns", spec.SANDNS, parseHostPattern),
		uri:      parseList(at, "san_uri", spec.SANURI, parseURIPattern),
		email:    parseList(at, "san_email", spec.SANEmail, parseEmailPattern),
		ip:       parseList(at, "san_ip", spec.SANIP, parsePrefix),
		cn:       parseList(at, "subject_cn", spec.SubjectCN, parseText),
		o:        parseList(at, "subject_o", spec.SubjectO, parseText),
		ou:       parseList(at, "subject_ou", spec.SubjectOU, parseText),
		issuer:   parseList(at, "issuer", spec.Issuer, parseIssuer),
		spki:     parseList(at, "spki", spec.SPKI, parseSPKI),
		keyTypes: parseList(at, "key_type", spec.KeyType, parseKeyType),
		keyBits:  spec.KeyBits,
	}
	switch most := a.mostBits(); {
	case spec.KeyBits < 0:
		at.errorf("key_bits", "%d is no size of a key", spec.KeyBits)
	case spec.KeyBits > most:
		at.errorf("key_bits", "no key that this entry accepts has %d bits; the largest has %d", spec.KeyBits, most)
	}
	return a
}

// maxRSABits is the largest RSA key that crypto/tls verifies a signature of.
const maxRSABits = 8192

// mostBits is the size of the largest key that can fit the key types.
func (a *alternative) mostBits() int {
	most := 0
	for _, t := range a.keyTypes {
		most = max(most, map[string]int{keyRSA: maxRSABits, keyECDSA: maxECDSABits, keyEd25519: ed25519Bits}[t])
	}
	if most == 0 {
		return maxRSABits
	}
	return most
}

// empty says whether nothing was written: an entry whose fields have mistakes
// is not.
func (a *alternative) empty(spec *AllowSpec) bool {
	for _, list := range [][]string{
		spec.SANDNS, spec.SANURI, spec.SANEmail, spec.SANIP, spec.SubjectCN, spec.SubjectO,
		spec.SubjectOU, spec.Issuer, spec.SPKI, spec.KeyType,
	} {
		if list != nil {
			return false
		}
	}
	return spec.KeyBits == 0
}

// subjectAlone says whether nothing but the subject tells one owner from
// another.
func (a *alternative) subjectAlone() bool {
	named := a.dns != nil || a.uri != nil || a.email != nil || a.ip != nil || a.issuer != nil || a.spki != nil
	return !named && (a.cn != nil || a.o != nil || a.ou != nil)
}

// parseText reads a string that is compared as it is.
func parseText(s string) (string, error) {
	if s == "" {
		return "", errors.New("the text is empty")
	}
	if !plainText(s) {
		return "", errors.New("the text has control characters or is not UTF-8")
	}
	return s, nil
}

func parseIssuer(s string) (string, error) {
	if !strings.Contains(s, "=") {
		return "", errors.New(`an issuer is a distinguished name in the form of RFC 4514, "CN=Staff CA,O=Example"`)
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

func parseKeyType(s string) (string, error) {
	words := []string{keyRSA, keyECDSA, keyEd25519}
	if slices.Contains(words, s) {
		return s, nil
	}
	return "", fmt.Errorf("the kinds of keys are %s%s", orList(words), fielderr.Suggest(s, words))
}
