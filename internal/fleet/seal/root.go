package seal

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Roles of a fleet.
const (
	RoleRoot   = "root"   // names the keys of all roles, and its own successor
	RolePolicy = "policy" // signs bundles
	RoleRevoke = "revoke" // adds to what is revoked, and takes nothing away
	// Places for roles that only tighten: they are read and kept, and sign nothing yet.
	RoleRoll  = "roll"
	RoleFresh = "fresh"
)

// Root says which keys have which role. It is pinned on each gateway.
type Root struct {
	Fleet   string `json:"fleet"`
	Version int64  `json:"version"` // from 1; the next one has one more
	// NotAfter is until when its authors mean to use it; "" for ever. RFC 3339, UTC. Gateways go on
	// by an old root: one that is withheld shuts nobody out.
	NotAfter string            `json:"not_after"`
	Keys     map[string]string `json:"keys"` // SubjectPublicKeyInfo in base64, by ID
	Roles    map[string]Role   `json:"roles"`
	// VoidAbove, where not 0, says that epochs above it count as never seen: they were signed
	// with policy keys that were stolen. It counts once, when a gateway takes this root.
	VoidAbove int64 `json:"void_above"`

	keys map[string]*PublicKey
}

// Role is who has it, and how many of them must sign.
type Role struct {
	Keys      []string `json:"keys"`      // IDs, sorted
	Threshold int      `json:"threshold"` // distinct keys
}

const (
	maxKeys = 64
	// MaxEpoch bounds epochs and versions: what every JSON reader holds exactly.
	MaxEpoch = 1<<53 - 1
)

// NameFits says whether a text may be the name of a fleet, a site or a gateway: they are parts
// of paths, of URLs and of SPIFFE IDs.
func NameFits(name string) bool { return len(name) <= 63 && namePattern.MatchString(name) }

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// NewRoot makes a root; roles have the keys of each, and how many must sign.
func NewRoot(fleet string, version int64, keys []*PublicKey, roles map[string]Role) *Root {
	r := &Root{Fleet: fleet, Version: version, Keys: map[string]string{}, Roles: roles, keys: map[string]*PublicKey{}}
	for _, k := range keys {
		r.Keys[k.ID()], r.keys[k.ID()] = k.text(), k
	}
	return r
}

// Envelope is the root before anybody has signed it.
func (r *Root) Envelope() (*Envelope, error) {
	body, err := Canonical(r)
	if err != nil {
		return nil, err
	}
	if _, err := parseRoot(body); err != nil {
		return nil, err
	}
	return NewEnvelope(TypeRoot, body), nil
}

func parseRoot(body []byte) (*Root, error) {
	r := &Root{}
	if err := ParseCanonical(body, r); err != nil {
		return nil, Refuse(Unreadable, "the root: %w", err)
	}
	bad := func(format string, args ...any) error { return Refuse(Unreadable, "the root: "+format, args...) }
	if !NameFits(r.Fleet) {
		return nil, bad("%q cannot be the name of a fleet", r.Fleet)
	}
	if r.Version < 1 || r.Version > MaxEpoch || r.VoidAbove < 0 || r.VoidAbove > MaxEpoch {
		return nil, bad("version %d, void_above %d", r.Version, r.VoidAbove)
	}
	if _, err := When(r.NotAfter); err != nil {
		return nil, bad("not_after: %w", err)
	}
	if len(r.Keys) > maxKeys {
		return nil, Refuse(TooLarge, "a root with %d keys, at most %d", len(r.Keys), maxKeys)
	}
	r.keys = map[string]*PublicKey{}
	for id, text := range r.Keys {
		key, err := parsePublic(text)
		if err != nil {
			return nil, bad("key %.80q: %w", id, err)
		}
		if key.ID() != id { // or one key could count as two
			return nil, bad("key %.80q is %s", id, key.ID())
		}
		r.keys[id] = key
	}
	for name, role := range r.Roles {
		if !slices.Contains([]string{RoleRoot, RolePolicy, RoleRevoke, RoleRoll, RoleFresh}, name) {
			return nil, bad("no role %.80q is known", name)
		}
		if !slices.IsSorted(role.Keys) || len(slices.Compact(slices.Clone(role.Keys))) != len(role.Keys) {
			return nil, bad("the keys of %s are not sorted, or one is there twice", name)
		}
		for _, id := range role.Keys {
			if r.keys[id] == nil {
				return nil, bad("%s names the key %.80q, which is not there", name, id)
			}
		}
		if role.Threshold < 1 || role.Threshold > len(role.Keys) {
			return nil, bad("%d of %d keys shall sign for %s", role.Threshold, len(role.Keys), name)
		}
	}
	for _, name := range []string{RoleRoot, RolePolicy} {
		if _, ok := r.Roles[name]; !ok {
			return nil, bad("nobody has the role %s", name)
		}
	}
	return r, nil
}

