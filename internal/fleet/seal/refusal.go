package seal

import (
	"errors"
	"fmt"
)

// Reason is the stable word for why something was refused.
type Reason string

// The reasons. Reasons lists them all.
const (
	Unreadable     Reason = "unreadable"       // not in the one form that is read
	TooLarge       Reason = "too_large"        // beyond a bound
	WrongType      Reason = "wrong_type"       // signed for another role
	Unsigned       Reason = "unsigned"         // fewer distinct keys of the role have signed than the root demands
	WrongFleet     Reason = "wrong_fleet"      // of another fleet
	WrongRoot      Reason = "wrong_root"       // not the root that follows the one in force
	OlderEpoch     Reason = "older_epoch"      // below the highest epoch seen, and no signed rollback_to names it
	RolledBack     Reason = "rolled_back"      // it was gone back from, and only a newer epoch leads forward
	OtherEpoch     Reason = "other_epoch"      // another manifest with an epoch that was seen
	WrongSite      Reason = "wrong_site"       // has no part for the site of the gateway's certificate
	Expired        Reason = "expired"          // its not_after has passed
	Loosens        Reason = "loosens"          // revokes less than was revoked, which revoke keys cannot
	TooNew         Reason = "needs_upgrade"    // for a newer sslgate
	Missing        Reason = "missing_file"     // a file that the manifest names is not there
	Altered        Reason = "altered_file"     // a file is not the one that the manifest names
	RefusedCheck   Reason = "refused_by_check" // sslgate check refuses the configuration
	NeedsRestart   Reason = "needs_restart"    // good, but only a restart can change what it changes
	Unreachable    Reason = "unreachable"      // the source does not answer
	StateUnwritten Reason = "state_unwritten"  // the state directory cannot be written, so nothing new is taken
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{
		Unreadable, TooLarge, WrongType, Unsigned, WrongFleet, WrongRoot, OlderEpoch, RolledBack, OtherEpoch, WrongSite, Expired, Loosens, TooNew,
		Missing, Altered, RefusedCheck, NeedsRestart, Unreachable, StateUnwritten,
	}
}

// Refusal is an error with its reason.
type Refusal struct {
	Reason Reason
	Detail string // may quote what a stranger has written, escaped
	err    error
}

// Error is "older_epoch: epoch 41, but 42 was seen".
func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

// Unwrap returns the error inside, if any.
func (r *Refusal) Unwrap() error { return r.err }

// Refuse makes a Refusal with a detail in the form of fmt.Errorf.
func Refuse(why Reason, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Refusal{Reason: why, Detail: err.Error(), err: errors.Unwrap(err)}
}

// ReasonOf is the reason of an error; Unreachable if it is no Refusal.
func ReasonOf(err error) Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return Unreachable
}
