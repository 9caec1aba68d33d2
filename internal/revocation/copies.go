package revocation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/readfile"
)

// The lists in force survive a restart. The directory "lists" below the state directory
// has a copy of each list, whatever its source: NAME.crl in DER, and NAME.json for people
// and messages. A name is made of the authority, of the key that sameKey compares, and of
// the content. So a newer list is written before the older one is removed, and no crash
// can mix the two.
const copiesDir = "lists"

// Bounds of the copies. Lists in force are fewer and smaller, unless the configuration is
// made to exceed the bounds.
const (
	maxCopies     = 4096
	maxCopiesSize = 4 * MaxListBytes
	// copyAgain is how soon a failed write is tried again.
	copyAgain = time.Minute
	// oldTemp is the age at which a half-written file of a crash is removed.
	oldTemp = time.Hour
)

var copyPattern = regexp.MustCompile(`^([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{32})\.crl$`)

// hexOf is the first 64 bits of a SHA-256 over parts, in hex.
func hexOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// copyName is the name of the copy of an authority's list.
func copyName(authority string, l *List) string {
	return hexOf(authority) + "-" + hexOf(string(l.rawIssuer), string(l.spki), l.scope.key()) + "-" + hex.EncodeToString(l.sum[:16])
}

// keyOf is the part of a copy's name that a list shares with its successor.
func keyOf(name string) string { return name[:16+1+16] }

// aboutList is NAME.json.
type aboutList struct {
	Authority string `json:"authority"`
	Source    string `json:"source"`
	List      string `json:"list"`
}

// copies is what a Checker knows of the copies.
type copies struct {
	dir     string     // "": no copies are kept
	writing sync.Mutex // held while copies are written
	others  bool       // the copies are another process's; writing guards it

	mu      sync.Mutex
	known   map[string]bool // names that were found or written
	guarded map[string]bool // names of copies that could not be read at the start; these are not removed
	said    string          // the last failure that was logged
	changed bool            // the lists in force have changed since the last save
	again   time.Time       // when to try again what could not be written; zero: nothing failed
	lacking map[string]bool // names of copies for which the last save found no source
}

func newCopies(state string) *copies {
	c := &copies{known: map[string]bool{}, guarded: map[string]bool{}}
	if state != "" {
		c.dir = filepath.Join(state, copiesDir)
	}
	return c
}

func (c *copies) note(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[name] = true
}

func (c *copies) path(name string) string { return filepath.Join(c.dir, name+".crl") }

// of returns a function that returns the file with the copy of a list, and whether
// somebody has removed it.
func (c *copies) of(authority string) func(*List) (string, bool) {
	return func(l *List) (string, bool) {
		name := copyName(authority, l)
		c.mu.Lock()
		known := c.known[name]
		c.mu.Unlock()
		if !known {
			return "", false
		}
		_, err := os.Lstat(c.path(name))
		return c.path(name), errors.Is(err, fs.ErrNotExist)
	}
}

// orderOf is the order for an authority's lists, at the present time.
func (c *Checker) orderOf(authority string) order {
	return order{c.o.Now(), c.copies.of(authority)}
}

// recall reads the copies that an earlier process has left: the lists that were in force.
// It returns them as sources, for the places that are still configured. It also publishes
// all of them as the snapshot, where the next one finds lists that have vanished.
func (c *Checker) recall(authorities []Authority) []*source {
	if c.copies.dir == "" {
		return nil
	}
	s := &snapshot{authorities: map[string]*view{}}
	var places []*source
	for _, f := range c.listCopies() {
		i := slices.IndexFunc(authorities, func(a Authority) bool { return hexOf(a.Name) == f.authority })
		if i < 0 {
			continue // a copy of another configuration
		}
		a := &authorities[i]
		lists, about, err := c.readCopy(a, f)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, ErrIssuer):
			continue // its CA is not trusted any more
		case err != nil:
			c.copies.guarded[f.name] = true
			c.o.Log.Error("the copy of a revocation list that was in force cannot be read: whom it revokes may be let in; remove it if it is of no use",
				zap.String("authority", a.Name), zap.String("copy", f.path), zap.Error(err))
			continue
		}
		if s.authorities[a.Name] == nil {
			s.authorities[a.Name] = &view{Authority: a, lists: map[string][]*List{}, counters: &counters{}, taken: &taken{}}
		}
		v := s.authorities[a.Name]
		src := &source{authority: a, location: about.Source}
		if i := slices.IndexFunc(places, src.samePlace); i >= 0 {
			src = places[i]
		} else {
			places = append(places, src)
		}
		for _, l := range lists {
			if !slices.ContainsFunc(v.all, func(k keptList) bool { return k.sum == l.sum }) {
				v.all = append(v.all, keptList{l, about.Source})
			}
			src.lists = append(src.lists, l)
		}
	}
	c.data.Store(s)
	return places
}

