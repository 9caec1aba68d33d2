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

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/writefile"
)

// InitOptions of a fleet.
type InitOptions struct {
	Fleet string
	// Root, Policy and Revoke say how many keys of how many must sign. The zero Quorum for Revoke
	// gives nobody that role.
	Root, Policy, Revoke Quorum
	// Kind of the keys, one of seal.Kinds.
	Kind string
	// KeyDir is where the private keys go.
	KeyDir string
}

// Quorum is K of N.
type Quorum struct{ K, N int }

// ParseQuorum reads "2/3".
func ParseQuorum(text string) (q Quorum, err error) {
	var rest string
	if n, _ := fmt.Sscanf(text, "%d/%d%s", &q.K, &q.N, &rest); n != 2 || q.K < 1 || q.K > q.N || q.N > 16 {
		return q, fmt.Errorf("%q: wants how many keys of how many must sign, such as 2/3, at most 16", text)
	}
	return q, nil
}

// InitResult says what was made.
type InitResult struct {
	Fleet string    `json:"fleet"`
	Root  string    `json:"root"` // file
	Keys  []KeyFile `json:"keys"`
}

// KeyFile is a private key.
type KeyFile struct {
	File string `json:"file"`
	Role string `json:"role"`
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// Init makes the keys of a fleet and its first root in dir. Nothing that is there is overwritten.
func Init(dir string, o InitOptions) (*InitResult, error) {
	if !seal.NameFits(o.Fleet) {
		return nil, fmt.Errorf("%q cannot be the name of a fleet: lower-case letters, digits and hyphens, at most 63", o.Fleet)
	}
	at := filepath.Join(dir, filepath.FromSlash(bundle.RootName(1)))
	if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there already: one directory, one fleet", at)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.MkdirAll(filepath.Join(dir, "blobs"), 0o755), os.MkdirAll(o.KeyDir, 0o700)); err != nil {
		return nil, err
	}
	res := &InitResult{Fleet: o.Fleet, Root: at}
	var all []*seal.PublicKey
	var rootKeys []crypto.Signer
	roles := map[string]seal.Role{}
	for _, r := range []struct {
		name string
		q    Quorum
	}{{seal.RoleRoot, o.Root}, {seal.RolePolicy, o.Policy}, {seal.RoleRevoke, o.Revoke}} {
		if r.q == (Quorum{}) {
			continue
		}
		made, err := newRole(o.KeyDir, o.Kind, r.name, r.name, r.q)
		if err != nil {
			return nil, err
		}
		res.Keys, all, roles[r.name] = append(res.Keys, made.files...), append(all, made.public...), made.role
		if r.name == seal.RoleRoot {
			rootKeys = made.private
		}
	}
	e, err := seal.NewRoot(o.Fleet, 1, all, roles).Envelope()
	if err != nil {
		return nil, err
	}
	if err := signAll(e, rootKeys); err != nil {
		return nil, err
	}
	text, err := e.Text()
	if err != nil {
		return nil, err
	}
	return res, writefile.Create(at, text, 0o644)
}

// madeRole is a role with keys of its own.
type madeRole struct {
	role    seal.Role
	files   []KeyFile
	private []crypto.Signer
	public  []*seal.PublicKey
}

// newRole makes the keys of a role, in the files PREFIX-1.key, PREFIX-2.key, ...
func newRole(dir, kind, name, prefix string, q Quorum) (*madeRole, error) {
	made := &madeRole{role: seal.Role{Threshold: q.K}}
	for i := range q.N {
		file := filepath.Join(dir, fmt.Sprintf("%s-%d.key", prefix, i+1))
		key, pub, err := newKeyFile(file, kind)
		if err != nil {
			return nil, err
		}
		made.files = append(made.files, KeyFile{file, name, pub.Kind(), pub.ID()})
		made.private, made.public = append(made.private, key), append(made.public, pub)
		made.role.Keys = append(made.role.Keys, pub.ID())
	}
	slices.Sort(made.role.Keys)
	return made, nil
}

func newKeyFile(file, kind string) (crypto.Signer, *seal.PublicKey, error) {
	key, err := seal.NewKey(kind)
	if err != nil {
		return nil, nil, err
	}
	pub, err := seal.Public(key)
	if err != nil {
		return nil, nil, err
	}
	text, err := seal.KeyPEM(key)
	if err != nil {
		return nil, nil, err
	}
	defer clear(text)
	return key, pub, writefile.Create(file, text, 0o600)
}

// ReadKey reads a private key. Its file must be closed to all but its owner and group.
func ReadKey(path string) (crypto.Signer, error) {
	f, err := fileset.Disk{}.Read(context.Background(), path, 64<<10, nil)
	if err != nil {
		return nil, err
	}
	defer clear(f.Text)
	if mode := f.Mode.Perm(); mode&0o037 != 0 {
		return nil, fmt.Errorf("%s is open to others (mode %04o): chmod go= %[1]s", path, mode)
	}
	key, err := pki.ParseKey(f.Text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := seal.Public(key); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// Roots are those of a directory, each signed as the one before it demands, the oldest first.
type Roots []*seal.Root

// Newest is the root in force.
func (r Roots) Newest() *seal.Root { return r[len(r)-1] }

// ReadRoots reads the roots of a directory. pinned is the file of the root to begin with; "" is the
// first of the directory.
func ReadRoots(dir, pinned string) (Roots, error) {
	if pinned == "" {
		pinned = filepath.Join(dir, filepath.FromSlash(bundle.RootName(1)))
	}
	text, err := readFile(pinned, seal.MaxEnvelope)
	if err != nil {
		return nil, err
	}
	root, err := seal.Pinned(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pinned, err)
	}
	for all := (Roots{root}); ; {
		next := filepath.Join(dir, filepath.FromSlash(bundle.RootName(root.Version+1)))
		text, err := readFile(next, seal.MaxEnvelope)
		if errors.Is(err, fs.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if root, err = root.Next(text); err != nil {
			return nil, fmt.Errorf("%s: %w", next, err)
		}
		all = append(all, root)
	}
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := fileset.Disk{}.Read(context.Background(), path, limit, nil)
	return f.Text, err
}

// stamp is a time for a manifest, to the second.
func stamp(now time.Time, life time.Duration) string {
	if life == 0 {
		return ""
	}
	return seal.Time(now.Add(life).Truncate(time.Second))
}
