package author

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/writefile"
)

// nextName is a bundle that not enough keys have signed yet.
const nextName = "next.json"

// SignOptions of a bundle.
type SignOptions struct {
	Config     string // sslgate.yaml; "" adds signatures to the bundle that waits for them
	Sites      []Site
	Keys       []string // files of private keys
	RollbackTo []int64
	Life       time.Duration // until not_after; 0: none
	MinVersion string
	// RevokedAnew is a file of entries that the list of what is revoked begins anew with; "": it goes
	// on.
	RevokedAnew string
	Gateway     []byte // a gateway's own file to check with
	Engine      handshake.Engine
	Now         time.Time
}

// SignResult says what was signed.
type SignResult struct {
	Fleet    string   `json:"fleet"`
	Epoch    int64    `json:"epoch"`
	Manifest string   `json:"manifest"` // SHA-256
	Sites    []string `json:"sites"`
	Files    int      `json:"files"`
	Signed   int      `json:"signed"` // by how many distinct policy keys
	Needed   int      `json:"needed"`
	File     string   `json:"file"` // bundle.json once enough have
}

// Sign makes the next bundle of the fleet in dir, or adds signatures to the one that waits for
// them. It takes the place of bundle.json once enough keys have signed. What check refuses is not
// signed.
func Sign(ctx context.Context, dir string, o SignOptions) (*SignResult, error) {
	roots, unlock, err := opened(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	root := roots.Newest()
	keys, err := roleKeys(o.Keys, seal.RolePolicy, root)
	if err != nil {
		return nil, err
	}
	next := filepath.Join(dir, nextName)
	var e *seal.Envelope
	if o.Config == "" {
		text, err := readFile(next, seal.MaxEnvelope)
		if err != nil {
			return nil, fmt.Errorf("no bundle waits for signatures: %w", err)
		}
		if e, err = seal.ParseEnvelope(text); err != nil {
			return nil, err
		}
	} else if e, err = draft(ctx, dir, roots, o); err != nil {
		return nil, err
	}
	m, err := bundle.Parse(e.Unverified())
	if err != nil {
		return nil, err
	}
	if m.Fleet != root.Fleet {
		return nil, fmt.Errorf("%s is of fleet %s, this is %s", next, m.Fleet, root.Fleet)
	}
	if o.Config == "" {
		if err := waiting(ctx, dir, roots, e, m, o); err != nil {
			return nil, fmt.Errorf("%s: %w", next, err)
		}
	}
	if err := signAll(e, keys); err != nil {
		return nil, err
	}
	return publish(dir, root, e, m)
}

// waiting says whether a bundle that waits for signatures is one to add to: a policy key has signed
// it, it follows the published one, its files are there, and check takes it. Whoever may write the
// directory could put anything there.
func waiting(ctx context.Context, dir string, roots Roots, e *seal.Envelope, m *bundle.Manifest, o SignOptions) error {
	if len(roots.Newest().Signers(seal.RolePolicy, e)) == 0 {
		return errors.New("no policy key has signed it: sign the configuration itself")
	}
	last, err := newest(dir, roots)
	if err != nil {
		return err
	}
	if m.Epoch != last.Epoch+1 || m.Parent != last.Manifest {
		return fmt.Errorf("epoch %d after the manifest %.12q; the next is %d after %.12q", m.Epoch, m.Parent, last.Epoch+1, last.Manifest)
	}
	if err := verifyBase(dir, m); err != nil {
		return err
	}
	for site := range m.Sites {
		files, err := m.Of(site)
		if err != nil {
			return err
		}
		for name, f := range files {
			if _, err := blob(dir, name, f); err != nil {
				return err
			}
		}
		src := signedDesk{bundle.NewSource(dir, &bundle.Verified{Manifest: m, Files: files}), o.Gateway}
		if err := checkSite(ctx, site, src, o.Engine); err != nil {
			return err
		}
	}
	return nil
}

// roleKeys reads keys, each of which must have a role in one of the roots.
func roleKeys(files []string, role string, roots ...*seal.Root) ([]crypto.Signer, error) {
	var keys []crypto.Signer
	for _, file := range files {
		key, err := ReadKey(file)
		if err != nil {
			return nil, err
		}
		pub, err := seal.Public(key)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(roots, func(r *seal.Root) bool { return slices.Contains(r.Roles[role].Keys, pub.ID()) }) {
			return nil, fmt.Errorf("%s: root %d does not name this key for %s", file, roots[0].Version, role)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key to sign with")
	}
	return keys, nil
}

// signAll signs with each of the keys.
func signAll(e *seal.Envelope, keys []crypto.Signer) error {
	for _, key := range keys {
		if err := e.Sign(key); err != nil {
			return err
		}
	}
	return nil
}

// draft makes the next bundle: its files are in dir before it is.
func draft(ctx context.Context, dir string, roots Roots, o SignOptions) (*seal.Envelope, error) {
	last, err := newest(dir, roots)
	if err != nil {
		return nil, err
	}
	m := &bundle.Manifest{
		Fleet: roots.Newest().Fleet, Epoch: last.Epoch + 1, Parent: last.Manifest, MinVersion: o.MinVersion, NotAfter: stamp(o.Now, o.Life),
		Files: map[string]bundle.File{}, Sites: map[string]map[string]bundle.File{},
	}
	if m.RollbackTo, err = older(dir, roots.Newest(), o.RollbackTo); err != nil {
		return nil, err
	}
	if m.Revoked, err = revokedAt(dir, roots, o.RevokedAnew); err != nil {
		return nil, err
	}
	files, err := collect(ctx, o.Config, o.Sites, o.Gateway, o.Engine)
	if err != nil {
		return nil, err
	}
	put := func(from map[string][]byte, into map[string]bundle.File) error {
		for name, text := range from {
			f := bundle.File{SHA256: bundle.Sum(text), Size: int64(len(text))}
			if err := writefile.Replace(filepath.Join(dir, filepath.FromSlash(bundle.BlobName(f.SHA256))), text, 0o644); err != nil {
				return err
			}
			into[name] = f
		}
		return nil
	}
	err = put(files.common, m.Files)
	for site, part := range files.sites {
		m.Sites[site] = map[string]bundle.File{}
		err = errors.Join(err, put(part, m.Sites[site]))
	}
	if err != nil {
		return nil, err
	}
	return m.Seal()
}

// publish writes the envelope to where it belongs.
func publish(dir string, root *seal.Root, e *seal.Envelope, m *bundle.Manifest) (*SignResult, error) {
	res := &SignResult{
		Fleet: m.Fleet, Epoch: m.Epoch, Manifest: bundle.Sum(e.Unverified()), Files: len(m.Files),
		Signed: len(root.Signers(seal.RolePolicy, e)), Needed: root.Roles[seal.RolePolicy].Threshold,
	}
	for site, files := range m.Sites {
		res.Sites, res.Files = append(res.Sites, site), res.Files+len(files)
	}
	slices.Sort(res.Sites)
	text, err := e.Text()
	if err != nil {
		return nil, err
	}
	next := filepath.Join(dir, nextName)
	if res.Signed < res.Needed {
		res.File = next
		return res, writefile.Replace(next, text, 0o644)
	}
	kept := filepath.Join(dir, filepath.FromSlash(EpochName(m.Epoch)))
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return nil, err
	}
	if err := writefile.Replace(kept, text, 0o644); err != nil { // first: it says which epoch is the next
		return nil, err
	}
	res.File = filepath.Join(dir, bundle.HeadName)
	if err := writefile.Replace(res.File, text, 0o644); err != nil {
		return nil, err
	}
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return res, nil
}