// copyFile is one copy: of a list, or of what a URL has given (see state.go), in case the
// configuration does not name the URL any more.
type copyFile struct {
	name, path, authority string
	size                  int64
	changed               time.Time
	url                   bool
}

// listCopies returns the copies, sorted from the oldest to the newest.
func (c *Checker) listCopies() []copyFile {
	var all []copyFile
	for _, dir := range []string{c.o.State, c.copies.dir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // there is none yet
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			if strings.HasPrefix(e.Name(), tempPrefix) && time.Since(info.ModTime()) > oldTemp {
				_ = os.Remove(filepath.Join(dir, e.Name()))
				continue
			}
			name, ok := strings.CutSuffix(e.Name(), ".crl")
			if !ok {
				continue
			}
			f := copyFile{name: name, path: filepath.Join(dir, e.Name()), size: info.Size(), changed: info.ModTime()}
			if dir == c.copies.dir {
				m := copyPattern.FindStringSubmatch(e.Name())
				if m == nil {
					continue
				}
				f.authority = m[1]
				c.copies.note(name)
			} else {
				var about aboutCopy
				if !readAbout(context.Background(), f.path, &about) || about.Authority == "" {
					continue
				}
				f.url, f.authority = true, hexOf(about.Authority)
			}
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b copyFile) int { return a.changed.Compare(b.changed) })
	return all[max(0, len(all)-maxCopies):]
}

// readAbout reads the JSON file that belongs to a copy.
func readAbout(ctx context.Context, path string, about any) bool {
	_, text, err := readfile.All(ctx, strings.TrimSuffix(path, ".crl")+".json", 64<<10, nil)
	return err == nil && json.Unmarshal(text, about) == nil
}

// readCopy reads and verifies one copy: the directory proves no more than the network
// does.
func (c *Checker) readCopy(a *Authority, f copyFile) ([]*List, aboutList, error) {
	about := aboutList{Source: f.path}
	if f.url {
		var of aboutCopy
		if readAbout(context.Background(), f.path, &of) && of.URL != "" {
			about.Source = of.URL
		}
		if slices.ContainsFunc(a.Sources, func(s Source) bool { return s.Location == about.Source }) {
			return nil, about, fs.ErrNotExist // restore reads it
		}
	} else if readAbout(context.Background(), f.path, &about); about.Source == "" {
		about.Source = f.path
	}
	ctx, loan := c.o.Memory.Borrow(context.Background())
	defer loan.Return()
	_, data, err := readfile.All(ctx, f.path, c.o.MaxBytes, loan)
	if err == nil {
		err = loan.Take(int64(len(data))) // All has given back what it took
	}
	if err != nil {
		return nil, about, unread(err)
	}
	// Checked before parsing. A file put in the copy's place may be of a CA that is not
	// trusted; the resulting ErrIssuer would wrongly say that the CA of the list in force
	// is gone.
	if sum := sha256Sum(data); !f.url && !strings.HasSuffix(f.name, "-"+hex.EncodeToString(sum[:16])) {
		return nil, about, errOtherCopy
	}
	lists, err := parseTaken(ctx, loan, data, a.cas())
	if err == nil && !f.url && (len(lists) != 1 || copyName(a.Name, lists[0]) != f.name) {
		err = errOtherCopy
	}
	return lists, about, unread(err)
}

var errOtherCopy = fmt.Errorf("%w: it is not the list that its name says", ErrNotCRL)
