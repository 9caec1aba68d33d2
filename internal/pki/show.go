package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/certread"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/pemfile"
)

// Show describes the content of a file: certificates, requests, revocation lists and keys
// (only their public half), in PEM or DER form. It returns at least one item, or an error
// for anything that cannot be decoded.
func Show(path string, now time.Time) ([]Item, error) {
	data, err := readFile(path, maxPEM)
	if err != nil {
		return nil, err
	}
	items, err := Describe(data, orNow(now))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, pemfile.Named(err, path))
	}
	return items, nil
}

// Describe is Show for the content of a file.
func Describe(data []byte, now time.Time) ([]Item, error) {
	if it, ok := describeDER(data, now); ok {
		return []Item{it}, nil
	}
	var items []Item
	err := blocks(data, func(n int, b *pem.Block) error {
		it, err := describeBlock(b, now)
		if err != nil {
			return fmt.Errorf("block %d (%s): %w", n, quote(b.Type), err)
		}
		if it.Type != "" {
			items = append(items, it)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, errors.New("has nothing to show")
	}
	return items, nil
}

func describeDER(der []byte, now time.Time) (Item, bool) {
	if c, err := x509.ParseCertificate(der); err == nil {
		return certItem(c, now), true
	}
	if l, err := x509.ParseRevocationList(der); err == nil {
		return crlItem(l, now), true
	}
	if r, err := x509.ParseCertificateRequest(der); err == nil {
		return requestItem(r), true
	}
	if k, err := parseKeyDER(blockPKCS8, der); err == nil {
		return keyItem(k.Public())
	}
	return Item{}, false
}

func describeBlock(b *pem.Block, now time.Time) (Item, error) {
	switch {
	case b.Type == blockCert:
		c, err := certread.Certificate(b.Bytes)
		if err != nil {
			return Item{}, err
		}
		return certItem(c, now), nil
	case b.Type == blockCSR, b.Type == blockOldCSR:
		r, err := x509.ParseCertificateRequest(b.Bytes)
		if err != nil {
			return Item{}, err
		}
		return requestItem(r), nil
	case b.Type == blockCRL:
		l, err := certread.RevocationList(b.Bytes)
		if err != nil {
			return Item{}, err
		}
		return crlItem(l, now), nil
	case b.Type == blockParams:
		return Item{}, nil
	case b.Type == "PUBLIC KEY":
		pub, err := x509.ParsePKIXPublicKey(b.Bytes)
		if err != nil {
			return Item{}, err
		}
		return publicItem(pub)
	case strings.HasSuffix(b.Type, blockPKCS8):
		k, err := ParseKey(pem.EncodeToMemory(b))
		if err != nil {
			return Item{}, err
		}
		return publicItem(k.Public())
	}
	if other := otherForm(b.Type); other != "" {
		return Item{}, errors.New(other)
	}
	return Item{}, errors.New("is nothing this command knows")
}

func keyItem(pub crypto.PublicKey) (Item, bool) {
	it, err := publicItem(pub)
	return it, err == nil
}

func publicItem(pub crypto.PublicKey) (Item, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Item{}, err
	}
	it := Item{Type: "key", Key: keykind.NameOf(pub), SPKI: spkiHex(spki)}
	it.warnKey(pub)
	return it, nil
}

// maxRevokedShown bounds the entries of a revocation list that are printed for a person;
// --json has all of them.
const maxRevokedShown = 50

// WriteText describes the item for a person, with everything in it escaped.
func (it Item) WriteText(w io.Writer) error {
	var b strings.Builder
	raw := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-12s %s\n", label, value)
		}
	}
	line := func(label, value string) { raw(label, quote(value)) }
	// What a rule compares can be copied from here, so its escapes stay as they are.
	dn := func(label, value string) { raw(label, escape.Shown(value, certname.MaxShown)) }
	b.WriteString(it.title() + "\n")
	dn("subject", it.Subject)
	label := "names"
	for _, n := range it.Names {
		raw(label, shownName(n))
		label = ""
	}
	dn("issuer", it.issuer())
	line("serial", it.Serial)
	line("valid", it.validity())
	line("number", it.Number)
	line("this update", dateOf(it.ThisUpdate))
	if it.NextUpdate != nil {
		line("next update", date(*it.NextUpdate)+", "+left(*it.DaysLeft))
	}
	line("usage", strings.Join(append(append([]string(nil), it.ExtKeyUse...), it.KeyUsage...), ", "))
	line("key", it.Key)
	line("spki sha256", it.SPKI)
	line("signed with", it.Signature)
	line("sha256", it.Fingerprint)
	if it.Type == "crl" {
		line("revoked", strconv.Itoa(len(it.Revoked)))
		for i, r := range it.Revoked {
			if i == maxRevokedShown {
				line("", fmt.Sprintf("... and %d more; --json shows all", len(it.Revoked)-i))
				break
			}
			line("", fmt.Sprintf("%s  %s  %s", r.Serial, date(r.At), r.Reason))
		}
	}
	for _, s := range it.Warnings {
		line("warning", s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (it Item) title() string {
	switch {
	case it.Type == "certificate" && it.CA && it.MaxPathLen != nil:
		return fmt.Sprintf("certificate of a CA, with at most %d CAs below it", *it.MaxPathLen)
	case it.Type == "certificate" && it.CA:
		return "certificate of a CA"
	case it.Type == "request":
		return "certificate request"
	case it.Type == "crl":
		return "revocation list"
	}
	return it.Type
}

func (it Item) issuer() string {
	if it.SelfSigned {
		return "itself"
	}
	return it.Issuer
}

func (it Item) validity() string {
	if it.NotBefore == nil || it.NotAfter == nil {
		return ""
	}
	return date(*it.NotBefore) + " to " + date(*it.NotAfter) + ", " + left(*it.DaysLeft)
}

func left(days int) string {
	switch {
	case days < 0:
		return "over"
	case days == 0:
		return "less than a day left"
	case days == 1:
		return "1 day left"
	}
	return fmt.Sprintf("%d days left", days)
}

func dateOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return date(*t)
}
