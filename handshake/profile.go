package handshake

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// Profile is a resolved set of cryptographic demands. The zero value allows
// nothing.
type Profile struct {
	Name       string
	MinVersion uint16 // tls.VersionTLS12 ...
	MaxVersion uint16
	Suites12   []uint16 // TLS 1.2 CipherSuites in our order of preference
	Suites13   []uint16 // TLS 1.3 CipherSuites demanded; nil means all three, see Engine.Cannot
	Groups     []uint16 // key exchange groups in our order of preference
	MinRSABits int      // of every key in the peer's chain
	MinECBits  int
}

// ProfileSpec is how a profile is written in the configuration.
type ProfileSpec struct {
	// Base is the named profile to start from: modern or intermediate (Mozilla's names). Default intermediate.
	Base string `yaml:"base"`
	// Versions allowed, of "1.2" and "1.3". Default: those of the base.
	Versions []string `yaml:"versions"`
	// TLS12 is the list of TLS 1.2 CipherSuites allowed, by their IANA or OpenSSL names. Default: those of the base.
	TLS12 []string `yaml:"tls12"`
	// TLS13 is the list of TLS 1.3 CipherSuites allowed. Go's crypto/tls cannot restrict them, so any list but all three is refused by `check`.
	TLS13 []string `yaml:"tls13"`
	// Groups is the list of key exchange groups allowed, for example X25519MLKEM768. Default: those of the base.
	Groups []string `yaml:"groups"`
	// MinRSABits is the smallest RSA key accepted anywhere in a peer's chain, in bits. Default 2048; less is refused.
	MinRSABits int `yaml:"min_rsa_bits"`
}

// Key sizes in bits.
const (
	minRSABits = 2048 // NIST SP 800-131A
	maxRSABits = 8192 // crypto/tls verifies no larger key
	minECBits  = 256
)

// The names of the named profiles.
const (
	profileModern       = "modern"
	profileIntermediate = "intermediate"
)

