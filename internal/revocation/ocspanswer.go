package revocation

import (
	"bytes"
	"crypto"
	"crypto/sha1" // OCSP identifies issuers by it (RFC 6960, section 4.1.1); no trust depends on it
	"crypto/x509"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sslgate/sslgate/internal/certread"
)

// Bounds of one OCSP answer.
const (
	// maxAnswer in bytes: an answer with a delegate's certificate and an RSA signature
	// has about 2 KiB.
	maxAnswer = 64 << 10
	// maxSingles and maxCerts in one answer; one of each is usual.
	maxSingles = 64
	maxCerts   = 8
	// withoutNext is how long an answer without nextUpdate is good: RFC 6960, section
	// 4.2.2.1, says only that newer information is always available.
	withoutNext = 10 * time.Minute
)

var (
	oidBasicResponse = []byte{0x2b, 6, 1, 5, 5, 7, 48, 1, 1} // id-pkix-ocsp-basic
	oidNonce         = []byte{0x2b, 6, 1, 5, 5, 7, 48, 1, 2} // id-pkix-ocsp-nonce
)

// answerStatus is responseStatus (RFC 6960, section 4.2.1).
var answerStatus = map[int]string{1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired", 6: "unauthorized"}

// answer is a decoded BasicOCSPResponse; nothing of it is verified yet.
type answer struct {
	tbs, signature   []byte
	algorithm        x509.SignatureAlgorithm
	name, keyHash    []byte // of the responder; exactly one of them is set
	produced         time.Time
	singles          []single
	nonce            []byte
	hasNonce         bool
	certs            []*x509.Certificate
	unknownExtension string // a critical one
}

// single is one SingleResponse.
type single struct {
	hash             crypto.Hash // 0: not known
	nameHash         []byte
	keyHash          []byte
	number           []byte // content octets
	status           Status
	this, next       time.Time
	hasNext          bool
	unknownExtension string // a critical one
}

func useless(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrOCSP, fmt.Errorf(format, args...))
}

// parseAnswer decodes an OCSPResponse. We do not use crypto/ocsp because its parser
// neither compares the issuer of an answer nor returns the nonce.
func parseAnswer(der []byte) (*answer, error) {
	if len(der) > maxAnswer {
		return nil, useless("%w: %d bytes, at most %d", ErrTooLarge, len(der), maxAnswer)
	}
	in := cryptobyte.String(der)
	var resp, wrapped, bytes0, kind, octets, basic cryptobyte.String
	var status int
	if !in.ReadASN1(&resp, cbasn1.SEQUENCE) || !in.Empty() || !resp.ReadASN1Enum(&status) {
		return nil, useless("it cannot be decoded")
	}
	if status != 0 {
		if word, ok := answerStatus[status]; ok {
			return nil, useless("the responder says %s", word)
		}
		return nil, useless("the responder says status %d", status)
	}
	if !resp.ReadASN1(&wrapped, explicit(0)) || !resp.Empty() || !wrapped.ReadASN1(&bytes0, cbasn1.SEQUENCE) ||
		!bytes0.ReadASN1(&kind, cbasn1.OBJECT_IDENTIFIER) || !bytes0.ReadASN1(&octets, cbasn1.OCTET_STRING) || !bytes0.Empty() {
		return nil, useless("it cannot be decoded")
	}
	if !bytes.Equal(kind, oidBasicResponse) {
		return nil, useless("type %s", oidText(kind))
	}
	var tbs, ai, signature, certs cryptobyte.String
	var hasCerts bool
	if !octets.ReadASN1(&basic, cbasn1.SEQUENCE) || !octets.Empty() || !basic.ReadASN1Element(&tbs, cbasn1.SEQUENCE) ||
		!basic.ReadASN1(&ai, cbasn1.SEQUENCE) || !basic.ReadASN1(&signature, cbasn1.BIT_STRING) ||
		!basic.ReadOptionalASN1(&certs, &hasCerts, explicit(0)) || !basic.Empty() || len(signature) < 2 || signature[0] != 0 {
		return nil, useless("its body cannot be decoded")
	}
	a := &answer{tbs: tbs, signature: signature[1:], algorithm: signatureAlgorithm(ai)}
	if err := a.data(tbs); err != nil {
		return nil, err
	}
	if !hasCerts {
		return a, nil
	}
	var seq cryptobyte.String
	if !certs.ReadASN1(&seq, cbasn1.SEQUENCE) || !certs.Empty() {
		return nil, useless("its certificates cannot be decoded")
	}
	for !seq.Empty() {
		var c cryptobyte.String
		if !seq.ReadASN1Element(&c, cbasn1.SEQUENCE) || len(a.certs) == maxCerts {
			return nil, useless("its certificates cannot be decoded, or are more than %d", maxCerts)
		}
		cert, err := certread.Certificate(c)
		if err != nil {
			return nil, useless("a certificate in it: %w", err)
		}
		a.certs = append(a.certs, cert)
	}
	return a, nil
}

