package revocation

import (
	"fmt"
	"time"

	"github.com/sslgate/sslgate/internal/times"
)

// order says which list may take the place of which. CRL numbers grow (RFC 5280,
// section 5.2.3), and so do the times of issue: a list that is behind in either was
// put there again, by mistake or by who wants somebody back in.
//
// A CA that was set up anew begins its numbers anew, though its lists go on in
// time. No list of before can look like that, for the time is signed. So it is
// taken when the list before has ended, and at once where the operator has removed
// the copy of that one.
type order struct {
	now time.Time
	// copyOf is the file with the copy of a list, "" where there is none, and
	// whether the operator has removed it.
	copyOf func(*List) (path string, removed bool)
}

// check says whether a list in next goes back behind the one it replaces. With
// complete, a list that is missing counts too.
func (o order) check(known, next []*List, complete bool) error {
	for _, k := range known {
		found := false
		for _, n := range next {
			if !sameKey(k, n) {
				continue
			}
			found = true
			if err := o.replace(k, n); err != nil {
				return err
			}
		}
		if !found && complete {
			return fmt.Errorf("%w: the list of %s is missing in it", ErrOlder, `"`+k.Issuer+`"`)
		}
	}
	return nil
}

// replace says whether n may take the place of k, which is of the same key.
func (o order) replace(k, n *List) error {
	of := `, of "` + n.Issuer + `"`
	switch {
	case k.sum == n.sum:
		return nil
	case k.Fresh(o.now) && o.now.Before(n.ThisUpdate.Add(-skew)):
		return fmt.Errorf("%w: before %s%s", ErrNotYet, times.Stamp(n.ThisUpdate), of)
	}
	behind, grown := numbers(k, n)
	path, removed := o.copyOf(k)
	switch {
	case behind != "" && n.ThisUpdate.After(k.ThisUpdate):
		if removed || !o.now.Before(k.NextUpdate) {
			return nil
		}
	case behind != "":
		return fmt.Errorf("%w: %s%s", ErrOlder, behind, of)
	case grown && (removed || o.now.Before(k.ThisUpdate.Add(-skew))):
		return nil // the CA has put its clock right
	case grown && !n.ThisUpdate.Before(k.ThisUpdate.Add(-skew)): // its machines' clocks differ a little
		return nil
	case !n.ThisUpdate.Before(k.ThisUpdate):
		return nil
	default:
		return fmt.Errorf("%w: of %s after one of %s%s", ErrOlder, times.Stamp(n.ThisUpdate), times.Stamp(k.ThisUpdate), of)
	}
	hint := "or after a restart"
	if path != "" {
		hint = "or at once after `rm " + path + " && sslgate reload`"
	}
	return fmt.Errorf("%w: %s%s; it was issued later, so the CA may have begun its numbers anew (RFC 5280, section 5.2.3): such a list is taken when the one before has ended, on %s, %s",
		ErrOlder, behind, of, times.Stamp(k.NextUpdate), hint)
}

// numbers compares the numbers of a list and the next: behind says how the next one's
// goes back, "" if it does not; grown that there are two, and it goes on.
func numbers(k, n *List) (behind string, grown bool) {
	switch {
	case k.Number == nil:
		return "", false
	case n.Number == nil:
		return fmt.Sprintf("no number after number %s", k.Number), false
	case k.Number.Cmp(n.Number) > 0:
		return fmt.Sprintf("number %s after number %s", n.Number, k.Number), false
	}
	return "", k.Number.Cmp(n.Number) < 0
}
