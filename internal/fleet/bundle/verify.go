package bundle

import (
	"fmt"
	"slices"
	"time"

	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// Seen is what a gateway must not forget: which bundles it has seen. It is on disk before one
// that changes it is used.
type Seen struct {
	Root  int64 `json:"root"`  // version of the root it was seen under
	Epoch int64 `json:"epoch"` // the highest
	// Manifest is the SHA-256 of that one, and RollbackTo what it names.
	Manifest   string  `json:"manifest"`
	RollbackTo []Older `json:"rollback_to"`
	// Good is the SHA-256 of the manifest that is in force, "" for none.
	Good string `json:"good"`
	// Back is what was gone back to under that one. Forward again leads only a newer one: else
	// whoever writes the source could go to and fro. Zero: nothing.
	Back Older `json:"back,omitzero"`
	// Revoked is where the list of what is revoked stood, as the highest says.
	Revoked RevokedAt `json:"revoked,omitzero"`
}

// ParseOldSeen reads what was written when rollback_to had numbers alone. A number without a digest
// leads back to nothing.
func ParseOldSeen(body []byte) (Seen, error) {
	var old struct {
		Root       int64   `json:"root"`
		Epoch      int64   `json:"epoch"`
		Manifest   string  `json:"manifest"`
		RollbackTo []int64 `json:"rollback_to"`
		Good       string  `json:"good"`
	}
	if err := seal.ParseCanonical(body, &old); err != nil {
		return Seen{}, err
	}
	return Seen{Root: old.Root, Epoch: old.Epoch, Manifest: old.Manifest, RollbackTo: []Older{}, Good: old.Good}, nil
}

// Gateway is who takes a bundle.
type Gateway struct {
	Site    string
	Version string // of sslgate
	Now     time.Time
}

// Verified is a bundle whose signatures, epoch and site are right. Its files are not read yet.
type Verified struct {
	Manifest *Manifest
	Envelope *seal.Envelope
	Sum      string // SHA-256 of the manifest
	Files    map[string]File
	Seen     Seen // to be written before it is used
}

// Verify decides whether a gateway that has seen so much takes a bundle. Nothing of the text counts
// before enough policy keys have signed it. The error is a seal.Refusal.
func Verify(root *seal.Root, seen Seen, gw Gateway, text []byte) (*Verified, error) {
	e, err := seal.ParseEnvelope(text)
	if err != nil {
		return nil, err
	}
	body, err := root.Open(seal.RolePolicy, seal.TypePolicy, e)
	if err != nil {
		return nil, err
	}
	m, err := Parse(body)
	if err != nil {
		return nil, err
	}
	if m.Fleet != root.Fleet {
		return nil, seal.Refuse(seal.WrongFleet, "of fleet %s, this is %s", m.Fleet, root.Fleet)
	}
	v := &Verified{Manifest: m, Envelope: e, Sum: Sum(body)}
	if v.Seen, err = seen.after(m, v.Sum, root.Version); err != nil {
		return nil, err
	}
	if v.Files, err = m.Of(gw.Site); err != nil {
		return nil, err
	}
	if err := m.fits(gw); err != nil {
		return nil, err
	}
	return v, nil
}

// Epoch is that of a bundle that enough policy keys have signed, whether it is taken or not; 0 of any
// other.
func Epoch(root *seal.Root, text []byte) int64 {
	e, err := seal.ParseEnvelope(text)
	if err != nil {
		return 0
	}
	body, err := root.Open(seal.RolePolicy, seal.TypePolicy, e)
	if err != nil {
		return 0
	}
	m, err := Parse(body)
	if err != nil || m.Fleet != root.Fleet {
		return 0
	}
	return m.Epoch
}

// Withdrawn says why a bundle in force should not be any more: the root does not name enough of the
// keys that have signed it, or has voided its epoch. nil: all is well.
func (s Seen) Withdrawn(root *seal.Root, v *Verified) error {
	if v.Manifest.Epoch > s.Epoch {
		return fmt.Errorf("epochs above %d were voided", s.Epoch)
	}
	_, err := root.Open(seal.RolePolicy, seal.TypePolicy, v.Envelope)
	return err
}

// after is what is seen once a manifest is taken.
func (s Seen) after(m *Manifest, sum string, root int64) (Seen, error) {
	is := Older{m.Epoch, sum}
	switch {
	case m.Epoch > s.Epoch:
		n := Seen{Root: root, Epoch: m.Epoch, Manifest: sum, RollbackTo: m.RollbackTo, Good: s.Good, Revoked: s.Revoked}
		if m.Revoked != (RevokedAt{}) {
			n.Revoked = m.Revoked
		}
		return n, nil
	case m.Epoch == s.Epoch && (sum == s.Manifest && s.Back == (Older{}) || sum == s.Good):
		return s, nil
	case m.Epoch == s.Epoch && sum == s.Manifest:
		return s, seal.Refuse(seal.RolledBack, "epoch %d was gone back from to %d: a newer one leads forward again", m.Epoch, s.Back.Epoch)
	case m.Epoch == s.Epoch:
		return s, seal.Refuse(seal.OtherEpoch, "epoch %d was seen with the manifest %.12s, this is %.12s", m.Epoch, s.Manifest, sum)
	case slices.Contains(s.RollbackTo, is) && (s.Back == (Older{}) || m.Epoch <= s.Back.Epoch):
		s.Back = is
		return s, nil
	case slices.Contains(s.RollbackTo, is) && sum == s.Good: // what was gone back to is not in force
		return s, nil
	case slices.Contains(s.RollbackTo, is):
		return s, seal.Refuse(seal.RolledBack, "epoch %d was gone back from to %d: one newer than %d leads forward again", m.Epoch, s.Back.Epoch, s.Epoch)
	case slices.ContainsFunc(s.RollbackTo, func(o Older) bool { return o.Epoch == m.Epoch }):
		return s, seal.Refuse(seal.OtherEpoch, "the rollback_to of epoch %d names another manifest for epoch %d, this is %.12s", s.Epoch, m.Epoch, sum)
	}
	return s, seal.Refuse(seal.OlderEpoch, "epoch %d, but %d was seen, whose rollback_to does not name it", m.Epoch, s.Epoch)
}

// Voided is what counts as seen once a root is taken. It voids once: what was seen under the
// root itself stays.
func (s Seen) Voided(r *seal.Root) Seen {
	if s.Root >= r.Version {
		return s
	}
	if r.VoidAbove > 0 && s.Epoch > r.VoidAbove {
		// The manifest of that epoch is not known any more: none with its number is taken again.
		return Seen{Root: r.Version, Epoch: r.VoidAbove, Good: s.Good}
	}
	s.Root = r.Version
	return s
}

// fits says whether a gateway may take the manifest now.
func (m *Manifest) fits(gw Gateway) error {
	if end := m.Ends(); !end.IsZero() && !gw.Now.Before(end) {
		return seal.Refuse(seal.Expired, "epoch %d was to be taken until %s", m.Epoch, m.NotAfter)
	}
	return m.FitsVersion(gw.Version)
}

// FitsVersion says whether an sslgate of a version may use the manifest.
func (m *Manifest) FitsVersion(have string) error {
	if m.MinVersion != "" && slices.Compare(version(have), version(m.MinVersion)) < 0 {
		return seal.Refuse(seal.TooNew, "epoch %d is for sslgate %s and later, this is %q", m.Epoch, m.MinVersion, have)
	}
	return nil
}