func explicit(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// data decodes ResponseData.
func (a *answer) data(tbs cryptobyte.String) error {
	malformed := useless("its data cannot be decoded")
	var seq, version, id, singles, exts cryptobyte.String
	var hasVersion, hasExts bool
	var tag cbasn1.Tag
	if !tbs.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadOptionalASN1(&version, &hasVersion, explicit(0)) ||
		!seq.ReadAnyASN1(&id, &tag) || !seq.ReadASN1GeneralizedTime(&a.produced) ||
		!seq.ReadASN1(&singles, cbasn1.SEQUENCE) || !seq.ReadOptionalASN1(&exts, &hasExts, explicit(1)) || !seq.Empty() {
		return malformed
	}
	var v int
	if hasVersion && (!version.ReadASN1Integer(&v) || v != 0 || !version.Empty()) {
		return useless("version %d", v+1)
	}
	var ok bool
	switch tag {
	case explicit(1):
		var name cryptobyte.String
		ok = id.ReadASN1Element(&name, cbasn1.SEQUENCE) && id.Empty()
		a.name = name
	case explicit(2):
		var hash cryptobyte.String
		ok = id.ReadASN1(&hash, cbasn1.OCTET_STRING) && id.Empty() && len(hash) == sha1.Size
		a.keyHash = hash
	}
	if !ok {
		return malformed
	}
	for !singles.Empty() {
		if len(a.singles) == maxSingles {
			return useless("more than %d certificates in it", maxSingles)
		}
		var e cryptobyte.String
		s, ok := single{}, false
		if singles.ReadASN1(&e, cbasn1.SEQUENCE) {
			s, ok = parseSingle(e)
		}
		if !ok {
			return malformed
		}
		a.singles = append(a.singles, s)
	}
	if !hasExts {
		return nil
	}
	ok = extensions(exts, func(oid, value cryptobyte.String, critical bool) bool {
		switch {
		case bytes.Equal(oid, oidNonce):
			var nonce cryptobyte.String
			if a.hasNonce || !value.ReadASN1(&nonce, cbasn1.OCTET_STRING) || !value.Empty() {
				return false
			}
			a.nonce, a.hasNonce = nonce, true
		case critical:
			a.unknownExtension = oidText(oid)
		}
		return true
	})
	if !ok {
		return malformed
	}
	return nil
}

// extensions walks a SEQUENCE OF Extension.
func extensions(in cryptobyte.String, each func(oid, value cryptobyte.String, critical bool) bool) bool {
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return false
	}
	for !seq.Empty() {
		oid, value, critical, ok := readExtension(&seq)
		if !ok || !each(oid, value, critical) {
			return false
		}
	}
	return true
}

func parseSingle(e cryptobyte.String) (s single, ok bool) {
	var id, ai, oid, name, key, number, status, next, exts cryptobyte.String
	var hasNext, hasExts bool
	var tag cbasn1.Tag
	if !e.ReadASN1(&id, cbasn1.SEQUENCE) || !id.ReadASN1(&ai, cbasn1.SEQUENCE) || !ai.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
		!id.ReadASN1(&name, cbasn1.OCTET_STRING) || !id.ReadASN1(&key, cbasn1.OCTET_STRING) ||
		!id.ReadASN1(&number, cbasn1.INTEGER) || !id.Empty() || len(number) == 0 ||
		!e.ReadAnyASN1(&status, &tag) || !e.ReadASN1GeneralizedTime(&s.this) ||
		!e.ReadOptionalASN1(&next, &hasNext, explicit(0)) || !e.ReadOptionalASN1(&exts, &hasExts, explicit(1)) || !e.Empty() {
		return s, false
	}
	switch tag {
	case cbasn1.Tag(0).ContextSpecific():
		s.status = Good
	case explicit(1):
		s.status = Revoked
	case cbasn1.Tag(2).ContextSpecific():
		s.status = Unknown
	default:
		return s, false
	}
	if hasNext && (!next.ReadASN1GeneralizedTime(&s.next) || !next.Empty()) {
		return s, false
	}
	s.hasNext = hasNext
	s.hash, s.nameHash, s.keyHash, s.number = hashes[string(oid)], name, key, number
	return s, !hasExts || extensions(exts, func(oid, _ cryptobyte.String, critical bool) bool {
		if critical {
			s.unknownExtension = oidText(oid)
		}
		return true
	})
}

// hashes that a CertID may use, by the content octets of their OID.
var hashes = map[string]crypto.Hash{
	"\x2b\x0e\x03\x02\x1a":                 crypto.SHA1,
	"\x60\x86\x48\x01\x65\x03\x04\x02\x01": crypto.SHA256,
	"\x60\x86\x48\x01\x65\x03\x04\x02\x02": crypto.SHA384,
	"\x60\x86\x48\x01\x65\x03\x04\x02\x03": crypto.SHA512,
}

// algorithms that an answer may be signed with, by the content octets of their OID. None
// uses SHA-1.
var algorithms = map[string]x509.SignatureAlgorithm{
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b": x509.SHA256WithRSA,
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c": x509.SHA384WithRSA,
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d": x509.SHA512WithRSA,
	"\x2a\x86\x48\xce\x3d\x04\x03\x02":     x509.ECDSAWithSHA256,
	"\x2a\x86\x48\xce\x3d\x04\x03\x03":     x509.ECDSAWithSHA384,
	"\x2a\x86\x48\xce\x3d\x04\x03\x04":     x509.ECDSAWithSHA512,
	"\x2b\x65\x70":                         x509.PureEd25519,
	"\x60\x86\x48\x01\x65\x03\x04\x03\x11": x509.MLDSA44, // RFC 9881, section 2
	"\x60\x86\x48\x01\x65\x03\x04\x03\x12": x509.MLDSA65,
	"\x60\x86\x48\x01\x65\x03\x04\x03\x13": x509.MLDSA87,
}

func signatureAlgorithm(ai cryptobyte.String) x509.SignatureAlgorithm {
	var oid cryptobyte.String
	if !ai.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) {
		return x509.UnknownSignatureAlgorithm
	}
	return algorithms[string(oid)]
}
