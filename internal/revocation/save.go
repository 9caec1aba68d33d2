package revocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/pemfile"
)

// saveAtEnd bounds the last save, when Run ends.
const saveAtEnd = 5 * time.Second

// saveDue says that the lists in force have changed, or that it is time to repeat a
// failed save.
func (c *copies) saveDue(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dir != "" && (c.changed || !c.again.IsZero() && !now.Before(c.again))
}

// mark records that the lists in force have changed.
func (c *copies) mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = true
}

// save brings the copies in line with the lists in force. It reads the lists again from
// their sources; if a source has another list by now, that list will be loaded and saved
// later. A failed write is logged as a warning and repeated.
func (c *Checker) save(ctx context.Context) {
	if c.copies.dir == "" || !c.copies.writing.TryLock() {
		return
	}
	defer c.copies.writing.Unlock()
	if c.copies.others {
		return
	}
	c.copies.mu.Lock()
	c.copies.changed, c.copies.again = false, time.Time{}
	c.copies.mu.Unlock()
	err := c.saveNow(ctx)
	c.copies.mu.Lock()
	defer c.copies.mu.Unlock()
	if err == nil {
		c.copies.said = ""
		return
	}
	if errors.Is(err, errLacking) { // tried once more before it is logged
		c.copies.again = c.o.Now().Add(copyAgain)
		return
	}
	if ctx.Err() != nil {
		c.copies.changed = true // it was stopped; Run saves again at its end
		return
	}
	c.copies.again = c.o.Now().Add(copyAgain)
	if text := err.Error(); text != c.copies.said {
		c.copies.said = text
		c.o.Log.Warn("revocation lists in force are not kept over a restart: an older one put in place meanwhile would be taken", zap.Error(err))
	}
}

// LeaveCopies says whether the copies are another process's by now: then this one neither
// writes nor removes any. It waits for a save under way.
func (c *Checker) LeaveCopies(others bool) {
	c.copies.writing.Lock()
	c.copies.others = others
	c.copies.writing.Unlock()
	if !others {
		c.copies.mark()
	}
}

// saving is one save.
type saving struct {
	c       *Checker
	want    map[string]inForce  // by the name of the copy
	missing map[string]inForce  // those of want without a copy yet
	there   map[string]copyFile // by name
	own     map[string]bool     // authorities of this configuration, by hexOf
}

// inForce is a list that must have a copy.
type inForce struct {
	keptList
	authority string
}

func (c *Checker) saveNow(ctx context.Context) error {
	s := &saving{c, map[string]inForce{}, map[string]inForce{}, map[string]copyFile{}, map[string]bool{}}
	for name, v := range c.data.Load().authorities {
		s.own[hexOf(name)] = true
		for _, l := range v.all {
			s.want[copyName(name, l.List)] = inForce{l, name}
		}
	}
	if err := os.MkdirAll(c.copies.dir, 0o700); err != nil {
		return fmt.Errorf("keep copies: %w", err)
	}
	for _, f := range c.listCopies() {
		if !f.url || !c.fetches(f.path) {
			s.there[f.name] = f
		}
	}
	for name, l := range s.want {
		if _, ok := s.there[name]; ok {
			continue
		}
		if path, removed := c.copies.of(l.authority)(l.List); path == "" || !removed {
			s.missing[name] = l // a copy that the operator has removed is not made again
		}
	}
	err := s.write(ctx)
	s.removeOld()
	if err == nil {
		err = s.lacks()
	}
	return err
}

// errLacking says that a save found no source to copy a list from, for the first time.
// The source may have another list, which is about to be loaded.
var errLacking = errors.New("no source carries it")

// lacks is the error for lists in force that cannot be copied any more: their source is
// gone, or has an older list by now.
func (s *saving) lacks() error {
	c := s.c.copies
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.lacking
	c.lacking = map[string]bool{}
	var again []string
	for name, l := range s.missing {
		c.lacking[name] = true
		if before[name] {
			again = append(again, fmt.Sprintf("%s, authority %q, %s", l.String(), l.authority, l.location))
		}
	}
	switch {
	case len(s.missing) == 0:
		return nil
	case len(again) == 0:
		return errLacking
	}
	slices.Sort(again)
	return fmt.Errorf("no source carries it any more, and there was no copy before: %s", strings.Join(again[:min(len(again), 4)], "; "))
}

