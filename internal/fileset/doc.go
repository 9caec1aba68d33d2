// Package fileset is where a configuration and the files that it names are read
// from. A Source has files by path: Disk is the file system, Bytes is memory. A
// Snapshot is one reading of a Source: each file is read once, all of its users
// see the same bytes, and a digest says which bytes they were.
//
// Secrets: a Snapshot holds the text of a file from its first reading to its last
// use, no longer. The digest takes the SHA-256 of a text, not the text, so nothing
// has to be kept for it. Whoever reads a file that holds a key or a token says so at
// the end of its use (DoneSecret); the text is then overwritten with zeros.
package fileset

import (
	"context"
	"io/fs"

	"github.com/sslgate/sslgate/internal/readfile"
)

// Source has files by path. Its methods may be called by anyone at any time.
type Source interface {
	// Read reads a whole file of at most limit bytes; it stops at the end of ctx.
	// room is asked for what is read and has it back at the end; it may be nil. The
	// text is the caller's, who may overwrite it. Errors begin with the path, and
	// are fs.ErrNotExist, readfile.ErrNotRegular, readfile.ErrTooLarge or of room,
	// wrapped. With an error the File has the stamp of what was opened, if anything
	// was.
	Read(ctx context.Context, path string, limit int64, room readfile.Room) (File, error)
	// Stamp is a text that changes when the file does, without reading it. It is
	// never empty without an error.
	Stamp(path string) (string, error)
	// Exists says whether a name is taken, by whatever it may be.
	Exists(path string) bool
	// Names returns at most limit names of the files in a directory, for a hint
	// where one is missing. Errors yield none.
	Names(dir string, limit int) []string
}

// File is what was read of one.
type File struct {
	Text []byte
	// Mode says who else may read and change it (Linux's permission bits). 0 of a
	// file that is not in a file system: nobody but this process has it.
	Mode fs.FileMode
	// Stamp is what Source.Stamp said of the very file that was read; "" if it could
	// not be opened.
	Stamp string
}
