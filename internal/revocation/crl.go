package revocation

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/certread"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/keyusage"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/pemfile"
	"github.com/sslgate/sslgate/internal/times"
)

// Bounds of one source.
const (
	// MaxListBytes is the largest file or answer with revocation lists, in bytes. A
	// million entries of 16 octets take about 38 MB in DER and 52 MB in PEM.
	MaxListBytes = 256 << 20
	// maxLists in one source: a file of all the shards of a large CA.
	maxLists = 256
	// maxNumber bounds the CRL number in octets (RFC 5280, section 5.2.3), because it is
	// written to records.
	maxNumber = 20
	// maxMeta bounds a list without its entries, in bytes: names, times and
	// extensions have a few hundred.
	maxMeta = 64 << 10
)

// List is one verified revocation list, immutable. It keeps only the serial numbers of
// the entries.
type List struct {
	Issuer     string   // distinguished name, RFC 4514; may hold any text: escape it when showing it
	Number     *big.Int // nil if the list has none
	ThisUpdate time.Time
	NextUpdate time.Time
	Entries    int

	rawIssuer []byte
	spki      []byte // of the CA that signed it
	sum       [32]byte
	scope     scope
	revoked   serials
	text      string
}

// skew is how much the clock of a CA or responder may be ahead of ours.
const skew = 5 * time.Minute

// Fresh says whether the list is valid now: from thisUpdate (less skew, for clocks that
// differ) until nextUpdate.
func (l *List) Fresh(now time.Time) bool {
	return !now.Before(l.ThisUpdate.Add(-skew)) && now.Before(l.NextUpdate)
}

// Late says whether two thirds of the list's lifetime have passed: the CA should have
// issued the next list.
func (l *List) Late(now time.Time) bool {
	return !now.Before(l.lateAt())
}

func (l *List) lateAt() time.Time { return times.Part(l.ThisUpdate, l.NextUpdate, 2, 3) }

// Has says whether the list has the certificate's serial number. The caller must check
// that the list is of the certificate's issuer.
func (l *List) Has(c *x509.Certificate) bool {
	s, ok := serialOf(c)
	if !ok && c.SerialNumber != nil && c.SerialNumber.Sign() > 0 {
		s, ok = longSerial(c.SerialNumber.Bytes()), true
	}
	return ok && l.revoked.has(s)
}

// IssuedBy says whether the CA, by name and key, issued the list.
func (l *List) IssuedBy(ca *x509.Certificate) bool {
	return bytes.Equal(l.rawIssuer, ca.RawSubject) && bytes.Equal(l.spki, ca.RawSubjectPublicKeyInfo)
}

func serialOf(c *x509.Certificate) (serial, bool) {
	if c.SerialNumber == nil || c.SerialNumber.Sign() < 0 || c.SerialNumber.BitLen() > 8*maxSerial {
		return serial{}, false
	}
	var s serial
	c.SerialNumber.FillBytes(s[:])
	return s, true
}

// String names the list: number and issuer.
func (l *List) String() string { return l.text }

// quote escapes and quotes a name from a list or a certificate.
func quote(s string) string { return `"` + escape.String(s, 0) + `"` }

// ParseLists reads one list in DER or any number in PEM, each signed by one of cas. It
// returns all lists, or an error that says which one is bad and why, and wraps one of the
// Err values of this package. It does not check times, see Fresh.
func ParseLists(data []byte, cas []*x509.Certificate) ([]*List, error) {
	return parseTaken(context.Background(), nil, data, cas)
}

