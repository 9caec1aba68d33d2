package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/readfile"
)

// maxPEM is the size of a certificate or key file in bytes; a bundle of all
// public roots has about 250 KiB.
const maxPEM = 4 << 20

// readPEM reads a file, with a hint where it is missing.
func readPEM(in *loading, path string) (os.FileInfo, []byte, error) {
	info, text, err := in.read(path, maxPEM, pemCost)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w%s", err, nearFile(path))
	}
	return info, text, err
}

// missingNear suggests another file where err says that this one is missing.
func missingNear(err error, path string) string {
	if !errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return nearFile(path)
}

// nearFile suggests another file of the same directory.
func nearFile(path string) string {
	dir, base := filepath.Split(path)
	return fielderr.Suggest(base, readfile.Names(filepath.Clean(dir), 1000))
}
