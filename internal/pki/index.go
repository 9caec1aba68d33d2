package pki

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sslgate/sslgate/internal/writefile"
)

// maxIndex bounds the index in bytes: some 160,000 certificates at about 400 bytes a
// record, more than anyone needs for tests.
const maxIndex = 64 << 20

// Record is one line of a CA's index.
type Record struct {
	Serial    string    `json:"serial"` // lower-case hex
	Subject   string    `json:"subject"`
	Names     []string  `json:"names,omitempty"` // "DNS:a.example"
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SPKI      string    `json:"spki_sha256"`
	File      string    `json:"file"` // where the certificate was written to

	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	Reason    string     `json:"revocation_reason,omitempty"` // a word of Reasons
}

// readIndex reads all records. The index may be missing in a CA that has not issued yet.
// A line that cannot be read is an error, because a CA cannot revoke a certificate that
// is missing from its index.
func (a *authority) readIndex() ([]Record, error) {
	data, err := readFile(a.path(fileIndex), maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var recs []Record
	for n, line := range bytes.Split(data, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", a.path(fileIndex), n+1, err)
		}
		if _, err := parseSerial(r.Serial); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", a.path(fileIndex), n+1, err)
		}
		recs = append(recs, r)
	}
	return recs, nil
}

// writeIndex replaces the index as a whole, so that a crash leaves the old one.
func (a *authority) writeIndex(recs []Record) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, r := range recs {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	if b.Len() > maxIndex {
		return fmt.Errorf("the index would grow over %d bytes: make a new CA", maxIndex)
	}
	return writefile.Replace(a.path(fileIndex), b.Bytes(), 0o600)
}