// NamedProfiles returns the profiles that need no configuration, after Mozilla's
// "Server Side TLS" 5.7: modern is TLS 1.3 alone; intermediate adds TLS 1.2
// with those of its CipherSuites that crypto/tls has, which are all but DHE.
// The ML-KEM hybrid comes first in both. The slices are the caller's own.
func NamedProfiles() []Profile {
	groups := func() []uint16 {
		return mustNumbers(GroupByName, "X25519MLKEM768", "X25519", "secp256r1", "secp384r1")
	}
	return []Profile{
		{
			Name: profileModern, MinVersion: versionTLS13, MaxVersion: versionTLS13,
			Groups: groups(), MinRSABits: minRSABits, MinECBits: minECBits,
		},
		{
			Name: profileIntermediate, MinVersion: versionTLS12, MaxVersion: versionTLS13,
			Suites12: mustNumbers(SuiteByName,
				"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
				"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
				"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
			Groups: groups(), MinRSABits: minRSABits, MinECBits: minECBits,
		},
	}
}

// mustNumbers resolves names of our own; a test proves that it does.
func mustNumbers(resolve func(string) (uint16, error), names ...string) []uint16 {
	out := make([]uint16, len(names))
	for i, name := range names {
		id, err := resolve(name)
		if err != nil {
			panic(fmt.Sprintf("handshake: %v", err))
		}
		out[i] = id
	}
	return out
}

// ResolveProfiles returns the named profiles and the given ones by name. The
// error joins every mistake as a *fielderr.Error with its path below the
// profiles section: "house.tls12[1]".
func ResolveProfiles(specs map[string]ProfileSpec) (map[string]Profile, error) {
	out := make(map[string]Profile, len(specs)+2)
	for _, p := range NamedProfiles() {
		out[p.Name] = p
	}
	plain := regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	word := regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	var list fielderr.List
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		path := name
		if !word.MatchString(name) {
			path = "[" + strconv.Quote(name) + "]"
		}
		if _, named := namedProfile(name); named {
			list.Addf(path, "%s is a named profile and cannot be changed: choose another name, and base: %s", name, name)
			continue
		}
		if !plain.MatchString(name) {
			list.Addf(path, "a profile's name has letters, digits, \"-\", \"_\" and \".\" only")
		}
		p, err := specs[name].Resolve(name)
		if err != nil {
			list.Add(path, err)
			continue
		}
		out[name] = p
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

func namedProfile(name string) (Profile, bool) {
	for _, p := range NamedProfiles() {
		if p.Name == name {
			return p, true
		}
	}
	return Profile{}, false
}

// Resolve makes the profile of that name. The error joins every mistake as a
// *fielderr.Error with its path relative to the profile: "tls12[1]". The
// profile is the zero value then, which allows nothing.
func (s ProfileSpec) Resolve(name string) (Profile, error) {
	var list fielderr.List
	base := s.Base
	if base == "" {
		base = profileIntermediate
	}
	p, ok := namedProfile(base)
	if !ok {
		list.Addf("base", "unknown profile %q%s: the base is one of the named profiles, modern or intermediate",
			s.Base, fielderr.Suggest(s.Base, []string{profileModern, profileIntermediate}))
		p, _ = namedProfile(profileIntermediate) // so that the rest is judged too
	}
	p.Name = name
	s.resolveVersions(&p, &list)
	s.resolveSuites(&p, base, &list)
	s.resolveGroups(&p, &list)
	switch {
	case s.MinRSABits == 0:
	case s.MinRSABits < minRSABits:
		list.Addf("min_rsa_bits", "%d is too small: RSA keys below %d bits are never accepted", s.MinRSABits, minRSABits)
	case s.MinRSABits > maxRSABits:
		list.Addf("min_rsa_bits", "%d is too large: crypto/tls accepts RSA keys of at most %d bits, so no peer would pass", s.MinRSABits, maxRSABits)
	default:
		p.MinRSABits = s.MinRSABits
	}
	if err := list.Err(); err != nil {
		return Profile{}, err
	}
	return p, nil
}

func (s ProfileSpec) resolveVersions(p *Profile, list *fielderr.List) {
	versions := numbers(list, "versions", s.Versions, VersionByName, func(v uint16) error {
		if v < versionTLS12 {
			return fmt.Errorf("%s is obsolete (RFC 8996) and never allowed: write \"1.2\" or \"1.3\"", VersionName(v))
		}
		return nil
	})
	if len(versions) > 0 {
		p.MinVersion, p.MaxVersion = slices.Min(versions), slices.Max(versions)
	}
}

func (s ProfileSpec) resolveSuites(p *Profile, base string, list *fielderr.List) {
	suites12 := numbers(list, "tls12", s.TLS12, SuiteByName, func(id uint16) error {
		switch {
		case IsTLS13Suite(id):
			return fmt.Errorf("%s is a CipherSuite of TLS 1.3: it belongs in tls13", SuiteName(id))
		case !isECDHE(id):
			return fmt.Errorf("%s gives no forward secrecy: only ECDHE is allowed", SuiteName(id))
		case !isAEAD(id):
			return fmt.Errorf("%s is not authenticated encryption: only AES-GCM and ChaCha20-Poly1305 are allowed", SuiteName(id))
		}
		return nil
	})
	suites13 := numbers(list, "tls13", s.TLS13, SuiteByName, func(id uint16) error {
		if !IsTLS13Suite(id) {
			return fmt.Errorf("%s is a CipherSuite of TLS 1.2: it belongs in tls12", SuiteName(id))
		}
		return nil
	})
	switch {
	case p.MinVersion > versionTLS12 && s.TLS12 != nil:
		list.Addf("tls12", "has no effect, for the profile allows TLS 1.3 only: add versions: [\"1.2\", \"1.3\"], or leave the list out")
	case p.MinVersion > versionTLS12:
		p.Suites12 = nil
	case s.TLS12 != nil:
		p.Suites12 = suites12
	case len(p.Suites12) == 0:
		list.Addf("versions", "TLS 1.2 is allowed, but the base %s has no CipherSuites for it: list them in tls12, or take base: intermediate", base)
	}
	switch {
	case p.MaxVersion < versionTLS13 && s.TLS13 != nil:
		list.Addf("tls13", "has no effect, for the profile allows TLS 1.2 only: add \"1.3\" to versions, or leave the list out")
	case len(suites13) < len(allSuites13()):
		p.Suites13 = suites13 // a list of all three demands nothing, like none
	}
}

func (s ProfileSpec) resolveGroups(p *Profile, list *fielderr.List) {
	groups := numbers(list, "groups", s.Groups, GroupByName, func(uint16) error { return nil })
	if s.Groups == nil {
		return
	}
	p.Groups = groups
	// RFC 8446 alone has the hybrids, so a TLS 1.2 client could never pass.
	if len(groups) == len(s.Groups) && len(groups) > 0 && p.MinVersion <= versionTLS12 &&
		!slices.ContainsFunc(groups, func(g uint16) bool { return !groupOnly13(g) }) {
		list.Addf("groups", "none of them exists in TLS 1.2, which the profile allows: add X25519 or secp256r1, or set versions: [\"1.3\"]")
	}
}

// numbers resolves a list. nil stays nil; a list that is there must not be
// empty and must name nothing twice.
func numbers(list *fielderr.List, field string, names []string, resolve func(string) (uint16, error), allowed func(uint16) error) []uint16 {
	if names != nil && len(names) == 0 {
		list.Addf(field, "the list is empty: leave it out to take that of the base")
		return nil
	}
	var out []uint16
	for i, name := range names {
		id, err := resolve(name)
		if err == nil {
			err = allowed(id)
		}
		if err == nil && slices.Contains(out, id) {
			err = errors.New("listed twice")
		}
		if err != nil {
			list.Addf(fmt.Sprintf("%s[%d]", field, i), "%v", err)
			continue
		}
		out = append(out, id)
	}
	return out
}
