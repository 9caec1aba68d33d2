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

// lookEvery is how often the file's name is compared with the open file, to notice that
// somebody moved the file away, and how often a failed rotation is tried again.
const lookEvery = time.Second

// File is a Sink that appends to a file of mode 0600, because records name people.
// A file that was removed or moved away is created again; no record goes into a removed
// one. Others may truncate it (logrotate's copytruncate). File does not sync: what was
// written survives the end of the process, but not a crash of the host.
type File struct {
	path   string
	rotate Rotate
	f      *os.File // nil after a failed reopen
	size   int64    // at the last check, whole lines only
	plain  bool     // f is a regular file
	looked time.Time

	tried   time.Time // when a rotation last failed
	trouble error     // why; nil after a success
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
	// Without O_NONBLOCK, the open of a named pipe would wait for a reader.
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("open audit file: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open audit file: %w", err), f.Close())
	}
	s.trouble = nil
	s.f, s.size, s.plain, s.looked = f, st.Size(), st.Mode().IsRegular(), time.Now()
	if err := s.endLine(st); err != nil {
		s.shut()
		return fmt.Errorf("end the last line of the audit file: %w", err)
	}
	s.prune()
	return nil
}

// endLine ends a line that a crash has left half written, so that the next record is not
// appended to it and lost.
func (s *File) endLine(open fs.FileInfo) error {
	if s.size == 0 {
		return nil
	}
	r, named, err := readfile.Open(s.path)
	if err != nil {
		return nil // the file may be write-only for us, or no regular file
	}
	defer func() { _ = r.Close() }()
	if !os.SameFile(named, open) {
		return nil // moved away since; ready notices that
	}
	var last [1]byte
	if _, err := r.ReadAt(last[:], s.size-1); err != nil || last[0] == '\n' {
		return nil // truncated by somebody meanwhile, or complete
	}
	n, err := s.f.Write([]byte("\n"))
	s.size += int64(n)
	return err
}

// Write appends the line.
func (s *File) Write(line []byte) error {
	_, err := s.WriteLines([][]byte{line})
	return err
}

// WriteLines appends the lines with one write for each file that they go into.
func (s *File) WriteLines(lines [][]byte) (int, error) {
	done := 0
	for done < len(lines) {
		n, err := s.some(lines[done:])
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// some appends the first of the lines and as many more as fit into the same file.
func (s *File) some(lines [][]byte) (int, error) {
	// Twice at most: a file that was removed during the write is created again.
	for range 2 {
		if err := s.ready(len(lines[0])); err != nil {
			return 0, err
		}
		fits, size := 1, s.size+int64(len(lines[0]))
		for fits < len(lines) && (s.limit() == 0 || size+int64(len(lines[fits])) <= s.limit()) {
			size += int64(len(lines[fits]))
			fits++
		}
		n, err := s.f.Write(slices.Concat(lines[:fits]...))
		if err != nil {
			s.takeBack(n)
			return 0, fmt.Errorf("write audit file: %w", err)
		}
		s.size += int64(n)
		if st, known := s.stat(); !known || !removed(st) {
			return fits, nil
		}
		s.shut()
	}
	return 0, fmt.Errorf("write audit file: %s is removed again and again", s.path)
}

// stat returns the status of the open file itself, whatever its name leads to now. It does
// not use Fd, after which a write to a pipe would block a thread.
func (s *File) stat() (st unix.Stat_t, known bool) {
	raw, err := s.f.SyscallConn()
	if err != nil {
		return st, false
	}
	err = raw.Control(func(fd uintptr) { known = unix.Fstat(int(fd), &st) == nil })
	return st, known && err == nil
}

func removed(st unix.Stat_t) bool {
	return st.Nlink == 0 && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// ready opens the file if necessary, and rotates it when that is due.
func (s *File) ready(more int) error {
	if s.f != nil {
		st, known := s.stat()
		switch {
		case known && removed(st):
			s.shut()
		case known && s.plain:
			s.size = st.Size // somebody may have cut it (copytruncate)
		}
	}
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
	if s.limit() == 0 || s.size == 0 || s.size+int64(more) <= s.limit() {
		s.trouble = nil
		return nil
	}
	return s.turn()
}

func (s *File) sameFile() bool {
	named, err := os.Stat(s.path)
	if err != nil {
		return false
	}
	open, err := s.f.Stat()
	return err == nil && os.SameFile(named, open)
}

// takeBack removes the n bytes of a line that could not be written completely. It does so
// only if they are the end of a file with the expected size: if the file was truncated
// meanwhile, Truncate to the old size would fill it with zeros.
func (s *File) takeBack(n int) {
	if n == 0 {
		return
	}
	st, known := s.stat()
	if !known || st.Size != s.size+int64(n) || s.f.Truncate(s.size) != nil {
		// The next open ends the broken line.
		s.shut()
	}
}

func (s *File) shut() {
	_ = s.f.Close() // nothing is buffered in it
	s.f = nil
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
