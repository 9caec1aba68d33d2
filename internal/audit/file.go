package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/readfile"
)

// Rotate says when a file gives way to the next. The zero value: never.
type Rotate struct {
	// Size in bytes at which the file is renamed to FILE.1, FILE.1 to FILE.2
	// and so on; 0 means never.
	Size int64
	// Keep is how many renamed files stay.
	Keep int
}

// MaxKeep bounds Rotate.Keep: each rotation renames that many files.
const MaxKeep = 1000

// lookEvery is how often the name is compared with the open file, to notice
// that somebody moved it away.
const lookEvery = time.Second

// File is a Sink that appends to a file of mode 0600: records name people.
// A file that is removed or moved away is made anew; no record goes into a
// removed one. It does not sync: what was written survives the end of the
// process, not that of the host.
type File struct {
	path   string
	rotate Rotate
	f      *os.File // nil after a failed reopen
	size   int64    // of whole lines
	looked time.Time
}

var _ Sink = (*File)(nil)

// OpenFile opens or makes the file.
func OpenFile(path string, rotate Rotate) (*File, error) {
	s := &File{path: path, rotate: rotate}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *File) open() error {
	// Without O_NONBLOCK, a named pipe that nobody reads would be waited for.
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("open audit file: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open audit file: %w", err), f.Close())
	}
	s.f, s.size, s.looked = f, st.Size(), time.Now()
	if err := s.endLine(); err != nil {
		s.shut()
		return fmt.Errorf("end the last line of the audit file: %w", err)
	}
	return nil
}

// endLine ends a line that a crash has left half written, so that the next
// record does not go down with it.
func (s *File) endLine() error {
	if s.size == 0 {
		return nil
	}
	r, _, err := readfile.Open(s.path)
	if err != nil {
		return nil // a file we may append to but not read, or none of the plain ones
	}
	defer func() { _ = r.Close() }()
	var last [1]byte
	if _, err := r.ReadAt(last[:], s.size-1); err != nil || last[0] == '\n' {
		return nil // not a regular file
	}
	n, err := s.f.Write([]byte("\n"))
	s.size += int64(n)
	return err
}

// Write appends the line.
func (s *File) Write(line []byte) error {
	// Twice at most: a file that was removed while we wrote is made anew.
	for range 2 {
		if err := s.ready(len(line)); err != nil {
			return err
		}
		n, err := s.f.Write(line)
		if err != nil {
			s.takeBack(n)
			return fmt.Errorf("write audit file: %w", err)
		}
		s.size += int64(n)
		if !s.nameless() {
			return nil
		}
		s.shut()
	}
	return fmt.Errorf("write audit file: %s is removed again and again", s.path)
}

// WriteLines appends the lines in one write, where they all fit into the file.
func (s *File) WriteLines(lines [][]byte) (int, error) {
	all := slices.Concat(lines...)
	if s.rotate.Size <= 0 || s.size+int64(len(all)) <= s.rotate.Size {
		if err := s.Write(all); err != nil {
			return 0, err
		}
		return len(lines), nil
	}
	for i, line := range lines {
		if err := s.Write(line); err != nil {
			return i, err
		}
	}
	return len(lines), nil
}

// nameless says whether the open file was removed; false where that is not
// known. Not by Fd, which makes the writes to a pipe block a thread.
func (s *File) nameless() bool {
	raw, err := s.f.SyscallConn()
	if err != nil {
		return false
	}
	var st unix.Stat_t
	known := false
	err = raw.Control(func(fd uintptr) { known = unix.Fstat(int(fd), &st) == nil })
	return err == nil && known && st.Nlink == 0 && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// ready opens the file where it must be and rotates where it is time.
func (s *File) ready(more int) error {
	if s.f != nil && time.Since(s.looked) >= lookEvery {
		s.looked = time.Now()
		if !s.sameFile() {
			s.shut()
		}
	}
	if s.f == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if s.rotate.Size > 0 && s.size > 0 && s.size+int64(more) > s.rotate.Size {
		return s.turn()
	}
	return nil
}

func (s *File) sameFile() bool {
	named, err := os.Stat(s.path)
	if err != nil {
		return false
	}
	open, err := s.f.Stat()
	return err == nil && os.SameFile(named, open)
}

// takeBack removes the n bytes of a line that could not be written whole.
func (s *File) takeBack(n int) {
	if n > 0 && s.f.Truncate(s.size) != nil {
		// The next open ends the broken line.
		s.shut()
	}
}

func (s *File) shut() {
	_ = s.f.Close() // nothing is buffered in it
	s.f = nil
}

// turn renames FILE to FILE.1 and so on, and begins anew. The oldest goes.
func (s *File) turn() error {
	name := func(i int) string { return fmt.Sprintf("%s.%d", s.path, i) }
	if s.rotate.Keep < 1 {
		if err := os.Remove(s.path); err != nil {
			return fmt.Errorf("rotate audit file: %w", err)
		}
		s.shut()
		return s.open()
	}
	last := 1
	for last < s.rotate.Keep && exists(name(last)) {
		last++
	}
	for i := last; i > 1; i-- {
		if err := os.Rename(name(i-1), name(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate audit file: %w", err)
		}
	}
	if err := os.Rename(s.path, name(1)); err != nil {
		return fmt.Errorf("rotate audit file: %w", err)
	}
	s.shut()
	return s.open()
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// Reopen begins the file anew under its name.
func (s *File) Reopen() error {
	if s.f != nil {
		s.shut()
	}
	return s.open()
}

// Close closes the file.
func (s *File) Close() error {
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}

// String names the sink in messages.
func (s *File) String() string { return "file " + filepath.Clean(s.path) }

// stream is a Sink on a writer that is somebody else's.
type stream struct {
	w    io.Writer
	rest []byte // of a line that went out in part
}

// NewStream writes to w, standard output, and never closes it.
func NewStream(w io.Writer) Sink { return &stream{w: w} }

func (s *stream) Write(line []byte) error {
	if len(s.rest) > 0 {
		line = s.rest
	}
	n, err := s.w.Write(line)
	s.rest = nil
	if err != nil && n > 0 {
		s.rest = append([]byte(nil), line[n:]...)
	}
	return err
}

func (s *stream) Reopen() error { return nil }

func (s *stream) Close() error { return nil }
