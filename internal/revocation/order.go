package revocation

import (
	"fmt"
	"time"

	"github.com/sslgate/sslgate/internal/times"
)

// order decides which list may replace which. CRL numbers grow (RFC 5280, section 5.2.3),
// and so do the times of issue. A list that goes back in either was put there again by
// mistake, or by somebody who wants a revoked client let in.
//
// A CA that was set up anew restarts its numbers, but its lists have later times. No
// older list can look like that, because the time is signed. So such a list is taken when
// the previous list has ended, or at once if the operator has removed the copy of the
// previous list.
type order struct {
	now time.Time
	// copyOf returns the file with the copy of a list, "" if there is none, and whether
	// the operator has removed it.
	copyOf func(*List) (path string, removed bool)
}

// check returns an error if a list in next is older than the one it replaces. With
// complete, a known list that next lacks is an error too.
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

// replace says whether n may replace k, which has the same key; nil if it may.
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
		return nil // the CA has corrected its clock
	case grown && !n.ThisUpdate.Before(k.ThisUpdate.Add(-skew)): // the clocks of the CA's machines differ a little
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

// numbers compares the CRL numbers of a list and the next. behind says how the next
// number goes back, "" if it does not. grown says that both have a number and it grows.
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
