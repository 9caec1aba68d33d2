package pki

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/fielderr"
)

// reasonCodes are the revocation reasons of RFC 5280, section 5.3.1, that a small CA can
// use. certificateHold and removeFromCRL are left out, because a revocation here is
// final.
var reasonCodes = []struct {
	word string
	code int
}{
	{"unspecified", 0}, {"keyCompromise", 1}, {"cACompromise", 2}, {"affiliationChanged", 3},
	{"superseded", 4}, {"cessationOfOperation", 5}, {"privilegeWithdrawn", 9}, {"aACompromise", 10},
}

// Reasons lists the words for the reason of a revocation, the default first.
func Reasons() []string {
	var w []string
	for _, r := range reasonCodes {
		w = append(w, r.word)
	}
	return w
}

// RevokeOptions of a revocation.
type RevokeOptions struct {
	// Serial in hex (colons and 0x are fine), or File, a certificate in PEM.
	// Exactly one of the two.
	Serial, File string
	Reason       string    // a word of Reasons, capital letters and dashes do not matter; default unspecified
	Now          time.Time // default the system's clock
}

// RevokeResult says what was revoked, and which revocation list has it.
type RevokeResult struct {
	Record
	CRL CRLResult `json:"crl"`
}

// Revoke enters a revocation in the index and signs a new revocation list. It changes
// nothing and returns ErrNotIssued for a certificate that is not in the index, ErrRevoked
// for one that is revoked already.
func Revoke(dir string, o RevokeOptions) (*RevokeResult, error) {
	now := orNow(o.Now)
	word, err := revocationReason(o.Reason)
	if err != nil {
		return nil, err
	}
	if (o.Serial == "") == (o.File == "") {
		return nil, usagef("what to revoke: a serial number or a certificate file, one of the two")
	}
	a, unlock, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	serial, err := a.serialToRevoke(o)
	if err != nil {
		return nil, err
	}
	recs, err := a.readIndex()
	if err != nil {
		return nil, err
	}
	rec := find(recs, serial)
	switch {
	case rec == nil:
		return nil, fmt.Errorf("serial %s: %w; %s lists what it issued", serial, ErrNotIssued, a.path(fileIndex))
	case rec.RevokedAt != nil:
		return nil, fmt.Errorf("serial %s: %w, on %s (%s)", serial, ErrRevoked, date(*rec.RevokedAt), rec.Reason)
	}
	at := now.UTC().Truncate(time.Second)
	rec.RevokedAt, rec.Reason = &at, word
	if err := a.writeIndex(recs); err != nil {
		return nil, err
	}
	crl, err := a.writeCRL(recs, now, 0)
	if err != nil {
		return nil, fmt.Errorf("the revocation is in the index, but the revocation list could not be written; try again with `%s`: %w", Command(dir, "crl"), err)
	}
	return &RevokeResult{Record: *rec, CRL: *crl}, nil
}

func (a *authority) serialToRevoke(o RevokeOptions) (string, error) {
	if o.File == "" {
		n, err := parseSerial(o.Serial)
		if err != nil {
			return "", err
		}
		return serialHex(n), nil
	}
	certs, err := readCertificates(o.File)
	if err != nil {
		return "", err
	}
	c := certs[0]
	if err := c.CheckSignatureFrom(a.cert); err != nil {
		return "", fmt.Errorf("%s (%s): %w, but by %s", o.File, subject(c), ErrNotIssued, certname.Issuer(c))
	}
	return serialHex(c.SerialNumber), nil
}

func find(recs []Record, serial string) *Record {
	for i := range recs {
		if recs[i].Serial == serial {
			return &recs[i]
		}
	}
	return nil
}

func revocationReason(s string) (string, error) {
	if s == "" {
		return reasonCodes[0].word, nil
	}
	plain := strings.NewReplacer("-", "", "_", "").Replace(s)
	for _, r := range reasonCodes {
		if strings.EqualFold(r.word, plain) {
			return r.word, nil
		}
	}
	return "", usagef("no such reason: %q%s; there are %s", s, fielderr.Suggest(s, Reasons()), strings.Join(Reasons(), ", "))
}

// reasonCode is the number of a word; false if the word is not in the list.
func reasonCode(word string) (int, bool) {
	for _, r := range reasonCodes {
		if r.word == word {
			return r.code, true
		}
	}
	return 0, false
}

// reasonWord is the word for a number, including those that this CA never gives.
func reasonWord(code int) string {
	for _, r := range reasonCodes {
		if r.code == code {
			return r.word
		}
	}
	switch code {
	case 6:
		return "certificateHold"
	case 8:
		return "removeFromCRL"
	}
	return fmt.Sprintf("reason %d", code)
}

// parseSerial reads a serial number in hex. It accepts "0x", colons, spaces and capital
// letters, as other programs print them.
func parseSerial(s string) (*big.Int, error) {
	plain := strings.NewReplacer(":", "", " ", "").Replace(strings.ToLower(s))
	plain = strings.TrimPrefix(plain, "0x")
	// 20 octets are the most a serial has (RFC 5280, section 4.1.2.2).
	if plain == "" || len(plain) > 40 || strings.Trim(plain, "0123456789abcdef") != "" {
		return nil, usagef("%q is no serial number: up to 40 hex digits", s)
	}
	n, _ := new(big.Int).SetString(plain, 16)
	return n, nil
}

// serialHex writes a serial number in lower-case hex, whole octets.
func serialHex(n *big.Int) string {
	if n == nil {
		return ""
	}
	s := n.Text(16)
	if len(s)%2 == 1 && n.Sign() >= 0 {
		s = "0" + s
	}
	return s
}
