package bundle

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// RevokedName is where the list of what is revoked is.
const RevokedName = "revoked.json"

// MaxRevoked bounds the entries of a list.
const MaxRevoked = 8192

// Revoked is a list of certificates that gateways refuse besides those of CRLs. The revoke keys sign
// it: they are online, and can refuse, but never admit. So a list only ever grows.
type Revoked struct {
	Fleet  string `json:"fleet"`
	Number int64  `json:"number"` // from 1, only grows
	// Base is the SHA-256 of the list that the policy keys had it begin anew with; "": with nothing.
	Base string `json:"base,omitempty"`
	// Each is sorted and has no entry twice: serial numbers in hexadecimal, SHA-256 of
	// SubjectPublicKeyInfo, names as certname.Canonical writes them.
	Serials  []string `json:"serials"`
	Keys     []string `json:"spki"`
	Subjects []string `json:"subjects"`
}

// SignedRevoked is a list with its envelope.
type SignedRevoked struct {
	*Revoked
	Envelope *seal.Envelope
	Sum      string // SHA-256 of the list
}

var digitsPattern = regexp.MustCompile(`^[0-9a-f]{1,128}$`)

var serialPattern = regexp.MustCompile(`^(0|[1-9a-f][0-9a-f]{0,39})$`)

func (r *Revoked) check() error {
	bad := func(format string, args ...any) error {
		return seal.Refuse(seal.Unreadable, "the list of what is revoked: "+format, args...)
	}
	if !seal.NameFits(r.Fleet) || r.Number < 1 || r.Number > seal.MaxEpoch {
		return bad("fleet %s, number %d", escape.Shown(r.Fleet, 80), r.Number)
	}
	if r.Base != "" && !isSum(r.Base) {
		return bad("base is no SHA-256")
	}
	if n := r.Entries(); n > MaxRevoked {
		return seal.Refuse(seal.TooLarge, "a list of %d revoked certificates, at most %d", n, MaxRevoked)
	}
	for _, of := range []struct {
		what string
		all  []string
		ok   func(string) bool
	}{
		{"serials", r.Serials, serialPattern.MatchString},
		{"spki", r.Keys, isSum},
		{"subjects", r.Subjects, func(s string) bool { is, err := certname.Canonical(s); return err == nil && is == s }},
	} {
		for i, s := range of.all {
			if !of.ok(s) || i > 0 && s <= of.all[i-1] {
				return bad("%s: %s is not in its one form, or out of order", of.what, escape.Shown(s, 80))
			}
		}
	}
	return nil
}

// Entries are how many it has.
func (r *Revoked) Entries() int { return len(r.Serials) + len(r.Keys) + len(r.Subjects) }

// NearlyFull says that there is little room left below MaxRevoked.
func NearlyFull(entries int) bool { return entries >= MaxRevoked/10*9 }

// RoomLeft is what is said of a list that is nearly full; "" of another one.
func RoomLeft(entries int) string {
	if !NearlyFull(entries) {
		return ""
	}
	return fmt.Sprintf(", and room for %d more: \"sslgate fleet sign --revoked-anew FILE\" has it begin anew", MaxRevoked-entries)
}

// Seal is the list in an envelope that nobody has signed yet.
func (r *Revoked) Seal() (*seal.Envelope, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	body, err := seal.Canonical(r)
	if err != nil {
		return nil, err
	}
	if len(body) > seal.MaxPayload {
		return nil, seal.Refuse(seal.TooLarge, "a list of %d bytes, at most %d", len(body), seal.MaxPayload)
	}
	return seal.NewEnvelope(seal.TypeRevoke, body), nil
}

