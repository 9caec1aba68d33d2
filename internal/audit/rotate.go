package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Rotation of a file by its size. Others may work in the same directory at the same time: an
// administrator, logrotate, a second gateway. So a name is only renamed or removed while it
// belongs to the file that is meant. A name that is no regular file stays, and its number is
// skipped. An impossible rotation stops no record: the file grows on, and Trouble says so.

// Rotate says when a file is rotated. The zero value means never.
type Rotate struct {
	// Size in bytes at which the file is renamed to FILE.1, FILE.1 to FILE.2
	// and so on; 0 means never.
	Size int64
	// Keep is how many renamed files stay.
	Keep int
	// Prune removes files with higher numbers, up to MaxKeep, from a time when more were
	// kept. Without Prune such files may belong to somebody else, and while there are any,
	// no file is removed.
	Prune bool
}

// MaxKeep bounds Rotate.Keep: each rotation renames that many files.
const MaxKeep = 1000

// limit is the size in bytes that the open file must not pass; 0: none. A
// pipe or a device has no size.
func (s *File) limit() int64 {
	if !s.plain || s.rotate.Size <= 0 {
		return 0
	}
	return s.rotate.Size
}

// Trouble is why the file is not rotated although that is due, or nil. Records are written
// all the same.
func (s *File) Trouble() error { return s.trouble }

// turn renames FILE to FILE.1 and so on, removes the oldest and begins a new FILE. Its error
// is that of the open; the error of a rotation is in Trouble.
func (s *File) turn() error {
	if s.trouble != nil && time.Since(s.tried) < lookEvery {
		return nil
	}
	s.trouble = nil
	err := s.moveAway()
	if err == nil {
		s.shut()
		return s.open()
	}
	s.trouble, s.tried = fmt.Errorf("rotate audit file: %w", err), time.Now()
	return nil // no record waits for a rotation: see Trouble
}

// moveAway frees the name for a new file. If the name belongs to another file already,
// somebody else has rotated, and there is nothing to do.
func (s *File) moveAway() error {
	path, err := s.real()
	if err != nil {
		return err
	}
	named, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	open, err := s.f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(named, open) {
		return nil
	}
	if s.rotate.Keep < 1 {
		return os.Remove(path)
	}
	free, err := makeRoom(path, s.rotate)
	if err != nil {
		return err
	}
	return move(path, free)
}

// real is the name of the file behind symbolic links. The links stay, and the rotated files
// lie in the directory that the link leads to.
func (s *File) real() (string, error) {
	path, err := filepath.EvalSymlinks(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.path, nil
	}
	return path, err
}

// makeRoom moves FILE.1 and the files after it up by one, as far as the first free number. If
// no number is free, the last file is replaced. It returns the name that is free then.
func makeRoom(path string, rotate Rotate) (string, error) {
	keep := rotate.Keep
	var names []string // of the files to move; the last name is free, or the oldest file
	free := false
	for i := 1; i <= keep && !free; i++ {
		name := numbered(path, i)
		st, err := os.Lstat(name)
		free = errors.Is(err, fs.ErrNotExist)
		if err != nil && !free {
			return "", err
		}
		// Directories and links are not ours.
		if free || st.Mode().IsRegular() {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("none of %s.1 to .%d is a file", path, keep)
	}
	if !free {
		if !rotate.Prune {
			if err := others(path, keep); err != nil {
				return "", err
			}
		}
		if err := os.Remove(names[len(names)-1]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	for i := len(names) - 1; i > 0; i-- {
		if err := move(names[i-1], names[i]); err != nil {
			return "", err
		}
	}
	return names[0], nil
}

// move renames a file, unless somebody has taken the new name meanwhile.
func move(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT): // the file is gone, so the name is free as wanted
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return os.Rename(from, to) // a file system without RENAME_NOREPLACE (NFS, some FUSE)
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

func numbered(path string, i int) string { return path + "." + strconv.Itoa(i) }

// prune removes files with numbers above Keep, from a time when more were kept.
func (s *File) prune() {
	if s.limit() == 0 || s.rotate.Keep < 1 || !s.rotate.Prune {
		return
	}
	path, err := s.real()
	if err != nil {
		return // the next rotation reports it
	}
	for _, i := range numbers(path) {
		if i > s.rotate.Keep {
			// The next rotation reports a failure too.
			_ = os.Remove(numbered(path, i))
		}
	}
}

// others returns an error if files beside FILE show that somebody else rotates it, so that
// FILE.1 to the last may not be ours: a number above keep, a compressed file (as by
// logrotate), or a directory that cannot be listed.
func others(path string, keep int) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("the oldest file may be somebody else's: %w", err)
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		packed := slices.Contains([]string{".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z"}, ext)
		name := e.Name()
		if packed {
			name = strings.TrimSuffix(name, ext)
		}
		if i, ok := numberOf(path, name); ok && e.Type().IsRegular() && (packed || i > keep) {
			return fmt.Errorf("%s is there: somebody else rotates the file too, and the oldest may be his. "+
				"Say `rotate: {size: 0}` and leave it to him, or choose a `keep` other than %d, or move that file away",
				filepath.Join(filepath.Dir(path), e.Name()), keep)
		}
	}
	return nil
}

// numberOf returns N of a name FILE.N; N is 1 or more.
func numberOf(path, name string) (int, bool) {
	end, ours := strings.CutPrefix(name, filepath.Base(path)+".")
	i, err := strconv.Atoi(end)
	return i, ours && err == nil && strconv.Itoa(i) == end && i >= 1
}

// numbers returns the numbers of the regular files FILE.1 to FILE.MaxKeep, in order; none if
// the directory cannot be listed.
func numbers(path string) []int {
	entries, _ := os.ReadDir(filepath.Dir(path)) // the entries that could be read
	var all []int
	for _, e := range entries {
		if i, ok := numberOf(path, e.Name()); ok && i <= MaxKeep && e.Type().IsRegular() {
			all = append(all, i)
		}
	}
	slices.Sort(all)
	return all
}

// Files returns the names of a log, the newest first: the file and its rotated files.
func Files(path string) []string {
	all := []string{path}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path
	}
	for _, i := range numbers(real) {
		all = append(all, numbered(real, i))
	}
	return all
}

// Dirs are the directories in which a File of that path makes, renames and
// removes files.
func Dirs(path string) []string {
	dirs := []string{filepath.Dir(path)}
	if real, err := filepath.EvalSymlinks(path); err == nil && filepath.Dir(real) != dirs[0] {
		dirs = append(dirs, filepath.Dir(real))
	}
	return dirs
}
