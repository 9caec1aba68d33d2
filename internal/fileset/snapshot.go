package fileset

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/readfile"
)

// MaxBytes is how much a configuration and the files that it names may have
// together: four times the largest file of revocation lists, as the copies of lists
// in the state directory.
const MaxBytes = 1 << 30

// ErrChanged says that a file has other bytes than it had when it was read first.
var ErrChanged = errors.New("changed while the configuration was read: read it once more")

// Snapshot is one reading of a configuration and the files that it names. Each
// file has the same bytes for all of its users, whatever happens to it meanwhile,
// and an error for one is the error for all. One goroutine uses it.
type Snapshot struct {
	src   Source
	most  int64 // bytes of all files
	total int64
	parts map[string]*part
}

// part is what was read under one path.
type part struct {
	file   File // without Text once nobody waits for it
	err    error
	limit  int64 // that err is of, where it says that the file is too large
	length int64
	sum    [sha256.Size]byte
	read   bool // length and sum are known

	expected int  // uses that have not begun
	open     int  // uses that have not ended
	secret   bool // the text is overwritten at the end of the last
	room     readfile.Room
	lent     int64 // bytes of room
}

// New begins a Snapshot of at most so many bytes; see MaxBytes.
func New(src Source, most int64) *Snapshot {
	return &Snapshot{src: src, most: most, parts: map[string]*part{}}
}

// Source is what the Snapshot reads.
func (s *Snapshot) Source() Source { return s.src }

// Expect says that a file will be used once. Its text is kept from the first use to
// the last that is expected. One that is used when nobody expects it any more is
// read again, and has to be the same then.
func (s *Snapshot) Expect(path string) { s.part(path).expected++ }

func (s *Snapshot) part(path string) *part {
	p := s.parts[path]
	if p == nil {
		p = &part{}
		s.parts[path] = p
	}
	return p
}

// Read begins a use of a file. It is Source.Read, but that the text is shared:
// nobody changes it. Without an error the caller ends the use with Done or
// DoneSecret. While further uses are expected, room lends the text's bytes.
func (s *Snapshot) Read(ctx context.Context, path string, limit int64, room readfile.Room) (File, error) {
	p := s.part(path)
	p.expected = max(p.expected-1, 0)
	if p.err != nil && (!errors.Is(p.err, readfile.ErrTooLarge) || limit <= p.limit) {
		return p.file, p.err
	}
	if p.file.Text == nil {
		if err := s.fill(ctx, p, path, limit, room); err != nil {
			return p.file, err
		}
	}
	if n := int64(len(p.file.Text)); n > limit {
		return File{Mode: p.file.Mode, Stamp: p.file.Stamp}, tooLarge(path, n, limit)
	}
	p.open++
	return p.file, nil
}

// fill reads a file from the source.
func (s *Snapshot) fill(ctx context.Context, p *part, path string, limit int64, room readfile.Room) error {
	left := s.most - s.total + p.length // what was counted before is not counted again
	f, err := s.src.Read(ctx, path, min(limit, left), room)
	if errors.Is(err, readfile.ErrTooLarge) && left < limit {
		err = s.full(path)
	}
	sum := sha256.Sum256(f.Text)
	if err == nil && p.read && sum != p.sum {
		err = fmt.Errorf("%s %w", path, ErrChanged)
	}
	if err == nil && p.expected > 0 && room != nil {
		if err = room.Take(int64(len(f.Text))); err == nil {
			p.room, p.lent = room, int64(len(f.Text))
		}
	}
	p.file, p.err, p.limit = f, err, limit
	if err != nil {
		clear(f.Text)
		p.file.Text = nil
		return err
	}
	if f.Text == nil {
		p.file.Text = []byte{}
	}
	s.total += int64(len(f.Text)) - p.length
	p.read, p.sum, p.length = true, sum, int64(len(f.Text))
	return nil
}

// full says that a file goes beyond the bound of all.
func (s *Snapshot) full(path string) error {
	largest, size := path, int64(0)
	for name, p := range s.parts {
		if p.length > size || p.length == size && name < largest {
			largest, size = name, p.length
		}
	}
	return fmt.Errorf("%s is %w: with it the configuration and the files that it names have more than %d bytes together; %d are read so far, and the largest is %s with %d",
		path, readfile.ErrTooLarge, s.most, s.total, largest, size)
}

// Done ends a use of a file that was read.
func (s *Snapshot) Done(path string) { s.done(path, false) }

// DoneSecret is Done for a file that may hold a key or a token.
func (s *Snapshot) DoneSecret(path string) { s.done(path, true) }

func (s *Snapshot) done(path string, secret bool) {
	p := s.part(path)
	p.secret = p.secret || secret
	if p.open--; p.open+p.expected <= 0 {
		p.drop()
	}
}

// drop forgets the text.
func (p *part) drop() {
	if p.secret {
		clear(p.file.Text)
	}
	p.file.Text = nil
	if p.room != nil {
		p.room.Give(p.lent)
		p.room = nil
	}
}

// Close forgets the texts of files of which further uses were expected that did not
// come, as after a mistake. The digest stays.
func (s *Snapshot) Close() {
	for _, p := range s.parts {
		p.drop()
	}
}

// Digest is the SHA-256, in hexadecimal, over what was read: path, length and
// SHA-256 of each file, in the order of the paths. Files that could not be read do not
// count. Paths below the directory of the configuration, whose path main is, count
// from there, so that it is the same wherever that directory is and however main is
// written; others count from the root.
func (s *Snapshot) Digest(main string) string {
	dir := filepath.Dir(absolute(main))
	type entry struct {
		name string
		*part
	}
	var all []entry
	for path, p := range s.parts {
		if p.read && p.err == nil {
			all = append(all, entry{canonical(dir, path), p})
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(strings.Compare(a.name, b.name), slices.Compare(a.sum[:], b.sum[:]))
	})
	// One file under two spellings of its path is one.
	all = slices.CompactFunc(all, func(a, b entry) bool { return a.name == b.name && a.sum == b.sum })
	h := sha256.New()
	number := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	for _, e := range all {
		h.Write(number(int64(len(e.name))))
		h.Write([]byte(e.name))
		h.Write(number(e.length))
		h.Write(e.sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}

// canonical is the name of a path in the digest.
func canonical(dir, path string) string {
	if IsPlace(path) {
		return path
	}
	path = absolute(path)
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
