package revocation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/writefile"
)

// The state directory has two files for each URL of each authority: NAME.crl as fetched,
// and NAME.json about it. NAME is 32 hex digits of a SHA-256 over authority and URL.

// aboutCopy is NAME.json. The digest ties it to NAME.crl. Without it, after a crash
// between the two writes, the tags would be of another copy, and the server's "not
// modified" would be applied to the wrong one.
type aboutCopy struct {
	Authority string `json:"authority"`
	URL       string `json:"url"`
	SHA256    string `json:"sha256"`
	tags
}

func (c *Checker) copyPath(src *source) string {
	h := sha256.Sum256([]byte(src.authority.Name + "\x00" + src.location))
	return filepath.Join(c.o.State, hex.EncodeToString(h[:16]))
}

// restore reads the last good copy and verifies it again: the directory proves no more
// than the network does.
func (c *Checker) restore(ctx context.Context, room *memory.Loan, src *source) ([]*List, tags, error) {
	if c.o.State == "" {
		return nil, tags{}, fs.ErrNotExist
	}
	_, data, err := readfile.All(ctx, c.copyPath(src)+".crl", c.o.MaxBytes, room)
	if err != nil {
		return nil, tags{}, err
	}
	if err := room.Take(int64(len(data))); err != nil {
		return nil, tags{}, err
	}
	lists, err := parseTaken(ctx, room, data, src.authority.cas())
	if err != nil {
		return nil, tags{}, err
	}
	var about aboutCopy
	if readAbout(ctx, c.copyPath(src)+".crl", &about) && about.SHA256 == hexSum(data) {
		return lists, about.tags, nil
	}
	return lists, tags{}, nil // fetched whole the next time
}

func hexSum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

// keep writes the copy of what was fetched.
func (c *Checker) keep(src *source, data []byte, t tags) error {
	if c.o.State == "" {
		return nil
	}
	about, err := json.Marshal(aboutCopy{Authority: src.authority.Name, URL: src.location, SHA256: hexSum(data), tags: t})
	if err != nil {
		return err
	}
	return errors.Join(replaceFile(c.copyPath(src)+".crl", data), replaceFile(c.copyPath(src)+".json", append(about, '\n')))
}

const tempPrefix = writefile.TempPrefix

// replaceFile is writefile.Replace for a copy.
func replaceFile(path string, data []byte) error {
	if err := writefile.Replace(path, data, 0o600); err != nil {
		return fmt.Errorf("keep a copy: %w", err)
	}
	return nil
}
