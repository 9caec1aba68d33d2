package fileset

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sslgate/sslgate/internal/readfile"
)

// BundleDir is the directory of what a fleet's bundle holds. It is on no disk: in messages it
// says where a file is from.
const BundleDir = "fleet:"

// Overlay has the files of a bundle below BundleDir, and those of the host under their absolute
// paths, its environment variables and its credentials. A relative path is an error: it would be of a directory that nobody has named.
type Overlay struct{ Bundle Source }

func (o Overlay) of(path string) (Source, error) {
	switch {
	case strings.HasPrefix(path, BundleDir+"/"):
		return o.Bundle, nil
	case filepath.IsAbs(path), IsPlace(path):
		return Disk{}, nil
	}
	return nil, fmt.Errorf("%s: leads out of the bundle: name a file of the gateway by its absolute path", path)
}

// Read is Source.Read.
func (o Overlay) Read(ctx context.Context, path string, limit int64, room readfile.Room) (File, error) {
	src, err := o.of(path)
	if err != nil {
		return File{}, err
	}
	return src.Read(ctx, path, limit, room)
}

// Stamp is Source.Stamp.
func (o Overlay) Stamp(path string) (string, error) {
	src, err := o.of(path)
	if err != nil {
		return "", err
	}
	return src.Stamp(path)
}

// Exists is Source.Exists.
func (o Overlay) Exists(path string) bool {
	src, err := o.of(path)
	return err == nil && src.Exists(path)
}

// Names is Source.Names.
func (o Overlay) Names(dir string, limit int) []string {
	src, err := o.of(dir + "/")
	if err != nil {
		return nil
	}
	return src.Names(dir, limit)
}
