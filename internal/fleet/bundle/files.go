package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/readfile"
)

// The names below a directory or a URL.
const (
	HeadName  = "bundle.json"
	blobsName = "blobs"
)

// RootName is where the root of a version is.
func RootName(version int64) string { return fmt.Sprintf("root/%d.json", version) }

// BlobName is where a file with a SHA-256 is.
func BlobName(sum string) string { return path.Join(blobsName, sum) }

// Check says whether a text is the file.
func (f File) Check(name string, text []byte) error {
	if int64(len(text)) != f.Size || Sum(text) != f.SHA256 {
		return seal.Refuse(seal.Altered, "%s is not the file that the manifest names: %d bytes, SHA-256 %.12s; it should have %d and %.12s", name, len(text), Sum(text), f.Size, f.SHA256)
	}
	return nil
}

// Source is a bundle whose files are in a directory: a fileset.Source with paths below
// fileset.BundleDir. Each file is held against its SHA-256 when it is read.
type Source struct {
	dir   string
	epoch int64
	files map[string]File
}

// NewSource reads the files of v below dir.
func NewSource(dir string, v *Verified) *Source {
	return &Source{dir: dir, epoch: v.Manifest.Epoch, files: v.Files}
}

func (s *Source) file(p string) (File, error) {
	if name, ok := strings.CutPrefix(p, fileset.BundleDir+"/"); ok {
		if f, ok := s.files[name]; ok {
			return f, nil
		}
	}
	return File{}, fmt.Errorf("%s: not in the bundle of epoch %d: %w", p, s.epoch, fs.ErrNotExist)
}

// Read is fileset.Source.Read.
func (s *Source) Read(ctx context.Context, p string, limit int64, room readfile.Room) (fileset.File, error) {
	f, err := s.file(p)
	if err != nil {
		return fileset.File{}, err
	}
	out := fileset.File{Stamp: f.SHA256}
	if f.Size > limit {
		return out, fmt.Errorf("%s is %w: %d bytes, at most %d", p, readfile.ErrTooLarge, f.Size, limit)
	}
	_, text, err := readfile.All(ctx, filepath.Join(s.dir, BlobName(f.SHA256)), f.Size, room)
	if err != nil {
		return out, fmt.Errorf("%s: %w", p, err)
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != f.SHA256 {
		return out, fmt.Errorf("%s: its copy in %s has been altered", p, s.dir)
	}
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		clear(text)
		return fileset.File{}, fmt.Errorf("%s holds a private key, which whoever carries the bundle can read: name it as a file of each gateway, by an absolute path", p)
	}
	out.Text = text
	return out, nil
}

// Stamp is fileset.Source.Stamp.
func (s *Source) Stamp(p string) (string, error) {
	f, err := s.file(p)
	return f.SHA256, err
}

// Exists is fileset.Source.Exists.
func (s *Source) Exists(p string) bool {
	_, err := s.file(p)
	return err == nil
}

// Names is fileset.Source.Names.
func (s *Source) Names(dir string, limit int) []string {
	var names []string
	for name := range s.files {
		if p := fileset.BundleDir + "/" + name; filepath.Dir(p) == filepath.Clean(dir) {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names[:min(len(names), limit)]
}

// Fetch reads one file of a bundle with get, which reads what is below a directory or a URL.
func (f File) Fetch(ctx context.Context, name string, get func(ctx context.Context, name string, limit int64) ([]byte, error)) ([]byte, error) {
	text, err := get(ctx, BlobName(f.SHA256), f.Size)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, seal.Refuse(seal.Missing, "%s: there is no %s: %w", name, BlobName(f.SHA256), err)
	case errors.Is(err, readfile.ErrTooLarge):
		return nil, seal.Refuse(seal.Altered, "%s: %w", name, err)
	case err != nil:
		return nil, err
	}
	return text, f.Check(name, text)
}
