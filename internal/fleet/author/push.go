package author

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// Store is what a bundle is pushed to.
type Store interface {
	// Head is that of member.Source.
	Head(ctx context.Context, last string) (text []byte, tag string, err error)
	// Put writes a file that never changes, unless it is there. It is an error where another is.
	Put(ctx context.Context, name string, text []byte) error
	// PutHead writes bundle.json, if it still has the tag last.
	PutHead(ctx context.Context, text []byte, last string) error
	// Current returns what may change, with a tag, and Update writes it, if it still has that ("":
	// it is not there).
	Current(ctx context.Context, name string) (text []byte, tag string, err error)
	Update(ctx context.Context, name string, text []byte, last string) error
}

// PushResult says what was pushed.
type PushResult struct {
	Fleet  string `json:"fleet"`
	Epoch  int64  `json:"epoch"`
	Before int64  `json:"before"` // the epoch that was there; 0: none
	Files  int    `json:"files"`
	Same   bool   `json:"same"` // it was there already
	// List is what is revoked; nil: there is none to push.
	List *PushedList `json:"revoked,omitempty"`
}

// PushedList is a list of what is revoked that was pushed.
type PushedList struct {
	Number  int64 `json:"number"`
	Entries int   `json:"entries"`
	Same    bool  `json:"same"`                  // it was there already
	Full    bool  `json:"nearly_full,omitempty"` // little room is left below bundle.MaxRevoked
	// Refused is why it was not pushed: no gateway would take it.
	Refused string `json:"refused,omitempty"`
}

// Push writes the bundle of a directory to a store, bundle.json last. What a gateway would not take
// after what is there is not pushed: neither an older epoch that the rollback_to there does not name,
// nor another manifest with the same epoch.
func Push(ctx context.Context, dir, pinned string, to Store, now time.Time) (*PushResult, error) {
	if _, err := Verify(dir, pinned, now); err != nil {
		return nil, err
	}
	roots, err := ReadRoots(dir, pinned)
	if err != nil {
		return nil, err
	}
	text, err := readFile(filepath.Join(dir, bundle.HeadName), seal.MaxEnvelope)
	if err != nil {
		return nil, err
	}
	m, sum, err := verified(roots.Newest(), text)
	if err != nil {
		return nil, err
	}
	res := &PushResult{Fleet: m.Fleet, Epoch: m.Epoch}
	there, tag, err := to.Head(ctx, "")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		tag = ""
	case err != nil:
		return nil, err
	case bytes.Equal(there, text):
		res.Before, res.Same = m.Epoch, true
	default:
		if res.Before, err = follows(roots, there, bundle.Older{Epoch: m.Epoch, Manifest: sum}); err != nil {
			return nil, err
		}
	}
	if err := pushFiles(ctx, dir, m, roots, to, res); err != nil {
		return res, err
	}
	if err := pushRevoked(ctx, dir, roots, m.Revoked.Base.SHA256, to, res); err != nil || res.Same {
		return res, err
	}
	return res, to.PutHead(ctx, text, tag)
}

// PushRevoked writes the list of what is revoked alone. It is one that begins as the bundle says that is
// there: the list of another beginning needs its bundle first.
func PushRevoked(ctx context.Context, dir, pinned string, to Store) (*PushResult, error) {
	roots, err := ReadRoots(dir, pinned)
	if err != nil {
		return nil, err
	}
	res, base := &PushResult{Fleet: roots.Newest().Fleet}, ""
	there, _, err := to.Head(ctx, "")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, root := range slices.Backward(roots) { // what no root of the fleet stands for is none
		if m, _, err := verified(root, there); err == nil {
			res.Epoch, res.Before, base = m.Epoch, m.Epoch, m.Revoked.Base.SHA256
			break
		}
	}
	r, _, err := readRevoked(dir, roots)
	if err != nil {
		return nil, err
	}
	if r.Base != base {
		return nil, fmt.Errorf("list %d of what is revoked begins with %.12q, and by the bundle that is there (epoch %d) it begins with %.12q: push the bundle of the directory", r.Number, r.Base, res.Epoch, base)
	}
	if err := pushRevoked(ctx, dir, roots, base, to, res); err != nil {
		return nil, err
	}
	if res.List.Refused != "" {
		return nil, fmt.Errorf("no gateway would take it: %s", res.List.Refused)
	}
	return res, nil
}

