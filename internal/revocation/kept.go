package revocation

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// missing is the state of a list that is in force although no source carries it any more.
const missing = "missing"

// errVanished is the error of such a list.
var errVanished = errors.New("no source carries this list any more; put it back, or take its CA out of the authority")

// keptList is a list that was in force and that no source carries any more. It stays in
// force: a file that lost a list, or a CA's list exchanged for another's, must not let a
// revoked client in again.
type keptList struct {
	*List
	location string // the source that carried it last
}

// maxKept bounds the lists kept of one authority; only a CA that changes the names of its
// shards makes more of them vanish. Those that end first are dropped.
const maxKept = 2 * maxLists

// keepLocked returns the lists of an authority that are in force now, according to
// before, and that none of its sources carries after this change. A list is dropped when
// a newer one replaces it, or when its CA is not trusted any more. carried are the lists
// of each source.
func (c *Checker) keepLocked(a *Authority, before *snapshot, carried [][]*List) []keptList {
	if before == nil || before.authorities[a.Name] == nil {
		return nil
	}
	// An authority without any source is configured to have no lists.
	if a.Mode == Off || len(a.Sources) == 0 {
		c.sayDropped(a, before.authorities[a.Name].all)
		return nil
	}
	old, by := before.authorities[a.Name], c.orderOf(a.Name)
	var kept []keptList
	for _, known := range old.all {
		trusted := false
		for _, ca := range a.cas() {
			trusted = trusted || known.IssuedBy(ca)
		}
		if !trusted || slices.ContainsFunc(carried, func(now []*List) bool { return by.check([]*List{known.List}, now, true) == nil }) {
			continue
		}
		if !slices.ContainsFunc(kept, func(k keptList) bool { return k.sum == known.sum }) {
			kept = append(kept, known)
		}
	}
	if len(kept) > maxKept {
		slices.SortStableFunc(kept, func(a, b keptList) int { return b.NextUpdate.Compare(a.NextUpdate) })
		kept = kept[:maxKept]
	}
	return kept
}

// sayKept logs once which lists have vanished and which are there again.
func (c *Checker) sayKept(name string, before, now []keptList) {
	has := func(all []keptList, l keptList) bool {
		return slices.ContainsFunc(all, func(k keptList) bool { return k.sum == l.sum })
	}
	fields := func(l keptList) []zap.Field {
		return []zap.Field{zap.String("authority", name), zap.String("source", l.location), zap.Stringer("list", l.List)}
	}
	for _, l := range now {
		if !has(before, l) {
			c.o.Log.Warn("revocation list vanished: no source carries it any more; the one known stays in use",
				append(fields(l), zap.Int("entries", l.Entries), zap.Time("until", l.NextUpdate))...)
		}
	}
	for _, l := range before {
		if !has(now, l) {
			c.o.Log.Info("revocation list that had vanished is replaced, or its CA is gone", fields(l)...)
		}
	}
}

// sayDropped logs that the configuration has taken lists out of force, so that the
// clients they revoke are let in again.
func (c *Checker) sayDropped(a *Authority, lists []keptList) {
	for _, l := range lists {
		c.o.Log.Warn("revocation list out of force: the configuration names no list of this authority any more, or turns revocation off",
			zap.String("authority", a.Name), zap.String("source", l.location), zap.Stringer("list", l.List), zap.Int("entries", l.Entries))
	}
}

// sameKey says whether one of two lists replaces the other: same issuer, key and scope.
func sameKey(a, b *List) bool {
	return bytes.Equal(a.rawIssuer, b.rawIssuer) && bytes.Equal(a.spki, b.spki) && a.scope.key() == b.scope.key()
}

// ageKept logs once that a vanished list has expired, and returns true if one has. What
// the list revokes stays revoked. The caller holds c.mu.
func (c *Checker) ageKept(now time.Time) bool {
	ended := false
	for name, all := range c.kept {
		for _, l := range all {
			if l.Fresh(now) || c.ended[l.sum] {
				continue
			}
			c.ended[l.sum], ended = true, true
			c.o.Log.Error("revocation list expired", zap.String("authority", name), zap.String("source", l.location),
				zap.Stringer("list", l.List), zap.Time("until", l.NextUpdate), zap.Error(errVanished))
		}
	}
	return ended
}