// parseTaken is ParseLists within a loan from which data is taken already. It takes more,
// without giving it back: for each entry 20 bytes to sort the numbers and at most 20 to
// keep them, and for PEM the list in DER. The shortest entry has 20 bytes, so the total
// including data is at most three times the length of a file in DER, and three and a
// quarter times that of one in PEM. What is kept is as many bytes for each entry as the
// longest number has. It stops when ctx ends.
func parseTaken(ctx context.Context, room *memory.Loan, data []byte, cas []*x509.Certificate) ([]*List, error) {
	if len(data) > MaxListBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), MaxListBytes)
	}
	if isDER(data) {
		l, err := parseList(ctx, room, data, cas)
		if err != nil {
			return nil, err
		}
		return []*List{l}, nil
	}
	if err := room.Take(int64(len(data)) / 4 * 3); err != nil {
		return nil, err
	}
	var lists []*List
	err := pemfile.Each(data, func(block pemfile.Block) error {
		if block.Type != "X509 CRL" {
			return fmt.Errorf(`%w: line %d: a PEM block %s, wanted "X509 CRL"`, ErrNotCRL, block.Line, quote(block.Type))
		}
		if len(lists) == maxLists {
			return fmt.Errorf("%w: more than %d lists", ErrTooLarge, maxLists)
		}
		l, err := parseList(ctx, room, block.Bytes, cas)
		if err != nil {
			return fmt.Errorf("list %d, line %d: %w", len(lists)+1, block.Line, err)
		}
		if !slices.ContainsFunc(lists, func(o *List) bool { return o.sum == l.sum }) {
			lists = append(lists, l)
		}
		return nil
	})
	var damaged *pemfile.Error
	switch {
	case errors.Is(err, pemfile.ErrNone):
		return nil, fmt.Errorf("%w: neither PEM nor DER", ErrNotCRL)
	case errors.As(err, &damaged), err != nil && lists == nil && len(bytes.TrimSpace(data)) == 0:
		return nil, fmt.Errorf("%w: %w", ErrNotCRL, err)
	case err != nil:
		return nil, err
	}
	return lists, nil
}

// isDER tells DER from PEM. A list is longer than 127 bytes, so in DER its second byte is
// at least 0x80, which is no text.
func isDER(data []byte) bool { return len(data) >= 2 && data[0] == 0x30 && data[1] >= 0x80 }

// parseList reads one list in DER. crypto/x509 would make some 200 bytes and six
// allocations of every entry. So it gets the list without its entries, and parseList
// reads these once the signature over the whole list is verified.
func parseList(ctx context.Context, room *memory.Loan, der []byte, cas []*x509.Certificate) (*List, error) {
	p, err := split(der)
	if err != nil {
		return nil, err
	}
	meta, err := certread.RevocationList(p.meta)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotCRL, err)
	}
	meta.RawTBSRevocationList = p.tbs
	sc, err := scopeOf(meta)
	if err != nil {
		return nil, err
	}
	if n := meta.Number; n != nil && (n.Sign() < 0 || n.BitLen() > 8*maxNumber) {
		return nil, fmt.Errorf("%w: its number is negative or longer than %d octets (RFC 5280, section 5.2.3)", ErrNotCRL, maxNumber)
	}
	if meta.NextUpdate.IsZero() {
		return nil, fmt.Errorf("%w: it has no nextUpdate (RFC 5280, section 5.1.2.5)", ErrNotCRL)
	}
	if !meta.NextUpdate.After(meta.ThisUpdate) {
		return nil, fmt.Errorf("%w: nextUpdate is not after thisUpdate", ErrNotCRL)
	}
	signer, err := signerOf(meta, cas)
	if err != nil {
		return nil, err
	}
	revoked, err := entries(ctx, room, p.entries)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	l := &List{
		Issuer: certname.Shown(meta.RawIssuer, 0), Number: meta.Number,
		ThisUpdate: meta.ThisUpdate, NextUpdate: meta.NextUpdate,
		rawIssuer: bytes.Clone(meta.RawIssuer), spki: signer.RawSubjectPublicKeyInfo,
		scope: sc, sum: sha256Sum(der), revoked: revoked,
	}
	l.Entries = l.revoked.len()
	number := "without a number"
	if l.Number != nil {
		number = "number " + l.Number.Text(10)
	}
	l.text = "revocation list " + number + " of " + `"` + l.Issuer + `"`
	return l, nil
}

// parts of a CertificateList (RFC 5280, section 5.1).
type parts struct {
	tbs     []byte            // the signed part
	entries cryptobyte.String // content of revokedCertificates; may be empty
	meta    []byte            // the list without its entries
}