// Pinned reads the root that a gateway was given by hand: it has to be signed by itself.
func Pinned(text []byte) (*Root, error) {
	e, err := ParseEnvelope(text)
	if err != nil {
		return nil, err
	}
	return e.root(nil)
}

// Next reads the root that follows r. It must be signed by the keys that r names for roots, and by
// those that it names itself (TUF specification, section 5.3.4).
func (r *Root) Next(text []byte) (*Root, error) {
	e, err := ParseEnvelope(text)
	if err != nil {
		return nil, err
	}
	return e.root(r)
}

// root opens the envelope of a root, the one after before unless that is nil.
func (e *Envelope) root(before *Root) (*Root, error) {
	if e.PayloadType != TypeRoot {
		return nil, Refuse(WrongType, "%.100q where a root was expected", e.PayloadType)
	}
	if before != nil {
		if err := before.signed(RoleRoot, e); err != nil {
			return nil, err
		}
	}
	// From here on, but for a pinned one, it is what the keys of the root before have signed.
	r, err := parseRoot(e.body)
	if err != nil {
		return nil, err
	}
	if before != nil && r.Fleet != before.Fleet {
		return nil, Refuse(WrongFleet, "a root of fleet %s, this is %s", r.Fleet, before.Fleet)
	}
	if before != nil && r.Version != before.Version+1 {
		return nil, Refuse(WrongRoot, "root %d, the next is %d", r.Version, before.Version+1)
	}
	if err := r.signed(RoleRoot, e); err != nil {
		return nil, err
	}
	return r, nil
}

// Open returns the bytes that a role has signed for a type.
func (r *Root) Open(role, payloadType string, e *Envelope) ([]byte, error) {
	if e.PayloadType != payloadType {
		return nil, Refuse(WrongType, "%.100q where %s was expected", e.PayloadType, payloadType)
	}
	if err := r.signed(role, e); err != nil {
		return nil, err
	}
	return e.body, nil
}

// signed says whether enough distinct keys of a role have signed.
func (r *Root) signed(role string, e *Envelope) error {
	need, ok := r.Roles[role]
	if !ok {
		return Refuse(Unsigned, "root %d gives nobody the role %s", r.Version, role)
	}
	if n := len(r.Signers(role, e)); n < need.Threshold {
		return Refuse(Unsigned, "signed by %d of the keys that root %d names for %s, %d are needed", n, r.Version, role, need.Threshold)
	}
	return nil
}

// Signers are the IDs of the keys of a role that have signed.
func (r *Root) Signers(role string, e *Envelope) []string {
	keys := map[string]*PublicKey{}
	for _, id := range r.Roles[role].Keys {
		keys[id] = r.keys[id]
	}
	return e.signers(keys)
}

// Holders are the keys of a role.
func (r *Root) Holders(role string) []*PublicKey {
	var all []*PublicKey
	for _, id := range r.Roles[role].Keys {
		all = append(all, r.keys[id])
	}
	return all
}

// DraftRoot reads a root that waits for signatures: nothing to act on.
func (e *Envelope) DraftRoot() (*Root, error) {
	if e.PayloadType != TypeRoot {
		return nil, Refuse(WrongType, "%.100q where a root was expected", e.PayloadType)
	}
	return parseRoot(e.body)
}

// Time is a time as it stands in what is signed; "" for none.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// When reads what Time has written, and nothing else.
func When(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err == nil && Time(t) != text {
		err = fmt.Errorf("%.40q is not in UTC, or has fractions of a second", text)
	}
	return t, err
}
