package fileset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/sslgate/sslgate/internal/readfile"
)

// Bytes are files in memory, by path. Nobody changes them once they are in use.
// Whoever made them overwrites the secrets among them when nobody reads them any more.
type Bytes map[string][]byte

// Read is Source.Read. The text is a copy.
func (b Bytes) Read(ctx context.Context, path string, limit int64, room readfile.Room) (File, error) {
	text, ok := b[path]
	if !ok {
		return File{}, missing(path)
	}
	f := File{Stamp: stampOfText(text)}
	if int64(len(text)) > limit {
		return f, tooLarge(path, int64(len(text)), limit)
	}
	var err error
	f.Text, err = readfile.From(ctx, bytes.NewReader(text), limit, room)
	return f, err
}

// Stamp is Source.Stamp.
func (b Bytes) Stamp(path string) (string, error) {
	text, ok := b[path]
	if !ok {
		return "", missing(path)
	}
	return stampOfText(text), nil
}

// Exists is Source.Exists.
func (b Bytes) Exists(path string) bool {
	_, ok := b[path]
	return ok
}

// Names is Source.Names.
func (b Bytes) Names(dir string, limit int) []string {
	var names []string
	for path := range b {
		if filepath.Dir(path) == filepath.Clean(dir) {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names[:min(len(names), limit)]
}

func stampOfText(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// missing says of a path what the file system would.
func missing(path string) error {
	return fmt.Errorf("%s: %w", path, syscall.ENOENT)
}

// tooLarge says of a file what package readfile would.
func tooLarge(path string, size, limit int64) error {
	return fmt.Errorf("%s is %w: %d bytes, at most %d", path, readfile.ErrTooLarge, size, limit)
}