// ParseRevoked reads a list that was verified when it was written down.
func ParseRevoked(text []byte) (*SignedRevoked, error) {
	e, err := seal.ParseEnvelope(text)
	if err != nil {
		return nil, err
	}
	if e.PayloadType != seal.TypeRevoke {
		return nil, seal.Refuse(seal.WrongType, "%.100q where a list of what is revoked was expected", e.PayloadType)
	}
	r := &Revoked{}
	if err := seal.ParseCanonical(e.Unverified(), r); err != nil {
		return nil, seal.Refuse(seal.Unreadable, "the list of what is revoked: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return &SignedRevoked{r, e, Sum(e.Unverified())}, nil
}

// ParseBase reads the list that a manifest has the list of what is revoked begin anew with. Nobody
// signs it: the manifest has its SHA-256. What it gives is the first list from there on.
func ParseBase(fleet string, text []byte) (*SignedRevoked, error) {
	r := &Revoked{}
	if err := seal.ParseCanonical(text, r); err != nil {
		return nil, seal.Refuse(seal.Unreadable, "the list that what is revoked begins with: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.Fleet != fleet || r.Number != 1 || r.Base != "" {
		return nil, seal.Refuse(seal.Unreadable, "the list that what is revoked begins with: of fleet %s, number %d", r.Fleet, r.Number)
	}
	r.Base = Sum(text)
	e, err := r.Seal()
	if err != nil {
		return nil, err
	}
	return &SignedRevoked{r, e, Sum(e.Unverified())}, nil
}

// Behind says what a list lacks of what a manifest says, nil for no list; "": nothing.
func (at RevokedAt) Behind(have *SignedRevoked) string {
	switch {
	case at.Number == 0:
	case have == nil:
		return fmt.Sprintf("there is no list of what is revoked, and there was list %d when the newest bundle was signed", at.Number)
	case have.Base != at.Base.SHA256:
		return fmt.Sprintf("list %d of what is revoked is one from before the newest bundle had it begin anew", have.Number)
	case have.Number < at.Number:
		return fmt.Sprintf("list %d of what is revoked is in force, and there was list %d when the newest bundle was signed", have.Number, at.Number)
	}
	return ""
}

// OpenRevoked reads a list that enough revoke keys have signed.
func OpenRevoked(root *seal.Root, text []byte) (*SignedRevoked, error) {
	e, err := seal.ParseEnvelope(text)
	if err != nil {
		return nil, err
	}
	if _, err := root.Open(seal.RoleRevoke, seal.TypeRevoke, e); err != nil {
		return nil, err
	}
	r, err := ParseRevoked(text)
	if err == nil && r.Fleet != root.Fleet {
		err = seal.Refuse(seal.WrongFleet, "of fleet %s, this is %s", r.Fleet, root.Fleet)
	}
	return r, err
}

// VerifyRevoked decides whether a list is taken after another one, nil for none. It has all that the
// one before has, whatever keys have signed that. Where the root does not name those any more, its
// number counts no more: a thief of them may have signed the highest. Only the policy keys have it
// begin anew: base is that of the list before, and without one that which the newest manifest names.
func VerifyRevoked(root *seal.Root, base string, have *SignedRevoked, text []byte) (*SignedRevoked, error) {
	r, err := OpenRevoked(root, text)
	if err != nil {
		return nil, err
	}
	if have != nil {
		base = have.Base
	}
	if r.Base != base {
		return nil, seal.Refuse(seal.OtherEpoch, "list %d of what is revoked begins with %.12q, and by the newest bundle that was taken it begins with %.12q", r.Number, r.Base, base)
	}
	if have == nil {
		return r, nil
	}
	_, err = root.Open(seal.RoleRevoke, seal.TypeRevoke, have.Envelope)
	switch counts := err == nil; {
	case counts && r.Number < have.Number:
		return nil, seal.Refuse(seal.OlderEpoch, "list %d of what is revoked, but %d was seen", r.Number, have.Number)
	case counts && r.Number == have.Number && r.Sum != have.Sum:
		return nil, seal.Refuse(seal.OtherEpoch, "list %d of what is revoked was seen with the digest %.12s, this is %.12s", r.Number, have.Sum, r.Sum)
	}
	if lacks := r.Lacks(have.Revoked); lacks != "" {
		return nil, seal.Refuse(seal.Loosens, "list %d does not have %s any more, which list %d revokes", r.Number, lacks, have.Number)
	}
	return r, nil
}

// Lacks names an entry of another list that r does not have; "" if it has all.
func (r *Revoked) Lacks(of *Revoked) string {
	for _, pair := range [][2][]string{{of.Serials, r.Serials}, {of.Keys, r.Keys}, {of.Subjects, r.Subjects}} {
		for _, s := range pair[0] {
			if _, found := slices.BinarySearch(pair[1], s); !found {
				return escape.Shown(s, 80)
			}
		}
	}
	return ""
}

// Add adds an entry as a person writes it: a SHA-256 of SubjectPublicKeyInfo (64 hexadecimal digits),
// a serial number in hexadecimal, or a distinguished name (RFC 4514).
func (r *Revoked) Add(entry string) error {
	to, s := &r.Serials, strings.ToLower(strings.ReplaceAll(entry, ":", ""))
	digits := strings.TrimPrefix(s, "0x")
	hexadecimal := digitsPattern.MatchString(digits)
	switch name, err := certname.Canonical(entry); {
	case hexadecimal && len(digits) == 64:
		to, s = &r.Keys, digits
	case hexadecimal:
		if s = strings.TrimLeft(digits, "0"); s == "" {
			s = "0"
		}
		if !serialPattern.MatchString(s) {
			return fmt.Errorf("%q has more digits than a serial number (at most 40), and fewer or more than the SHA-256 of a public key (64)", entry)
		}
	case err == nil:
		to, s = &r.Subjects, name
	default:
		return fmt.Errorf("%q is neither a serial number in hexadecimal, a SHA-256 of a public key, nor a distinguished name: %w", entry, err)
	}
	if at, found := slices.BinarySearch(*to, s); !found {
		*to = slices.Insert(*to, at, s)
	}
	return nil
}
