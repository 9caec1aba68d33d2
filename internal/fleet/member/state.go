package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/writefile"
)

// The files of the state directory. Each is replaced as a whole and is on disk, by fsync, before
// what it says counts. What is in it is this gateway's own word, so the directory belongs to it
// alone (mode 0700). During an upgrade two processes of one gateway have it: the one that holds
// its lock writes, and the other one reads.
const (
	seenFile = "seen.json" // bundle.Seen
	rootFile = "root.json" // the newest root that was taken
	// pinnedFile is fleet.root as it was at the last start.
	pinnedFile = "pinned.json"
	// good-SHA256.json is a bundle in its envelope: the one in force if seen.json has the same
	// SHA-256, else one that another process of the gateway uses (hold).
	goodFile    = "good-%s.json"
	goodPattern = "good-*.json"
	blobsDir    = "blobs"
	contactFile = "contact"      // when the source has answered last, with Options.RefuseAfter
	pendingFile = "pending.json" // one that only a restart can put in force
)

// state is the state directory.
type state struct {
	dir      string
	readOnly bool

	mu      sync.Mutex
	lock    io.Closer // nil: another process writes
	yielded bool      // this process leaves the lock to another
}

func openState(dir string, readOnly bool) (*state, error) {
	s := &state{dir: dir, readOnly: readOnly}
	if readOnly {
		return s, nil
	}
	if err := os.MkdirAll(s.path(blobsDir), 0o700); err != nil {
		return nil, err
	}
	for _, d := range []string{dir, s.path(blobsDir)} {
		if err := ownAlone(d); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ownAlone says whether nobody else may write a directory.
func ownAlone(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	case ok && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, and this process runs as user %d: whoever owns it could say what was seen", dir, st.Uid, os.Geteuid())
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s may be written by others (mode %04o): chmod go-w %[1]s", dir, info.Mode().Perm())
	}
	return nil
}

func (s *state) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// read returns a file; nil if it is not there.
func (s *state) read(name string, limit int64) ([]byte, error) {
	_, text, err := readfile.All(context.Background(), s.path(name), limit, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// write replaces a file. Only the process that has the lock does.
func (s *state) write(name string, text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return seal.Refuse(seal.StateUnwritten, "another process writes %s", s.dir)
	}
	if err := writefile.Replace(s.path(name), text, 0o600); err != nil {
		return seal.Refuse(seal.StateUnwritten, "%w", err)
	}
	return nil
}

func (s *state) remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return seal.Refuse(seal.StateUnwritten, "another process writes %s", s.dir)
	}
	if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return seal.Refuse(seal.StateUnwritten, "%w", err)
	}
	return writefile.SyncDir(s.dir)
}

// seen reads what was seen. A damaged file is an error, never "nothing": or whoever damages it
// could replay everything.
func (s *state) seen() (bundle.Seen, error) {
	var seen bundle.Seen
	text, err := s.read(seenFile, 64<<10)
	if err != nil || text == nil {
		return seen, err
	}
	body := []byte(strings.TrimSuffix(string(text), "\n"))
	if err := seal.ParseCanonical(body, &seen); err != nil {
		if seen, errOld := bundle.ParseOldSeen(body); errOld == nil {
			return seen, nil
		}
		return seen, fmt.Errorf("%s is damaged, so it is not known which bundles are old: %w", s.path(seenFile), err)
	}
	return seen, nil
}

// begin reads what was seen; in a new directory it writes down that nothing was. Where it is gone
// from a directory that was used, everything could be replayed: that is an error.
func (s *state) begin(readOnly bool) (bundle.Seen, error) {
	if _, err := os.Lstat(s.path(seenFile)); !errors.Is(err, fs.ErrNotExist) {
		return s.seen()
	}
	for _, pattern := range []string{rootFile, pendingFile, bundle.RevokedName, goodPattern, blobsDir + "/*"} {
		if used, err := filepath.Glob(s.path(pattern)); err != nil || len(used) > 0 {
			return bundle.Seen{}, fmt.Errorf("%s is gone, and %q are there: it is not known which bundles are old. Put it back, or begin with an empty directory", s.path(seenFile), used)
		}
	}
	if readOnly {
		return bundle.Seen{}, nil
	}
	return bundle.Seen{}, s.setSeen(bundle.Seen{})
}

// setSeen writes down what was seen. It lowers nothing that was written before, even by another
// process on a file system without locks; a newer root alone does, which says so.
func (s *state) setSeen(seen bundle.Seen) error {
	now, err := s.seen()
	if err != nil {
		return seal.Refuse(seal.StateUnwritten, "%w", err)
	}
	if now.Root > seen.Root || now.Root == seen.Root && now.Epoch > seen.Epoch {
		return seal.Refuse(seal.StateUnwritten, "another process has seen epoch %d, this one %d", now.Epoch, seen.Epoch)
	}
	if now.Root == seen.Root && now.Epoch == seen.Epoch && now.Back.Epoch != 0 && (seen.Back.Epoch == 0 || seen.Back.Epoch > now.Back.Epoch) {
		return seal.Refuse(seal.StateUnwritten, "another process has gone back to epoch %d", now.Back.Epoch)
	}
	text, err := seal.Canonical(seen)
	if err != nil {
		return err
	}
	return s.write(seenFile, append(text, '\n'))
}

// root is the root to believe: the pinned one, or the newest that followed it.
func (s *state) root(pinned []byte, readOnly bool) (*seal.Root, error) {
	root, err := seal.Pinned(pinned)
	if err != nil {
		return nil, err
	}
	text, err := s.read(rootFile, seal.MaxEnvelope)
	if err != nil {
		return nil, err
	}
	believed := root
	if text != nil {
		kept, err := seal.Pinned(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", s.path(rootFile), err)
		case kept.Fleet != root.Fleet:
			return nil, fmt.Errorf("%s is of fleet %s, and fleet.root of %s: give the new fleet another state directory", s.path(rootFile), kept.Fleet, root.Fleet)
		case kept.Version > root.Version:
			believed = kept
		}
	}
	was, err := s.read(pinnedFile, seal.MaxEnvelope)
	if err != nil || bytes.Equal(bytes.TrimSpace(was), bytes.TrimSpace(pinned)) {
		return believed, err
	}
	// Another root was handed over by hand since. A newer one replaces what was kept. One that is
	// older must lead to it, else it begins another fleet with the same name.
	if _, err := root.Next(text); was != nil && believed != root && err != nil {
		return nil, fmt.Errorf("fleet.root was replaced, and %s (version %d) does not follow from it: %w. Hand over a newer one, or begin with an empty fleet.state", s.path(rootFile), believed.Version, err)
	}
	if readOnly {
		return believed, nil
	}
	return believed, s.write(pinnedFile, pinned)
}

// setGood makes a bundle that is held the one to begin with.
func (s *state) setGood(sum string, seen bundle.Seen) error {
	seen.Good = sum
	return s.setSeen(seen)
}

// has says whether a file of a bundle is there, as the manifest names it.
func (s *state) has(name string, f bundle.File) bool {
	text, err := s.read(bundle.BlobName(f.SHA256), f.Size)
	return err == nil && text != nil && f.Check(name, text) == nil
}
