package author

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/writefile"
)

// nextRootName is a root that not enough keys have signed yet.
const nextRootName = "root/next.json"

// RotateOptions of the next root. Without any change, signatures are added to the root that waits
// for them.
type RotateOptions struct {
	// Root, Policy and Revoke are new keys in the place of all of a role; the zero Quorum leaves them.
	Root, Policy, Revoke Quorum
	// VoidAbove, where not 0, voids the epochs above it: they were signed with stolen keys.
	VoidAbove int64
	Kind      string   // of new keys, one of seal.Kinds
	KeyDir    string   // where they go
	Keys      []string // files of private root keys, of the root in force or of the next one
}

func (o *RotateOptions) changes() bool {
	return o.Root != (Quorum{}) || o.Policy != (Quorum{}) || o.Revoke != (Quorum{}) || o.VoidAbove != 0
}

// RotateResult says what was made.
type RotateResult struct {
	Fleet   string    `json:"fleet"`
	Version int64     `json:"version"`
	File    string    `json:"file"`
	Keys    []KeyFile `json:"keys"` // new ones
	// Signed are how many root keys have signed, and Needed how many must: those of the root
	// before, and its own (TUF specification, section 5.3.4).
	Signed    [2]int `json:"signed"`
	Needed    [2]int `json:"needed"`
	Published bool   `json:"published"`
}

// Rotate makes the root that follows the newest of a fleet, or adds signatures to the one that waits
// for them. It is published once enough keys of both have signed.
func Rotate(dir string, o RotateOptions) (*RotateResult, error) {
	roots, unlock, err := opened(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	before := roots.Newest()
	res := &RotateResult{Fleet: before.Fleet, Keys: []KeyFile{}}
	var e *seal.Envelope
	var next *seal.Root
	var keys []crypto.Signer
	if o.changes() {
		if keys, err = roleKeys(o.Keys, seal.RoleRoot, before); err != nil {
			return nil, err
		}
		var made []crypto.Signer
		if e, made, err = nextRoot(before, &o, res); err != nil {
			return nil, err
		}
		keys = append(keys, made...)
		next, err = e.DraftRoot()
	} else if e, next, err = waitingRoot(filepath.Join(dir, filepath.FromSlash(nextRootName)), before); err == nil {
		keys, err = roleKeys(o.Keys, seal.RoleRoot, before, next)
	}
	if err != nil {
		return nil, err
	}
	if err := signAll(e, keys); err != nil {
		return nil, err
	}
	for i, r := range []*seal.Root{before, next} {
		res.Signed[i], res.Needed[i] = len(r.Signers(seal.RoleRoot, e)), r.Roles[seal.RoleRoot].Threshold
	}
	res.Version = next.Version
	return res, publishRoot(dir, before, e, res)
}

// nextRoot makes the root after another one, and its new keys.
func nextRoot(before *seal.Root, o *RotateOptions, res *RotateResult) (*seal.Envelope, []crypto.Signer, error) {
	version := before.Version + 1
	roles := maps.Clone(before.Roles)
	if err := os.MkdirAll(o.KeyDir, 0o700); err != nil {
		return nil, nil, err
	}
	var sign []crypto.Signer
	made := map[string][]*seal.PublicKey{}
	for _, r := range []struct {
		name string
		q    Quorum
	}{{seal.RoleRoot, o.Root}, {seal.RolePolicy, o.Policy}, {seal.RoleRevoke, o.Revoke}} {
		if r.q == (Quorum{}) {
			continue
		}
		m, err := newRole(o.KeyDir, o.Kind, r.name, fmt.Sprintf("%s-v%d", r.name, version), r.q)
		if err != nil {
			return nil, nil, err
		}
		roles[r.name], made[r.name] = m.role, m.public
		res.Keys = append(res.Keys, m.files...)
		if r.name == seal.RoleRoot {
			sign = m.private
		}
	}
	var all []*seal.PublicKey
	for name := range roles {
		if keys := made[name]; keys != nil {
			all = append(all, keys...)
		} else {
			all = append(all, before.Holders(name)...)
		}
	}
	next := seal.NewRoot(before.Fleet, version, all, roles)
	next.VoidAbove = o.VoidAbove
	e, err := next.Envelope()
	return e, sign, err
}

// waitingRoot reads the root that waits for signatures. Whoever may write the directory could put
// anything there, so a key of the root in force must have signed it.
func waitingRoot(file string, before *seal.Root) (*seal.Envelope, *seal.Root, error) {
	text, err := readFile(file, seal.MaxEnvelope)
	if err != nil {
		return nil, nil, fmt.Errorf("no root waits for signatures, and nothing was asked to change: %w", err)
	}
	e, err := seal.ParseEnvelope(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	next, err := e.DraftRoot()
	switch {
	case err != nil:
	case next.Fleet != before.Fleet || next.Version != before.Version+1:
		err = fmt.Errorf("root %d of fleet %s; the next is %d of fleet %s", next.Version, next.Fleet, before.Version+1, before.Fleet)
	case len(before.Signers(seal.RoleRoot, e)) == 0:
		err = errors.New("no key of the root in force has signed it")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return e, next, nil
}

// publishRoot writes a root to where it belongs.
func publishRoot(dir string, before *seal.Root, e *seal.Envelope, res *RotateResult) error {
	text, err := e.Text()
	if err != nil {
		return err
	}
	waits := filepath.Join(dir, filepath.FromSlash(nextRootName))
	if res.Signed[0] < res.Needed[0] || res.Signed[1] < res.Needed[1] {
		res.File = waits
		return writefile.Replace(waits, text, 0o644)
	}
	if _, err := before.Next(text); err != nil { // as gateways read it
		return err
	}
	res.File, res.Published = filepath.Join(dir, filepath.FromSlash(bundle.RootName(res.Version))), true
	if err := writefile.Create(res.File, text, 0o644); err != nil {
		return err
	}
	if err := os.Remove(waits); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
