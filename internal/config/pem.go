package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/pemfile"
)

// maxPEM is the size of a certificate or key file in bytes; a bundle of all
// public roots has about 250 KiB.
const maxPEM = 4 << 20

// readPEM reads a file, with a hint where it is missing. Its caller ends the use of
// the text, as that of read.
func (in *loading) readPEM(path string) (fileset.File, error) {
	return in.readNear(path, maxPEM, pemCost)
}

// readNear is read with a hint where the file is missing.
func (in *loading) readNear(path string, limit, each int64) (fileset.File, error) {
	f, err := in.read(path, limit, each)
	if errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("%w%s", err, nearFile(in.files.Source(), path))
	}
	return f, err
}

// nearFile suggests another file of the same directory.
func nearFile(src fileset.Source, path string) string {
	dir, base := filepath.Split(path)
	return fielderr.Suggest(base, src.Names(filepath.Clean(dir), 1000))
}

// named puts names into the commands that an error suggests.
func (b *builder) named(err error, file string) error {
	return pemfile.NamedBeside(err, file, b.file.in.files.Source().Exists)
}
