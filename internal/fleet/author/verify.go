package author

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// VerifyResult is a bundle that every gateway of its sites would take.
type VerifyResult struct {
	Fleet      string         `json:"fleet"`
	Root       int64          `json:"root"`
	Epoch      int64          `json:"epoch"`
	Manifest   string         `json:"manifest"`
	Sites      []string       `json:"sites"`
	Files      int            `json:"files"`
	NotAfter   string         `json:"not_after,omitempty"`
	RollbackTo []bundle.Older `json:"rollback_to,omitempty"`
}

// Verify verifies the bundle of a directory as a gateway that has seen nothing does: roots from
// pinned on, signatures, bounds, and every file.
func Verify(dir, pinned string, now time.Time) (*VerifyResult, error) {
	roots, err := ReadRoots(dir, pinned)
	if err != nil {
		return nil, err
	}
	root := roots.Newest()
	m, sum, err := Published(dir, root)
	if err != nil {
		return nil, err
	}
	if end := m.Ends(); !end.IsZero() && !now.Before(end) {
		return nil, seal.Refuse(seal.Expired, "epoch %d was to be taken until %s", m.Epoch, m.NotAfter)
	}
	res := &VerifyResult{Fleet: m.Fleet, Root: root.Version, Epoch: m.Epoch, Manifest: sum, NotAfter: m.NotAfter, RollbackTo: m.RollbackTo, Sites: slices.Sorted(maps.Keys(m.Sites))}
	if err := verifyBase(dir, m); err != nil {
		return nil, err
	}
	checked := map[string]bool{}
	for _, files := range append(slices.Collect(maps.Values(m.Sites)), m.Files) {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			f := files[name]
			res.Files++
			if checked[f.SHA256] {
				continue
			}
			if _, err := blob(dir, name, f); err != nil {
				return nil, err
			}
			checked[f.SHA256] = true
		}
	}
	return res, nil
}

// blob reads a file, and holds it against its SHA-256.
func blob(dir, name string, f bundle.File) ([]byte, error) {
	return f.Fetch(context.Background(), name, func(_ context.Context, at string, limit int64) ([]byte, error) {
		return readFile(filepath.Join(dir, filepath.FromSlash(at)), limit)
	})
}

// Change is a file that two bundles have differently.
type Change struct {
	Site string `json:"site,omitempty"` // "": of all sites
	File string `json:"file"`
	What string `json:"what"` // added, removed or changed
	// Diff is in the unified form; "" where a text is not at hand, or is no text.
	Diff string `json:"diff,omitempty"`
}

// Diff lists what differs between the bundles of two directories. Both are verified by the roots of
// the first, or of pinned.
func Diff(from, to, pinned string) (before, after int64, changes []Change, err error) {
	if pinned == "" {
		pinned = filepath.Join(from, filepath.FromSlash(bundle.RootName(1)))
	}
	var m [2]*bundle.Manifest
	for i, dir := range []string{from, to} {
		roots, err := ReadRoots(dir, pinned)
		if err != nil {
			return 0, 0, nil, err
		}
		slices.Reverse(roots) // after a rotation the published one may be of keys before
		if m[i], _, err = readBundle(filepath.Join(dir, bundle.HeadName), roots...); err != nil {
			return 0, 0, nil, err
		}
	}
	changes = differ(from, to, "", m[0].Files, m[1].Files)
	sites := map[string]bool{}
	for _, x := range m {
		for site := range x.Sites {
			sites[site] = true
		}
	}
	for _, site := range slices.Sorted(maps.Keys(sites)) {
		changes = append(changes, differ(from, to, site, m[0].Sites[site], m[1].Sites[site])...)
	}
	return m[0].Epoch, m[1].Epoch, changes, nil
}

func differ(from, to, site string, a, b map[string]bundle.File) []Change {
	names := map[string]bool{}
	for _, files := range []map[string]bundle.File{a, b} {
		for name := range files {
			names[name] = true
		}
	}
	var all []Change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, had := a[name]
		now, has := b[name]
		if had && has && old.SHA256 == now.SHA256 {
			continue
		}
		c := Change{Site: site, File: name, What: "changed"}
		switch {
		case !had:
			c.What = "added"
		case !has:
			c.What = "removed"
		}
		c.Diff = lines(name, from, to, old, now)
		all = append(all, c)
	}
	return all
}

// maxDiff bounds the texts that are compared line by line, in bytes.
const maxDiff = 1 << 20

// lines compares two files that are at hand and are text.
func lines(name, from, to string, old, now bundle.File) string {
	var text [2][]byte
	for i, f := range []bundle.File{old, now} {
		if f.SHA256 == "" {
			continue
		}
		var err error
		if text[i], err = blob([]string{from, to}[i], name, f); err != nil || len(text[i]) > maxDiff || slices.Contains(text[i], 0) {
			return ""
		}
	}
	return string(diff.Diff(fmt.Sprintf("a/%s", name), text[0], fmt.Sprintf("b/%s", name), text[1]))
}