// pushRevoked writes the list of what is revoked, unless there is a newer one. base is what it begins
// with: a list that begins otherwise is replaced, or is not pushed.
func pushRevoked(ctx context.Context, dir string, roots Roots, base string, to Store, res *PushResult) error {
	r, text, err := readRevoked(dir, roots)
	if errors.Is(err, fs.ErrNotExist) || err == nil && r.Base != base {
		return nil
	}
	if err != nil {
		return err
	}
	res.List = &PushedList{Number: r.Number, Entries: r.Entries(), Full: bundle.NearlyFull(r.Entries())}
	if res.List.Refused = refusedBy(roots.Newest(), text); res.List.Refused != "" {
		return nil
	}
	there, tag, err := to.Current(ctx, bundle.RevokedName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		tag = ""
	case err != nil:
		return err
	case bytes.Equal(there, text):
		res.List.Same = true
		return nil
	default:
		// What no root of the fleet stands for is none.
		if have, err := verifiedRevoked(roots, there); err == nil && have.Base == base {
			if _, err := bundle.VerifyRevoked(roots.Newest(), base, have, text); err != nil {
				return fmt.Errorf("%s: %w", bundle.RevokedName, err)
			}
		}
	}
	return to.Update(ctx, bundle.RevokedName, text, tag)
}

// refusedBy says why gateways with a root take no such list, "" if they do: its keys may be gone since.
func refusedBy(root *seal.Root, text []byte) string {
	if _, err := bundle.OpenRevoked(root, text); err != nil {
		return err.Error()
	}
	return ""
}

// follows says whether gateways that have taken the bundle of a text take another one. What no root
// of the fleet stands for is none: whoever may write the store could put anything there.
func follows(roots Roots, text []byte, o bundle.Older) (before int64, err error) {
	for _, root := range slices.Backward(roots) {
		m, sum, err := verified(root, text)
		if err != nil {
			continue
		}
		if root != roots.Newest() && roots.Newest().VoidAbove > 0 && m.Epoch > roots.Newest().VoidAbove {
			return m.Epoch, nil
		}
		switch {
		case o.Epoch > m.Epoch, o.Epoch == m.Epoch && o.Manifest == sum, slices.Contains(m.RollbackTo, o):
			return m.Epoch, nil
		case o.Epoch == m.Epoch:
			return 0, seal.Refuse(seal.OtherEpoch, "epoch %d is there with the manifest %.12s, this is %.12s", m.Epoch, sum, o.Manifest)
		}
		return 0, seal.Refuse(seal.OlderEpoch, "epoch %d is there, whose rollback_to does not name %d", m.Epoch, o.Epoch)
	}
	return 0, nil
}

// pushFiles writes what bundle.json needs: roots and files. The pinned root is each gateway's own.
func pushFiles(ctx context.Context, dir string, m *bundle.Manifest, roots Roots, to Store, res *PushResult) error {
	for _, root := range roots {
		name := bundle.RootName(root.Version)
		text, err := readFile(filepath.Join(dir, filepath.FromSlash(name)), seal.MaxEnvelope)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = to.Put(ctx, name, text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, text, err := baseOf(dir, m.Fleet, m.Revoked); err != nil {
		return err
	} else if text != nil {
		if err := to.Put(ctx, bundle.BlobName(m.Revoked.Base.SHA256), text); err != nil {
			return fmt.Errorf("%s: %w", baseName, err)
		}
	}
	done := map[string]bool{}
	for _, files := range append(slices.Collect(maps.Values(m.Sites)), m.Files) {
		for name, f := range files {
			if done[f.SHA256] {
				continue
			}
			done[f.SHA256] = true
			text, err := blob(dir, name, f)
			if err == nil {
				err = to.Put(ctx, bundle.BlobName(f.SHA256), text)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			res.Files++
		}
	}
	return nil
}
