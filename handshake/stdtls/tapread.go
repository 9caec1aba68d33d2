package stdtls

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
)

// maxCANames bounds the names a peer lists that the ledger quotes.
const maxCANames = 16

// retryRandom marks a ServerHello as HelloRetryRequest: the SHA-256 of that
// word (RFC 8446, section 4.1.3).
var retryRandom = sha256.Sum256([]byte("HelloRetryRequest"))

func (t *tap) serverHello(s cryptobyte.String, e *handshake.Entry) {
	var legacy, suite uint16
	var compression uint8
	var random []byte
	var sid cryptobyte.String
	if !s.ReadUint16(&legacy) || !s.ReadBytes(&random, 32) || !s.ReadUint8LengthPrefixed(&sid) ||
		!s.ReadUint16(&suite) || !s.ReadUint8(&compression) {
		t.stop("a ServerHello does not decode")
		return
	}
	retry := [32]byte(random) == retryRandom
	t.seen.version, t.seen.suite = legacy, suite
	var alpn string
	extensions(s, func(typ uint16, data cryptobyte.String) {
		switch typ {
		case handshake.ExtSupportedVersions:
			data.ReadUint16(&t.seen.version)
		case handshake.ExtKeyShare:
			data.ReadUint16(&t.seen.group)
		case handshake.ExtALPN:
			alpn = alpnOf(data)
		case handshake.ExtExtendedMasterSecret:
			t.seen.ems = true
		case handshake.ExtPreSharedKey:
			t.seen.resumed = true
		}
	})
	if retry {
		e.Message, t.seen.retry = handshake.MsgHelloRetryRequest, true
	}
	if t.brief {
		return
	}
	facts := []string{handshake.VersionName(t.seen.version), handshake.SuiteName(suite)}
	if t.seen.group != 0 {
		facts = append(facts, handshake.GroupName(t.seen.group))
	}
	facts = append(facts, fmt.Sprintf("session ID %d bytes", len(sid)))
	if alpn != "" {
		facts = append(facts, "ALPN "+alpn)
	}
	e.Facts = strings.Join(facts, ", ")
}

// serverKeyExchange reads the group and signature of ECDHE (RFC 8422, section
// 5.4), the only kind crypto/tls has.
func (t *tap) serverKeyExchange(s cryptobyte.String) string {
	var curveType uint8
	var group, scheme uint16
	var point cryptobyte.String
	if !s.ReadUint8(&curveType) || curveType != 3 || !s.ReadUint16(&group) ||
		!s.ReadUint8LengthPrefixed(&point) || !s.ReadUint16(&scheme) {
		return ""
	}
	t.seen.group = group
	if !t.server {
		t.peerSigned(scheme)
	}
	return handshake.GroupName(group) + ", " + handshake.SchemeName(scheme)
}

// certificateRequest reads both forms (RFC 5246, section 7.4.4; RFC 8446,
// section 4.3.2).
func (t *tap) certificateRequest(s cryptobyte.String) (string, []string) {
	var types, schemes, names cryptobyte.String
	if t.seen.version >= tls.VersionTLS13 {
		var context cryptobyte.String
		if !s.ReadUint8LengthPrefixed(&context) {
			return "", nil
		}
		extensions(s, func(typ uint16, data cryptobyte.String) {
			switch typ {
			case handshake.ExtSignatureAlgorithms:
				data.ReadUint16LengthPrefixed(&schemes)
			case 47: // certificate_authorities
				data.ReadUint16LengthPrefixed(&names)
			}
		})
	} else if !s.ReadUint8LengthPrefixed(&types) || !s.ReadUint16LengthPrefixed(&schemes) || !s.ReadUint16LengthPrefixed(&names) {
		return "", nil
	}
	var list []string
	count := 0
	for !names.Empty() {
		var dn cryptobyte.String
		if !names.ReadUint16LengthPrefixed(&dn) {
			break
		}
		if count++; count <= maxCANames {
			list = append(list, t.names.of(dn))
		}
	}
	var facts []string
	if len(types) > 0 {
		facts = append(facts, handshake.Plural(len(types), "certificate type"))
	}
	facts = append(facts, handshake.Plural(len(schemes)/2, "signature algorithm"), handshake.Plural(count, "acceptable CA name"))
	return strings.Join(facts, ", "), list
}

