package revocation

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/certread"
)

// Denied are certificates that no list names and that are refused all the same, whoever has issued
// them and whatever the mode of their authority is. It is never changed.
type Denied struct {
	Number   int64           // of the list, for people
	Serials  map[string]bool // of all but a trust anchor; hexadecimal, lower case, no zeros in front
	Keys     map[string]bool // SHA-256 of SubjectPublicKeyInfo, hexadecimal, lower case
	Subjects map[string]bool // as certname.Canonical writes them
}

// Deny replaces what is denied. Live flows of it end, and tickets of it are not taken.
func (c *Checker) Deny(d *Denied) {
	c.denied.Store(d)
	c.epoch.Add(1)
	c.changed()
}

// of says whether a chain has a certificate that is denied, and which.
func (d *Denied) of(chain []*x509.Certificate) (detail string, denied bool) {
	if d == nil {
		return "", false
	}
	for i, cert := range chain {
		key := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		switch {
		case (i == 0 || i < len(chain)-1) && cert.SerialNumber != nil && d.Serials[cert.SerialNumber.Text(16)]:
		case d.Keys[hex.EncodeToString(key[:])]:
		case d.Subjects[certname.Of(cert.RawSubject)]:
		default:
			continue
		}
		return fmt.Sprintf("%s: revoked by the fleet, list %d", about(cert), d.Number), true
	}
	return "", false
}

// deniedBefore says whether a certificate that was shown earlier, in DER, is denied now.
func (c *Checker) deniedBefore(shown [][]byte) bool {
	d := c.denied.Load()
	if d == nil {
		return false
	}
	for _, der := range shown {
		cert, err := certread.Certificate(der)
		if err != nil {
			continue // Check decides
		}
		if _, denied := d.of([]*x509.Certificate{cert}); denied {
			return true
		}
	}
	return false
}
