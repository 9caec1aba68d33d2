package fileset

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/sslgate/sslgate/internal/readfile"
)

// Disk is the file system, with the other places of this host (Place). Whose files may be read
// and changed by whom is a property of files there, so File.Mode comes from here alone.
type Disk struct{}

// Read is Source.Read; see readfile.All.
func (Disk) Read(ctx context.Context, path string, limit int64, room readfile.Room) (File, error) {
	if IsPlace(path) {
		return readPlace(ctx, path, limit, room)
	}
	if err := noBundle(path); err != nil {
		return File{}, err
	}
	info, text, err := readfile.All(ctx, path, limit, room)
	f := File{Text: text}
	if info != nil {
		f.Mode, f.Stamp = info.Mode(), stampOf(info)
	}
	return f, err
}

// Stamp has the size, the times and the identity of the file: one that was put in
// its place differs even if it has the same size and date.
func (Disk) Stamp(path string) (string, error) {
	if IsPlace(path) {
		return stampPlace(path)
	}
	if err := noBundle(path); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return stampOf(info), nil
}

// noBundle keeps a directory with the name of BundleDir from being taken for a bundle, whose
// files are signed.
func noBundle(path string) error {
	if strings.HasPrefix(path, BundleDir+"/") {
		return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return nil
}

func stampOf(info fs.FileInfo) string {
	var device, inode uint64
	var changed int64 // by chmod and chown too, and set by nobody
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		device, inode, changed = st.Dev, st.Ino, st.Ctim.Nano()
	}
	return fmt.Sprintf("%d %d %d %d %d", info.Size(), info.ModTime().UnixNano(), device, inode, changed)
}

// Exists is Source.Exists. A symbolic link that leads nowhere takes its name, too.
func (Disk) Exists(path string) bool {
	if IsPlace(path) {
		_, err := stampPlace(path)
		return err == nil
	}
	if noBundle(path) != nil {
		return false
	}
	_, err := os.Lstat(path)
	return err == nil
}

// Names is Source.Names.
func (Disk) Names(dir string, limit int) []string { return readfile.Names(dir, limit) }
