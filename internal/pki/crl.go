package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/writefile"
)

// CRLOptions of a revocation list.
type CRLOptions struct {
	Life time.Duration // until nextUpdate; default 30 days
	Now  time.Time     // default the system's clock
}

// CRLResult says which revocation list was written.
type CRLResult struct {
	File       string    `json:"file"`
	Number     string    `json:"number"` // decimal; each list has a higher one than the list before
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	Revoked    int       `json:"revoked"`
}

// CRL signs a new revocation list (RFC 5280, section 5) of all certificates that the
// index calls revoked, and replaces the old list.
func CRL(dir string, o CRLOptions) (*CRLResult, error) {
	if o.Life < 0 {
		return nil, usagef("the time until the next update must be positive")
	}
	a, unlock, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	recs, err := a.readIndex()
	if err != nil {
		return nil, err
	}
	return a.writeCRL(recs, orNow(o.Now), o.Life)
}

// writeCRL signs and writes the list; life 0 is 30 days.
func (a *authority) writeCRL(recs []Record, now time.Time, life time.Duration) (*CRLResult, error) {
	if life == 0 {
		life = 30 * day
	}
	number, err := a.nextCRLNumber()
	if err != nil {
		return nil, err
	}
	t := &x509.RevocationList{Number: number, ThisUpdate: now.UTC().Truncate(time.Second), NextUpdate: now.Add(life).UTC().Truncate(time.Second)}
	for _, r := range recs {
		if r.RevokedAt == nil {
			continue
		}
		serial, err := parseSerial(r.Serial)
		if err != nil {
			return nil, err
		}
		code, ok := reasonCode(r.Reason)
		if !ok {
			return nil, fmt.Errorf("%s: serial %s is revoked for the unknown reason %q", a.path(fileIndex), r.Serial, r.Reason)
		}
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: *r.RevokedAt, ReasonCode: code})
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, a.cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the revocation list: %w", err)
	}
	// Write the number first. A crash in between then leaves a gap in the numbers, which
	// is allowed. Two lists with the same number are not (section 5.2.3).
	if err := writefile.Replace(a.path(fileNumber), []byte(number.String()+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := writefile.Replace(a.path(fileCRL), pem.EncodeToMemory(&pem.Block{Type: blockCRL, Bytes: der}), 0o644); err != nil {
		return nil, err
	}
	return &CRLResult{
		File: a.path(fileCRL), Number: number.String(), Revoked: len(t.RevokedCertificateEntries),
		ThisUpdate: t.ThisUpdate, NextUpdate: t.NextUpdate,
	}, nil
}

// nextCRLNumber is one more than the number in the file; 1 if there is no file.
func (a *authority) nextCRLNumber() (*big.Int, error) {
	path := a.path(fileNumber)
	data, err := readFile(path, 64)
	if errors.Is(err, fs.ErrNotExist) {
		return big.NewInt(1), nil
	}
	if err != nil {
		return nil, err
	}
	n, ok := new(big.Int).SetString(strings.TrimSpace(string(data)), 10)
	if !ok || n.Sign() < 0 {
		return nil, fmt.Errorf("%s holds no number: write into it the CRL number that `%s` shows", path, "sslgate pki show "+ShellQuote(a.path(fileCRL)))
	}
	return n.Add(n, big.NewInt(1)), nil
}
