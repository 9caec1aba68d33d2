package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// Manifest is what the policy keys sign. Its form is seal.Canonical.
type Manifest struct {
	Fleet string `json:"fleet"`
	// Epoch numbers the bundles of a fleet. It only grows.
	Epoch int64 `json:"epoch"`
	// Parent is the SHA-256 of the manifest before, "" of the first. For people who look for gaps.
	Parent string `json:"parent"`
	// MinVersion is the oldest sslgate that may take it, such as "1.4.0"; "" any.
	MinVersion string `json:"min_version"`
	// NotAfter is until when a gateway takes it; "" for ever. RFC 3339, UTC.
	NotAfter string `json:"not_after"`
	// RollbackTo are the older bundles that a gateway which has seen this one may go back to, sorted
	// by epoch, each epoch once.
	RollbackTo []Older `json:"rollback_to"`
	// Files are those of all sites, by their path below the directory of the configuration.
	Files map[string]File `json:"files"`
	// Sites has a part for each site: files beside those of all, or in their place.
	Sites map[string]map[string]File `json:"sites"`
	// Revoked is where the list of what is revoked stood when it was signed. The zero value says
	// nothing of it.
	Revoked RevokedAt `json:"revoked,omitzero"`
}

// RevokedAt is a place in the lists of what is revoked.
type RevokedAt struct {
	Number int64 `json:"number"` // a gateway with a lower one lacks something
	// Base is the list that the policy keys had it begin anew with (ParseBase); zero: with nothing.
	Base File `json:"base,omitzero"`
}

// Older is a bundle before another one. An epoch that was voided may have two manifests, so that the
// number alone does not say which.
type Older struct {
	Epoch    int64  `json:"epoch"`
	Manifest string `json:"manifest"` // SHA-256, hexadecimal
}

// File is one of a bundle.
type File struct {
	SHA256 string `json:"sha256"` // hexadecimal
	Size   int64  `json:"size"`   // bytes
}

// Main is the configuration in a bundle.
const Main = "sslgate.yaml"

// Bounds of a bundle.
const (
	MaxFiles    = 4096
	MaxSites    = 1024
	MaxRollback = 64
	// MaxSize is of all files of a site together, in bytes.
	MaxSize = 512 << 20
	maxName = 255
)

