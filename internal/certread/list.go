package certread

import (
	"crypto/x509"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sslgate/sslgate/internal/certname"
)

// listKinds are the faults of revocation lists, by the text of crypto/x509's error.
// Faults that are not here, above all those of names, are looked up among those of
// certificates.
var listKinds = []kind{
	{"crl version", "it is not version 2 (RFC 5280, section 5.1.2.1)", "have its CA issue version 2"},
	{"don't match", "its two signature algorithms differ (RFC 5280, section 5.1.1.2)", again},
	{"algorithm identifier", "its signature algorithm cannot be decoded (RFC 5280, section 5.1.1.2)", again},
	{"malformed signature", "its signature cannot be decoded (RFC 5280, section 5.1.1.3)", again},
	{"crl number", "its number cannot be decoded (RFC 5280, section 5.2.3)", again},
	{"reasonCode", "an entry's reason cannot be decoded (RFC 5280, section 5.3.1)", again},
	{"serial number", "an entry's serial number is no DER integer", again},
	{"authority key identifier", "its authority key identifier cannot be decoded (RFC 5280, section 5.2.1)", again},
	{"malformed extension", "an extension in it cannot be decoded (RFC 5280, section 5.2)", again},
	{"Time", "one of its times is no date that there is, or not written as RFC 5280, sections 5.1.2.4 to 5.1.2.6, has it", again},
	{"time format", "one of its times has another form than RFC 5280, sections 5.1.2.4 to 5.1.2.6, allows", again},
	{"malformed issuer", "its issuer cannot be decoded (RFC 5280, section 5.1.2.3)", again},
	{"malformed", "it is not DER as RFC 5280, section 5.1, has it", "take it from its CA again: it may be damaged; if not, " + again},
}

// RevocationList reads one CRL in DER. The error is a *Refused.
func RevocationList(der []byte) (*x509.RevocationList, error) {
	l, err := x509.ParseRevocationList(der)
	if err == nil {
		return l, nil
	}
	r := &Refused{List: true, Err: err}
	if issuer := issuerOf(der); issuer != nil && certname.Of(issuer) != undecodable {
		r.Subject = certname.Shown(issuer, 0)
	}
	text, _, _ := strings.Cut(err.Error(), `"`) // as in explain
	for _, k := range listKinds {
		if strings.Contains(text, k.text) {
			r.Why, r.Mend = k.why+" ("+shown(err)+")", k.mend
			return nil, r
		}
	}
	r.Why, r.Mend = explain(outline{}, err)
	return nil, r
}

// issuerOf is the issuer of a CRL as an element; nil if it cannot be found.
func issuerOf(der []byte) []byte {
	in := cryptobyte.String(der)
	var list, tbs, issuer cryptobyte.String
	if !in.ReadASN1(&list, asn1.SEQUENCE) || !list.ReadASN1(&tbs, asn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(asn1.INTEGER) || !tbs.SkipASN1(asn1.SEQUENCE) || !tbs.ReadASN1Element(&issuer, asn1.SEQUENCE) {
		return nil
	}
	return issuer
}