// nameTexts remembers how distinguished names are written: a gateway sees the
// same ones in every handshake, and its own twice.
type nameTexts struct {
	mu sync.Mutex
	m  map[string]string
}

// maxNameTexts bounds the names remembered, at less than 1 KiB each; over it,
// all are forgotten. Longer ones than maxNameDER bytes are not remembered.
const (
	maxNameTexts = 1024
	maxNameDER   = 512
)

func (c *nameTexts) of(der []byte) string {
	if c == nil || len(der) > maxNameDER {
		return dnString(der)
	}
	c.mu.Lock()
	text, ok := c.m[string(der)]
	c.mu.Unlock()
	if ok {
		return text
	}
	text = dnString(der)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxNameTexts {
		c.m = map[string]string{}
	}
	c.m[string(der)] = text
	return text
}

// dnString is a distinguished name as RFC 4514 writes it, bounded.
func dnString(der []byte) string {
	if len(der) > handshake.MaxDN {
		return fmt.Sprintf("(a name of %d bytes)", len(der))
	}
	return certname.Shown(der, handshake.MaxNameLength)
}

// certificate reads both forms (RFC 5246, section 7.4.2; RFC 8446, section
// 4.4.2). It returns how many there are, -1 where it does not decode, and each in
// DER; s is only lent, and so are they.
func (t *tap) certificate(s cryptobyte.String) (facts string, n int, all [][]byte) {
	var context, list cryptobyte.String
	v13 := t.seen.version >= tls.VersionTLS13
	// What crypto/tls does not decode must not pass for an empty one.
	if v13 && (!s.ReadUint8LengthPrefixed(&context) || !context.Empty()) || !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return "does not decode", -1, nil
	}
	for !list.Empty() {
		var cert, ext cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&cert) || v13 && !list.ReadUint16LengthPrefixed(&ext) {
			return "does not decode", -1, nil
		}
		all = append(all, cert)
	}
	n = len(all)
	if n == 0 {
		// The alert no_certificate(41) of SSL 3.0 became an empty Certificate
		// message with TLS 1.0.
		return `"no certificate" warning`, 0, nil
	}
	if t.brief {
		return "", n, all
	}
	facts = handshake.Plural(n, "certificate")
	if subject, ok := subjectOf(all[0]); ok {
		facts += ": " + t.names.of(subject)
	}
	return facts, n, all
}

// subjectOf finds the subject of a certificate (RFC 5280, section 4.1) without
// reading the rest of it: crypto/tls parses it in full anyway.
func subjectOf(der cryptobyte.String) (cryptobyte.String, bool) {
	var cert, tbs, subject cryptobyte.String
	if !der.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(cbasn1.Tag(0).Constructed().ContextSpecific()) || // version
		!tbs.SkipASN1(cbasn1.INTEGER) || // serialNumber
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // signature
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // issuer
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // validity
		!tbs.ReadASN1Element(&subject, cbasn1.SEQUENCE) {
		return nil, false
	}
	return subject, true
}

// extensions calls f for each extension of a list with a 16-bit length.
func extensions(s cryptobyte.String, f func(typ uint16, data cryptobyte.String)) {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return
	}
	for !list.Empty() {
		var typ uint16
		var data cryptobyte.String
		if !list.ReadUint16(&typ) || !list.ReadUint16LengthPrefixed(&data) {
			return
		}
		f(typ, data)
	}
}

// alpnFacts is the protocol chosen in EncryptedExtensions.
func alpnFacts(s cryptobyte.String) string {
	var facts string
	extensions(s, func(typ uint16, data cryptobyte.String) {
		if typ == handshake.ExtALPN {
			facts = "ALPN " + alpnOf(data)
		}
	})
	return facts
}

func alpnOf(s cryptobyte.String) string {
	var list, name cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || !list.ReadUint8LengthPrefixed(&name) {
		return ""
	}
	return string(name)
}