// Parse reads a manifest.
func Parse(body []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := seal.ParseCanonical(body, m); err != nil {
		if epoch := oldForm(body); epoch != 0 {
			return nil, seal.Refuse(seal.Unreadable, "the manifest of epoch %d names in rollback_to the numbers of epochs, as before: it says not which manifests. Sign the configuration anew", epoch)
		}
		return nil, seal.Refuse(seal.Unreadable, "the manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// oldForm is the epoch of a manifest from when rollback_to had numbers alone; 0: it is none.
func oldForm(body []byte) int64 {
	var old struct {
		Epoch      int64   `json:"epoch"`
		RollbackTo []int64 `json:"rollback_to"`
	}
	if err := json.Unmarshal(body, &old); err != nil || len(old.RollbackTo) == 0 {
		return 0
	}
	return old.Epoch
}

func (m *Manifest) check() error {
	bad := func(format string, args ...any) error {
		return seal.Refuse(seal.Unreadable, "the manifest: "+format, args...)
	}
	switch {
	case !seal.NameFits(m.Fleet):
		return bad("%s cannot be the name of a fleet", escape.Shown(m.Fleet, 80))
	case m.Epoch < 1 || m.Epoch > seal.MaxEpoch:
		return bad("epoch %d is out of range", m.Epoch)
	case m.Parent != "" && !isSum(m.Parent):
		return bad("parent is no SHA-256")
	case m.MinVersion != "" && version(m.MinVersion) == nil:
		return bad("min_version %s is no version", escape.Shown(m.MinVersion, 80))
	case len(m.RollbackTo) > MaxRollback:
		return seal.Refuse(seal.TooLarge, "rollback_to names %d epochs, at most %d", len(m.RollbackTo), MaxRollback)
	case len(m.Sites) > MaxSites:
		return seal.Refuse(seal.TooLarge, "%d sites, at most %d", len(m.Sites), MaxSites)
	}
	if _, err := seal.When(m.NotAfter); err != nil {
		return bad("not_after: %w", err)
	}
	for i, o := range m.RollbackTo {
		if o.Epoch < 1 || o.Epoch >= m.Epoch || i > 0 && o.Epoch <= m.RollbackTo[i-1].Epoch || !isSum(o.Manifest) {
			return bad("rollback_to is not sorted, names an epoch that is not older, or no SHA-256 of a manifest")
		}
	}
	if r := m.Revoked; r != (RevokedAt{}) && (r.Number < 1 || r.Number > seal.MaxEpoch || r.Base != (File{}) && (!isSum(r.Base.SHA256) || r.Base.Size < 1)) {
		return bad("revoked has no number, or its base no SHA-256")
	}
	if m.Revoked.Base.Size > seal.MaxPayload {
		return seal.Refuse(seal.TooLarge, "the list of what is revoked begins with %d bytes, at most %d", m.Revoked.Base.Size, seal.MaxPayload)
	}
	if err := checkFiles("files", m.Files); err != nil {
		return err
	}
	for site, files := range m.Sites {
		if !seal.NameFits(site) {
			return bad("%s cannot be the name of a site", escape.Shown(site, 80))
		}
		if err := checkFiles("sites."+site, files); err != nil {
			return err
		}
		all, size := m.site(site), int64(0)
		for _, f := range all {
			size += f.Size
		}
		if len(all) > MaxFiles || size > MaxSize {
			return seal.Refuse(seal.TooLarge, "site %s has %d files of %d bytes together: at most %d and %d", site, len(all), size, MaxFiles, int64(MaxSize))
		}
		if _, ok := all[Main]; !ok {
			return bad("site %s has no %s", site, Main)
		}
	}
	return nil
}

func checkFiles(at string, files map[string]File) error {
	for name, f := range files {
		switch {
		case !fits(name):
			return seal.Refuse(seal.Unreadable, "the manifest: %s: %s cannot be the path of a file below the configuration's directory", at, escape.Shown(name, 80))
		case !isSum(f.SHA256):
			return seal.Refuse(seal.Unreadable, "the manifest: %s: %s has no SHA-256", at, name)
		case f.Size < 0 || f.Size > MaxSize:
			return seal.Refuse(seal.TooLarge, "%s: %s has %d bytes, at most %d", at, name, f.Size, int64(MaxSize))
		}
	}
	return nil
}

// fits says whether a name is the shortest path of a file below a directory, in characters that
// mean nothing to anybody.
func fits(name string) bool {
	return len(name) <= maxName && filePattern.MatchString(name) &&
		path.Clean(name) == name && !path.IsAbs(name) && name != "." && name != ".." && !strings.HasPrefix(name, "../")
}

var filePattern = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)

// isSum says whether a text is a SHA-256 in lower case.
func isSum(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size && strings.ToLower(s) == s
}

// Sum is the SHA-256 of a text in hexadecimal.
func Sum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// site is every file of a site.
func (m *Manifest) site(site string) map[string]File {
	all := make(map[string]File, len(m.Files)+len(m.Sites[site]))
	for name, f := range m.Files {
		all[name] = f
	}
	for name, f := range m.Sites[site] {
		all[name] = f
	}
	return all
}

// Of returns every file of a site by its path; WrongSite if the bundle has no part for it.
func (m *Manifest) Of(site string) (map[string]File, error) {
	if _, ok := m.Sites[site]; !ok {
		return nil, seal.Refuse(seal.WrongSite, "epoch %d has no part for site %s, which this gateway's certificate names", m.Epoch, site)
	}
	return m.site(site), nil
}

// Ends is when NotAfter is; zero for never.
func (m *Manifest) Ends() time.Time {
	t, _ := seal.When(m.NotAfter) // was read before
	return t
}

// Seal is the manifest in an envelope that nobody has signed yet.
func (m *Manifest) Seal() (*seal.Envelope, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	body, err := seal.Canonical(m)
	if err != nil {
		return nil, err
	}
	if len(body) > seal.MaxPayload {
		return nil, seal.Refuse(seal.TooLarge, "a manifest of %d bytes, at most %d", len(body), seal.MaxPayload)
	}
	return seal.NewEnvelope(seal.TypePolicy, body), nil
}

var versionPattern = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})([-+].{0,100})?$`)

// version reads "1.4.0" or "v1.4.0-rc1", of which the numbers count; nil if it is none.
func version(s string) []int {
	match := versionPattern.FindStringSubmatch(s)
	if match == nil {
		return nil
	}
	numbers := make([]int, 3)
	for i := range numbers {
		if _, err := fmt.Sscanf(match[i+1], "%d", &numbers[i]); err != nil {
			return nil
		}
	}
	return numbers
}
