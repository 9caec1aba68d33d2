package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/times"
)

// source is one place with lists, and what is known of it. Once it is in use Checker.mu
// guards its fields. Only one goroutine at a time loads it (busy).
type source struct {
	authority *Authority
	counters  *counters
	location  string

	lists []*List
	err   error           // of the last load, nil if it was good
	stage map[*List]stage // what was logged of each list

	busy  bool
	again bool      // a file that lacked memory or was refused as older or not yet valid: read again when due
	due   time.Time // the next load
	fails int       // in a row
	file  string    // the stamp of the file that was read last; "" if it could not be opened
	tags  tags      // tags of the last fetch
}

// lost says that the source was read, or does not exist, and does not carry the lists in
// use. A server that cannot be reached says nothing about its lists.
func (s *source) lost() bool {
	return s.err != nil && !errors.Is(s.err, errUnreachable)
}

// same says whether o is the same source of the same authority, with the same CAs.
func (s *source) same(o *source) bool {
	return s.samePlace(o) &&
		slices.EqualFunc(s.authority.cas(), o.authority.cas(), func(a, b *x509.Certificate) bool { return a.Equal(b) })
}

// samePlace says whether o is the same place of the same authority, whichever CAs that
// had.
func (s *source) samePlace(o *source) bool {
	return s.authority.Name == o.authority.Name && s.location == o.location
}

// adopt takes over the lists that an earlier configuration had of the same place, if they
// are still trusted. It is for a place where nothing could be read.
func (s *source) adopt(o *source) {
	cas := s.authority.cas()
	for _, l := range o.lists {
		if slices.ContainsFunc(cas, l.IssuedBy) {
			s.lists = append(s.lists, l)
		}
	}
	s.stage = o.stage
}

// inherit takes over what an earlier configuration knew. Lists that the new one has read
// itself take precedence, unless order refuses them.
func (s *source) inherit(o *source, by order) {
	switch err := by.check(o.lists, s.lists, false); {
	case s.lists == nil:
		s.lists, s.err, s.file, s.again = o.lists, o.err, o.file, o.again
	case err != nil:
		s.lists, s.err, s.again = o.lists, err, !IsURL(s.location)
	}
	s.stage, s.due, s.fails, s.tags = o.stage, o.due, o.fails, o.tags
	if errors.Is(s.err, ErrOlder) || errors.Is(s.err, ErrNotYet) {
		s.due = by.now // the operator may have corrected it
	}
}

// recall compares the lists that were read at the start with those in force before it.
func (s *source) recall(o *source, by order) {
	switch err := by.check(o.lists, s.lists, false); {
	case s.lists == nil:
		s.lists = o.lists
	case err != nil:
		s.lists, s.err, s.again = o.lists, err, !IsURL(s.location)
		s.counters.failures.Add(1)
	}
}

// begin gives a new source its first lists: those handed in, those of its file, or the
// last good copy of what was fetched. Sources begin one after the other, so begin needs
// no slot; it borrows memory like any load.
func (c *Checker) begin(src *source) {
	if src.lists != nil {
		return
	}
	ctx, loan := c.o.Memory.Borrow(context.Background())
	defer loan.Return()
	switch {
	case IsURL(src.location):
		lists, t, err := c.restore(ctx, loan, src)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			src.counters.failures.Add(1)
			c.o.Log.Warn("the copy of a revocation list is of no use; it is fetched anew",
				zap.String("authority", src.authority.Name), zap.String("source", src.location), zap.Error(err))
		}
		src.lists, src.tags = lists, t
	default:
		lists, stamp, err := readFile(ctx, loan, src.authority.files(), src.location, c.o.MaxBytes, src.authority.cas())
		src.lists, src.file, src.err, src.again = lists, stamp, err, errors.Is(err, memory.ErrNoRoom)
		if err != nil {
			src.counters.failures.Add(1)
			c.complain(src, nil, err)
		}
	}
}

// complain logs that a source could not be loaded; lists are the lists that stay in use.
func (c *Checker) complain(src *source, lists []*List, err error) {
	known := "none"
	if len(lists) > 0 {
		known = "the last good one stays in use until " + times.Stamp(lists[0].NextUpdate)
	}
	c.o.Log.Warn("revocation list not taken", zap.String("authority", src.authority.Name),
		zap.String("source", src.location), zap.Error(err), zap.String("known", known))
}

// readFile reads and verifies a file of at most limit bytes, and returns its stamp. ctx
// and room must be of one loan.
func readFile(ctx context.Context, room *memory.Loan, from fileset.Source, path string, limit int64, cas []*x509.Certificate) ([]*List, string, error) {
	f, err := from.Read(ctx, path, limit, room)
	if err == nil {
		err = room.Take(int64(len(f.Text))) // Read has given back what it took
	}
	if err != nil {
		return nil, f.Stamp, unread(err)
	}
	lists, err := parseTaken(ctx, room, f.Text, cas)
	return lists, f.Stamp, unread(err)
}

// ReadFile reads and verifies the lists of a file of at most limit bytes (see ListBytes)
// once, for a Checker to use. ctx and room must be of one loan, which the caller returns;
// room may be nil. Nobody else may take from the loan meanwhile. Afterwards only what the
// lists keep is taken. So many files together need only the memory of the largest one and
// of all lists.
func ReadFile(ctx context.Context, room *memory.Loan, from *fileset.Snapshot, path string, limit int64, cas []*x509.Certificate) (Source, error) {
	f, err := from.Read(ctx, path, limit, room)
	if err != nil {
		return Source{Location: path, file: f.Stamp}, unread(err)
	}
	defer from.Done(path)
	before := room.Taken()
	var lists []*List
	if err = room.Take(int64(len(f.Text))); err == nil {
		lists, err = parseTaken(ctx, room, f.Text, cas)
	}
	room.Give(room.Taken() - before - kept(lists))
	return Source{Location: path, Lists: lists, file: f.Stamp}, unread(err)
}

// kept is about how many bytes lists hold.
func kept(lists []*List) int64 {
	const besides = 1 << 10 // names, scope and the like
	n := int64(0)
	for _, l := range lists {
		n += int64(len(l.revoked.flat)+4*len(l.revoked.index)) + besides
	}
	return n
}

// isNew says whether the file differs from the one that was read last.
func (s *source) isNew() bool {
	stamp, err := s.authority.files().Stamp(s.location)
	if err != nil {
		return s.err == nil // say once that it is gone
	}
	return stamp != s.file
}

// stage is how far a list is in its lifetime.
type stage uint8

const (
	fresh   stage = iota
	late          // two thirds of its lifetime are over
	urgent        // late, and less than a day is left
	expired       // or not valid yet
)

func (s stage) String() string {
	switch s {
	case fresh:
		return "fresh"
	case late, urgent:
		return "late"
	}
	return "expired"
}

func stageOf(l *List, now time.Time) stage {
	switch {
	case !l.Fresh(now):
		return expired
	case !l.Late(now):
		return fresh
	case times.Sub(l.NextUpdate, now) <= times.Day:
		return urgent
	}
	return late
}