func split(der []byte) (*parts, error) {
	malformed := func(what string) error { return fmt.Errorf("%w: %s", ErrNotCRL, what) }
	var list, tbs, tbsElement, tail cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil, malformed("neither PEM nor DER")
	}
	if !input.Empty() {
		return nil, malformed("bytes behind its end")
	}
	if !list.ReadASN1Element(&tbsElement, cbasn1.SEQUENCE) {
		return nil, malformed("tbsCertList")
	}
	p := &parts{tbs: tbsElement}
	tail = list
	if rest := tail; !rest.SkipASN1(cbasn1.SEQUENCE) || !rest.SkipASN1(cbasn1.BIT_STRING) || !rest.Empty() {
		return nil, malformed("signatureAlgorithm and signatureValue")
	}
	if tbs = tbsElement; !tbs.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return nil, malformed("tbsCertList")
	}
	var head []byte
	// version, signature, issuer, thisUpdate, nextUpdate
	for _, tag := range []cbasn1.Tag{cbasn1.INTEGER, cbasn1.SEQUENCE, cbasn1.SEQUENCE, 0, 0} {
		var e cryptobyte.String
		switch {
		case tag == cbasn1.INTEGER && !tbs.PeekASN1Tag(tag):
			return nil, malformed("version 1, which has no extensions and no number: have the CA issue version 2 (RFC 5280, section 5.1.2.1)")
		case tag != 0 && !tbs.ReadASN1Element(&e, tag):
			return nil, malformed("its fields are not those of RFC 5280, section 5.1")
		case tag == 0 && (tbs.PeekASN1Tag(cbasn1.UTCTime) || tbs.PeekASN1Tag(cbasn1.GeneralizedTime)):
			var t cbasn1.Tag
			if !tbs.ReadAnyASN1Element(&e, &t) {
				return nil, malformed("a time")
			}
		}
		head = append(head, e...)
	}
	if tbs.PeekASN1Tag(cbasn1.SEQUENCE) && !tbs.ReadASN1(&p.entries, cbasn1.SEQUENCE) {
		return nil, malformed("revokedCertificates")
	}
	if rest := tbs; !rest.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) || !rest.Empty() {
		return nil, malformed("its fields are not those of RFC 5280, section 5.1")
	}
	if len(head)+len(tbs)+len(tail) > maxMeta {
		return nil, fmt.Errorf("%w: %d bytes besides the entries, at most %d", ErrTooLarge, len(head)+len(tbs)+len(tail), maxMeta)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(head)
			b.AddBytes(tbs) // crlExtensions
		})
		b.AddBytes(tail)
	})
	meta, err := b.Bytes()
	if err != nil {
		return nil, malformed(err.Error())
	}
	p.meta = meta
	return p, nil
}

// signerOf finds the CA that signed the list.
func signerOf(meta *x509.RevocationList, cas []*x509.Certificate) (*x509.Certificate, error) {
	switch meta.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm:
		return nil, fmt.Errorf("%w: an algorithm that is not known", ErrSignature)
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return nil, fmt.Errorf("%w: %s is too weak", ErrSignature, meta.SignatureAlgorithm)
	}
	issuer := `issuer "` + certname.Shown(meta.RawIssuer, 0) + `"`
	named, mayNot, other := false, false, true
	for _, ca := range cas {
		if !bytes.Equal(ca.RawSubject, meta.RawIssuer) {
			continue
		}
		named = true
		if !keyusage.Allows(ca, x509.KeyUsageCRLSign) {
			mayNot = true
			continue
		}
		if meta.CheckSignatureFrom(ca) == nil {
			return ca, nil
		}
		// If the key identifiers do not match (RFC 5280, section 5.2.1), this is another
		// CA of the same name.
		if len(meta.AuthorityKeyId) == 0 || bytes.Equal(meta.AuthorityKeyId, ca.SubjectKeyId) {
			other = false
		}
	}
	switch {
	case !named:
		return nil, fmt.Errorf("%w: %s", ErrIssuer, issuer)
	case !other:
		return nil, fmt.Errorf("%w: it is wrong; %s", ErrSignature, issuer)
	case mayNot:
		return nil, fmt.Errorf("%w: the key usage of the CA lacks cRLSign (RFC 5280, section 4.2.1.3); %s", ErrSignature, issuer)
	}
	return nil, fmt.Errorf("%w: signed by another CA of the same name; %s", ErrIssuer, issuer)
}
