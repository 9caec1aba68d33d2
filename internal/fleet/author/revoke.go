package author

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/writefile"
)

// RevokeOptions say what is revoked.
type RevokeOptions struct {
	Entries []string // as bundle.Revoked.Add reads them
	Keys    []string // files of private revoke keys
}

// RevokeResult says what is revoked now.
type RevokeResult struct {
	Fleet    string `json:"fleet"`
	Number   int64  `json:"number"`
	Serials  int    `json:"serials"`
	Keys     int    `json:"spki"`
	Subjects int    `json:"subjects"`
	File     string `json:"file"`
	Full     bool   `json:"nearly_full,omitempty"` // little room is left below bundle.MaxRevoked
}

// Revoke adds to the list of what is revoked in dir, whatever keys have signed that: gateways take no
// list that has less.
func Revoke(dir string, o RevokeOptions) (*RevokeResult, error) {
	roots, unlock, err := opened(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	keys, err := roleKeys(o.Keys, seal.RoleRevoke, roots.Newest())
	if err != nil {
		return nil, err
	}
	next := newRevoked(roots.Newest().Fleet)
	before, err := listBefore(dir, roots)
	if err != nil {
		return nil, err
	}
	if before != nil {
		next.Number, next.Base = before.Number, before.Base
		next.Serials, next.Keys, next.Subjects = slices.Clone(before.Serials), slices.Clone(before.Keys), slices.Clone(before.Subjects)
	}
	next.Number++
	for _, entry := range o.Entries {
		if err := next.Add(entry); err != nil {
			return nil, err
		}
	}
	e, err := next.Seal()
	if err != nil {
		return nil, err
	}
	if err := signAll(e, keys); err != nil {
		return nil, err
	}
	text, err := e.Text()
	if err != nil {
		return nil, err
	}
	if _, err := bundle.OpenRevoked(roots.Newest(), text); err != nil { // as gateways do
		return nil, err
	}
	res := &RevokeResult{next.Fleet, next.Number, len(next.Serials), len(next.Keys), len(next.Subjects), filepath.Join(dir, bundle.RevokedName), bundle.NearlyFull(next.Entries())}
	return res, writefile.Replace(res.File, text, 0o644)
}

// readRevoked reads the list of a directory, and returns its text too.
func readRevoked(dir string, roots Roots) (r *bundle.SignedRevoked, text []byte, err error) {
	file := filepath.Join(dir, bundle.RevokedName)
	if text, err = readFile(file, seal.MaxEnvelope); err != nil {
		return nil, nil, err
	}
	if r, err = verifiedRevoked(roots, text); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, text, nil
}

// verifiedRevoked is the list of a text that the keys of one of the roots have signed.
func verifiedRevoked(roots Roots, text []byte) (r *bundle.SignedRevoked, err error) {
	for _, root := range slices.Backward(roots) {
		if r, err = bundle.OpenRevoked(root, text); err == nil {
			return r, nil
		}
	}
	return nil, err
}
