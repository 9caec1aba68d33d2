package author

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/writefile"
)

// revokedAt is where the list of what is revoked stands in dir, for the next manifest: of the list that
// goes on from the one that the newest manifest begins with, or of one that begins anew with the
// entries of a file.
func revokedAt(dir string, roots Roots, anew string) (bundle.RevokedAt, error) {
	if anew != "" {
		return beginAnew(dir, roots.Newest().Fleet, anew)
	}
	at, err := lastRevokedAt(dir, roots)
	if err != nil {
		return at, err
	}
	r, _, err := readRevoked(dir, roots)
	switch {
	case errors.Is(err, fs.ErrNotExist): // who revokes may do so elsewhere
		return at, nil
	case err != nil:
		return at, err
	case r.Base == at.Base.SHA256:
		at.Number = max(at.Number, r.Number)
	}
	return at, nil
}

// lastRevokedAt is what the newest manifest says; zero: nothing.
func lastRevokedAt(dir string, roots Roots) (bundle.RevokedAt, error) {
	last, err := newest(dir, roots)
	if err != nil || last.Epoch == 0 {
		return bundle.RevokedAt{}, err
	}
	for _, name := range []string{EpochName(last.Epoch), bundle.HeadName} {
		if m, _, err := readBundle(filepath.Join(dir, filepath.FromSlash(name)), roots...); err == nil && m.Epoch == last.Epoch {
			return m.Revoked, nil
		}
	}
	return bundle.RevokedAt{}, nil // it was voided
}

// maxAnew bounds the file of entries in bytes.
const maxAnew = 8 << 20

// beginAnew writes the list that the list of what is revoked begins anew with. The file has an entry a
// line, as bundle.Revoked.Add reads it; empty lines and those that begin with # count for nothing.
func beginAnew(dir, fleet, file string) (at bundle.RevokedAt, err error) {
	text, err := readFile(file, maxAnew)
	if err != nil {
		return at, err
	}
	r := newRevoked(fleet)
	r.Number = 1
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := r.Add(line); err != nil {
			return at, fmt.Errorf("%s:%d: %w", file, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return at, fmt.Errorf("%s: %w", file, err)
	}
	e, err := r.Seal() // which checks it
	if err != nil {
		return at, err
	}
	body := e.Unverified()
	at = bundle.RevokedAt{Number: 1, Base: bundle.File{SHA256: bundle.Sum(body), Size: int64(len(body))}}
	return at, writefile.Replace(filepath.Join(dir, filepath.FromSlash(bundle.BlobName(at.Base.SHA256))), body, 0o644)
}

func newRevoked(fleet string) *bundle.Revoked {
	return &bundle.Revoked{Fleet: fleet, Serials: []string{}, Keys: []string{}, Subjects: []string{}}
}

// baseName is what an error says of the list that a list begins with.
const baseName = "what the list of what is revoked begins with"

// baseOf reads the list that a list begins with, and its text; nil: with nothing.
func baseOf(dir, fleet string, at bundle.RevokedAt) (*bundle.SignedRevoked, []byte, error) {
	if at.Base == (bundle.File{}) {
		return nil, nil, nil
	}
	text, err := blob(dir, baseName, at.Base)
	if err != nil {
		return nil, nil, err
	}
	r, err := bundle.ParseBase(fleet, text)
	return r, text, err
}

// listBefore is the list that the next one follows, nil for none.
func listBefore(dir string, roots Roots) (*bundle.Revoked, error) {
	at, err := lastRevokedAt(dir, roots)
	if err != nil {
		return nil, err
	}
	before, _, err := readRevoked(dir, roots)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && before.Base == at.Base.SHA256 {
		return before.Revoked, nil
	}
	base, _, err := baseOf(dir, roots.Newest().Fleet, at)
	if err != nil || base == nil {
		return nil, err
	}
	return base.Revoked, nil
}

// verifyBase says whether what a manifest has the list begin with is there, and is one.
func verifyBase(dir string, m *bundle.Manifest) error {
	_, _, err := baseOf(dir, m.Fleet, m.Revoked)
	if err != nil && seal.ReasonOf(err) == seal.Unreachable {
		err = fmt.Errorf("%s: %w", baseName, err)
	}
	return err
}