// fetches says whether a copy is of a URL in the configuration.
func (c *Checker) fetches(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.sources, func(s *source) bool { return IsURL(s.location) && c.copyPath(s)+".crl" == path })
}

// write writes the missing copies, and deletes them from missing.
func (s *saving) write(ctx context.Context) error {
	type place struct{ authority, location string }
	places := map[place]bool{}
	for _, l := range s.missing {
		places[place{l.authority, l.location}] = true
	}
	var errs []error
	for p := range places {
		path, files := p.location, fileset.Source(fileset.Disk{})
		if v := s.c.data.Load().authorities[p.authority]; v != nil {
			files = v.files()
		}
		if IsURL(path) {
			files = fileset.Disk{} // the copy of what was fetched
			path = s.c.copyPath(&source{authority: &Authority{Name: p.authority}, location: p.location}) + ".crl"
		}
		errs = append(errs, s.from(ctx, files, path))
	}
	return errors.Join(errs...)
}

// from copies the missing lists that a file has.
func (s *saving) from(ctx context.Context, files fileset.Source, path string) error {
	ctx, loan := s.c.o.Memory.Borrow(ctx)
	defer loan.Return()
	f, err := files.Read(ctx, path, s.c.o.MaxBytes, loan)
	data := f.Text
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing can be copied from it any more
	}
	if err == nil {
		err = loan.Take(int64(len(data)) / 4 * 7) // includes the DER made of PEM
	}
	if err != nil {
		return fmt.Errorf("keep a copy: %w", err)
	}
	if isDER(data) {
		return s.one(data)
	}
	var failed error
	_ = pemfile.Each(data, func(b pemfile.Block) error { // ignore damage: the file has changed, so it is loaded again soon
		failed = s.one(b.Bytes)
		return failed
	})
	return failed
}

// one copies a list if it is missing.
func (s *saving) one(der []byte) error {
	sum := sha256Sum(der)
	for name, l := range s.missing {
		if l.sum != sum {
			continue
		}
		if err := s.put(name, l, der); err != nil {
			return err
		}
		delete(s.missing, name)
	}
	return nil
}

// put writes a copy, within the bounds of all copies.
func (s *saving) put(name string, l inForce, der []byte) error {
	if err := s.makeRoom(int64(len(der))); err != nil {
		return err
	}
	about, err := json.Marshal(aboutList{l.authority, l.location, l.String()})
	if err != nil {
		return fmt.Errorf("keep a copy: %w", err)
	}
	path := s.c.copies.path(name)
	if err := errors.Join(replaceFile(filepath.Join(s.c.copies.dir, name+".json"), append(about, '\n')), replaceFile(path, der)); err != nil {
		return err
	}
	s.there[name] = copyFile{name: name, path: path, authority: hexOf(l.authority), size: int64(len(der)), changed: time.Now()}
	s.c.copies.note(name)
	return nil
}

// makeRoom keeps the copies within their bounds. It removes copies of authorities that
// are not in this configuration, the oldest first.
func (s *saving) makeRoom(size int64) error {
	for {
		total, oldest := size, copyFile{}
		for _, f := range s.there {
			total += f.size
			if !s.own[f.authority] && (oldest.name == "" || f.changed.Before(oldest.changed)) {
				oldest = f
			}
		}
		switch {
		case total <= maxCopiesSize && len(s.there) < maxCopies:
			return nil
		case oldest.name == "":
			return fmt.Errorf("the copies in %s would be more than %d, or have more than %d bytes", s.c.copies.dir, maxCopies, int64(maxCopiesSize))
		}
		s.remove(oldest)
	}
}

// removeOld removes the copies of lists of this configuration's authorities that are no
// longer in force. A copy stays until its successor is written.
func (s *saving) removeOld() {
	waits := map[string]bool{}
	for name := range s.missing {
		waits[keyOf(name)] = true
	}
	for name, f := range s.there {
		_, wanted := s.want[name]
		switch {
		case wanted, !s.own[f.authority], s.c.copies.guarded[name]:
		case f.url && len(waits) > 0, !f.url && waits[keyOf(name)]:
		default:
			s.remove(f)
		}
	}
}

func (s *saving) remove(f copyFile) {
	_ = os.Remove(f.path)
	_ = os.Remove(strings.TrimSuffix(f.path, ".crl") + ".json")
	delete(s.there, f.name)
	s.c.copies.mu.Lock()
	defer s.c.copies.mu.Unlock()
	delete(s.c.copies.known, f.name)
}
