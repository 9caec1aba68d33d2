// Package reason is the closed list of words sslgate uses to say why a flow
// was let through, refused or ended. The codes are stable: operators grep and
// alert on them. A code is never reused for something else.
package reason

import (
	"slices"
	"sort"
)

// Code is one stable word, lower case with underscores. The zero value "" is
// never a reason: a record that carries it is a bug.
type Code string

// Kind says what sort of result a code means.
type Kind uint8

// The kinds. The zero value is a refusal: deny is the default.
const (
	Refused Kind = iota // policy or protocol refused it; the client is the cause
	Failed              // the destination or this gateway could not do its part
	Allowed             // the flow was let through
	Ended               // how an allowed flow came to its end
)

// String is the kind's word in the audit record and the docs.
func (k Kind) String() string {
	switch k {
	case Allowed:
		return "allowed"
	case Failed:
		return "failed"
	case Ended:
		return "ended"
	}
	return "refused"
}

// NoAlert is the Alert of an Entry that needs no TLS alert, because no TLS was spoken or
// nothing went wrong.
const NoAlert = -1

// Entry documents one code.
type Entry struct {
	Code Code
	Kind Kind
	// Step of the classic handshake (1..9) at which the code is decided; 0 is before the
	// client hello (packets, SYN).
	Step int
	// Alert is the TLS alert that fits best (RFC 8446, section 6.2, or RFC 6066), or
	// NoAlert.
	Alert int
	// Sentence says what happened, for an operator.
	Sentence string
	// Advice says what the operator of the client (or of the destination)
	// should do.
	Advice string
}

// All returns every entry, in the order of a flow's life. The slice is the
// caller's own.
func All() []Entry { return slices.Clone(entries[:]) }

// Lookup returns the entry of a code; false for a word that is not in the list.
func Lookup(c Code) (Entry, bool) {
	i, ok := byCode[c]
	if !ok {
		return Entry{}, false
	}
	return entries[i], true
}

// byCode are the indexes in entries.
var byCode = func() map[Code]int {
	m := make(map[Code]int, len(entries))
	for i, e := range entries {
		m[e.Code] = i
	}
	return m
}()

// Alert returns the alert for a code: NoAlert if it needs none, internal_error (80) for a
// code that is not in the list.
func Alert(c Code) int {
	if e, ok := Lookup(c); ok {
		return e.Alert
	}
	return 80
}

// Sorted returns all entries by step, then by code.
func Sorted() []Entry {
	all := All()
	sort.SliceStable(all, func(i, j int) bool {
		if all[i].Step != all[j].Step {
			return all[i].Step < all[j].Step
		}
		return all[i].Code < all[j].Code
	})
	return all
}
