package member

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/writefile"
)

// lead takes the lock of the directory if nobody has it. now says that this process has it since
// this call: what it knew may be old. The error is that the directory cannot be locked at all.
func (s *state) lead() (leads, now bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.readOnly || s.yielded:
		return false, false, nil
	case s.lock != nil:
		return true, false, nil
	}
	lock, err := readfile.Lock(s.dir)
	switch {
	case errors.Is(err, readfile.ErrLocked):
		return false, false, nil
	case errors.Is(err, readfile.ErrNoLocks): // some network file systems
		s.lock = io.NopCloser(nil)
		return true, true, err
	case err != nil:
		return false, false, err
	}
	s.lock = lock
	s.sweepHalves()
	return true, true, nil
}

// halfAfter is how old a file that is half written must be, so that nobody writes it any more.
const halfAfter = time.Hour

// sweepHalves removes what a crash has left half written. Nothing reads it, so it is no error if it
// stays.
func (s *state) sweepHalves() {
	for _, dir := range []string{s.dir, s.path(blobsDir)} {
		halves, err := filepath.Glob(filepath.Join(dir, writefile.TempPrefix+"*"))
		if err != nil {
			continue
		}
		for _, name := range halves {
			if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > halfAfter {
				_ = os.Remove(name)
			}
		}
	}
}

// leads says whether this process has the lock.
func (s *state) leads() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lock != nil
}

// yield gives the lock back, where this process has it. A write that has begun ends before that.
// With stay it is not taken again until it is called without.
func (s *state) yield(stay bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.yielded = stay
	if s.lock != nil {
		_ = s.lock.Close() // read only: nothing to lose
		s.lock = nil
	}
}

// comeBack ends yield.
func (s *state) comeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.yielded = false
}

// hold keeps the files of a bundle until the result is closed or the process ends: a shared lock
// (flock(2)) of the file with its envelope, which sweep asks for. The file is made if it is not
// there and a text is given.
func (s *state) hold(sum string, text []byte) (*os.File, error) {
	name := s.path(fmt.Sprintf(goodFile, sum))
	for range 100 { // somebody sweeps at the moment
		f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) && text != nil && !s.readOnly {
			// Its name says what is in it, so whoever makes it makes the same.
			if err := writefile.Create(name, text, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, seal.Refuse(seal.StateUnwritten, "%w", err)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if locked := unix.Flock(int(f.Fd()), unix.LOCK_SH) == nil; !locked {
			return f, nil // no locks here: then sweep, which cannot have one either, removes nothing
		}
		is, err := f.Stat()
		if named, errNamed := os.Stat(name); err == nil && errNamed == nil && os.SameFile(is, named) {
			return f, nil
		}
		_ = f.Close() // it was swept before it was locked
	}
	return nil, fmt.Errorf("%s comes and goes", name)
}

// sweep removes the files of bundles that are neither this one nor held by a process.
func (s *state) sweep(keep *bundle.Verified) error {
	wanted := map[string]bool{}
	for _, f := range keep.Files {
		wanted[f.SHA256] = true
	}
	names, err := filepath.Glob(s.path(goodPattern))
	for _, name := range names {
		if filepath.Base(name) == fmt.Sprintf(goodFile, keep.Sum) {
			continue
		}
		err = errors.Join(err, s.sweepOne(name, wanted))
	}
	if err != nil {
		return err // it is not known what is wanted
	}
	entries, err := os.ReadDir(s.path(blobsDir))
	for _, e := range entries {
		if !wanted[e.Name()] {
			err = errors.Join(err, os.Remove(s.path(bundle.BlobName(e.Name()))))
		}
	}
	return err
}

// sweepOne removes a bundle's envelope if no process holds it; else its files are wanted.
func (s *state) sweepOne(name string, wanted map[string]bool) error {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	if free := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil; free {
		return os.Remove(name)
	}
	text, err := s.read(filepath.Base(name), seal.MaxEnvelope)
	if err != nil {
		return err
	}
	e, err := seal.ParseEnvelope(text)
	if err != nil {
		return err
	}
	m, err := bundle.Parse(e.Unverified()) // it was verified before it was written
	if err != nil {
		return err
	}
	for _, files := range m.Sites {
		for _, f := range files {
			wanted[f.SHA256] = true
		}
	}
	for _, f := range m.Files {
		wanted[f.SHA256] = true
	}
	return nil
}
