package handshake

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/keykind"
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

	// Order says whose order of TLS 1.2 CipherSuites and of groups decides.
	Order Order
	// Signatures are the signature schemes accepted of the peer: in its proof
	// of possession (CertificateVerify, ServerKeyExchange) and, with
	// rsa_pkcs1_* in every version, on the certificates of its chain (RFC 8446,
	// section 4.2.3). nil means whatever crypto/tls takes, without SHA-1.
	Signatures []uint16
	// Curves are the groups whose curve an ECDSA key of the peer's chain may
	// lie on. nil means any of at least MinECBits.
	Curves []uint16
	// RequireEMS refuses TLS 1.2 without extended_master_secret (RFC 7627).
	RequireEMS bool
	// Cap12 is the answer where the engine cannot keep Suites13: such a
	// connection is held at TLS 1.2, where the list can be kept. False refuses.
	Cap12 bool
	// Engine makes the handshakes with clients, and those with destinations if it
	// speaks every version of the profile there: see Capabilities.Dials.
	Engine EngineKind `json:",omitempty"` // policies without it keep their digest
}

// Order says whose preference decides among what both sides have. TLS 1.3
// CipherSuites always go by crypto/tls's own, see Engine.Cannot.
type Order uint8

// The orders.
const (
	// OrderFast is crypto/tls's own: AES-GCM first with hardware for it, ML-KEM
	// hybrids, then groups the client sent a key share of.
	OrderFast Order = iota
	// OrderServer is that of the profile's lists. A group that the client has
	// but sent no share of costs a HelloRetryRequest.
	OrderServer
	// OrderClient is that of the client's lists.
	OrderClient
)

// String is the word of the configuration.
func (o Order) String() string {
	switch o {
	case OrderServer:
		return "server"
	case OrderClient:
		return "client"
	}
	return "fast"
}

// ProfileSpec is how a profile is written in the configuration.
type ProfileSpec struct {
	// Base is the named profile to start from: modern, intermediate, pq, cnsa1, cnsa2, fips, bsi or legacy-rsa (`sslgate profiles` shows them). Default intermediate.
	Base string `yaml:"base"`
	// Versions allowed, of "1.2" and "1.3". Default: those of the base.
	Versions []string `yaml:"versions"`
	// TLS12 is the list of TLS 1.2 CipherSuites allowed, by their IANA or OpenSSL names. Default: those of the base.
	TLS12 []string `yaml:"tls12"`
	// TLS13 is the list of TLS 1.3 CipherSuites allowed. Go's crypto/tls cannot restrict them, so any list but all three needs engine: native, inexpressible: native or inexpressible: cap-1.2.
	TLS13 []string `yaml:"tls13"`
	// Groups is the list of key exchange groups allowed, for example X25519MLKEM768. Default: those of the base.
	Groups []string `yaml:"groups"`
	// MinRSABits is the smallest RSA key accepted anywhere in a peer's chain, in bits. Default 2048; less is refused.
	MinRSABits int `yaml:"min_rsa_bits"`
	// Curves is the list of curves an ECDSA key in a peer's chain may lie on: secp256r1, secp384r1, secp521r1. Default: those of the base, else any.
	Curves []string `yaml:"curves"`
	// Signatures is the list of signature schemes accepted of a peer, in its proof of possession and on the certificates of its chain, for example ecdsa_secp384r1_sha384; rsa_pkcs1_* stands for certificates and TLS 1.2. Default: those of the base, else all that crypto/tls has but SHA-1.
	Signatures []string `yaml:"signatures"`
	// Order decides among what both sides have, TLS 1.2 CipherSuites and groups: "fast" (crypto/tls's own: AES with hardware for it, ML-KEM hybrids, then what the client sent a key share of), "server" (that of the lists here; a group may cost a HelloRetryRequest) or "client". Default that of the base, else fast.
	Order string `yaml:"order"`
	// RequireEMS refuses TLS 1.2 without extended_master_secret (RFC 7627). Default that of the base.
	RequireEMS bool `yaml:"require_ems"`
	// Engine makes the handshakes with clients: "std" (Go's crypto/tls, the default) or "native" (sslgate's own, which keeps the lists of TLS 1.3 exactly). It has ECDHE with AES-GCM or ChaCha20-Poly1305 in TLS 1.2, and no RSA key transport. With native and TLS 1.3 alone, handshakes with destinations are its own too; those that may become TLS 1.2 are crypto/tls's: `check` says what it cannot keep there.
	Engine string `yaml:"engine"`
	// Inexpressible is the answer where crypto/tls cannot keep tls13: "refuse" (the default: `check` reports an error), "native" (the profile has engine: native then, and else std) or "cap-1.2" (a connection that would end up outside the list is held at TLS 1.2; a client with TLS 1.3 alone is refused then).
	Inexpressible string `yaml:"inexpressible"`
}

// Key sizes in bits.
const (
	minRSABits = 2048 // NIST SP 800-131A
	minECBits  = 256
)

// ResolveProfiles returns the named profiles and the given ones, of what an
// engine is able to do, by name. The
// error joins every mistake as a *fielderr.Error with its path below the
// profiles section: "house.tls12[1]".
func ResolveProfiles(specs map[string]ProfileSpec, able *Capabilities) (map[string]Profile, error) {
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
		if _, named := NamedProfile(name); named {
			list.Addf(path, "%s is a named profile and cannot be changed: choose another name, and base: %s", name, name)
			continue
		}
		if !plain.MatchString(name) {
			list.Addf(path, "a profile's name has letters, digits, \"-\", \"_\" and \".\" only")
		}
		p, err := specs[name].Resolve(name, able)
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

// NamedProfile is one of NamedProfiles; ok says whether there is one of that name.
func NamedProfile(name string) (p Profile, ok bool) {
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
func (s ProfileSpec) Resolve(name string, able *Capabilities) (Profile, error) {
	var list fielderr.List
	base := s.Base
	if base == "" {
		base = profileIntermediate
	}
	p, ok := NamedProfile(base)
	if !ok {
		list.Addf("base", "unknown profile %q%s: the base is one of the named profiles, %s",
			s.Base, fielderr.Suggest(s.Base, profileNames()), strings.Join(profileNames(), ", "))
		p, _ = NamedProfile(profileIntermediate) // so that the rest is judged too
	}
	p.Name = name
	able = s.resolveEngine(&p, able, &list)
	s.resolveVersions(&p, able, &list)
	s.resolveSuites(&p, base, able, &list)
	s.resolveGroups(&p, able, &list)
	s.resolveStrength(&p, able, &list)
	checkSignatures(&p, &list)
	switch {
	case s.MinRSABits == 0:
	case s.MinRSABits < minRSABits:
		list.Addf("min_rsa_bits", "%d is too small: RSA keys below %d bits are never accepted", s.MinRSABits, minRSABits)
	case s.MinRSABits > keykind.MaxRSABits:
		list.Addf("min_rsa_bits", "%d is too large: crypto/tls accepts RSA keys of at most %d bits, so no peer would pass", s.MinRSABits, keykind.MaxRSABits)
	default:
		p.MinRSABits = s.MinRSABits
	}
	if err := list.Err(); err != nil {
		return Profile{}, err
	}
	if s.Inexpressible == "native" && p.Suites13 != nil {
		p.Engine = EngineNative
	}
	return p, nil
}

// resolveEngine says whose names count: those of the profile's engine.
func (s ProfileSpec) resolveEngine(p *Profile, able *Capabilities, list *fielderr.List) *Capabilities {
	kinds := map[string]EngineKind{"": p.Engine, "std": EngineStd, "native": EngineNative}
	kind, ok := kinds[s.Engine]
	field := "engine"
	switch {
	case !ok:
		list.Addf(field, "unknown engine %q%s: std or native", s.Engine, fielderr.Suggest(s.Engine, []string{"std", "native"}))
	case s.Inexpressible == "native" && s.Engine == "std":
		list.Addf("inexpressible", "native is another engine than engine: std: leave one of them out")
	case s.Inexpressible == "native" && kind == EngineStd:
		field = "inexpressible"
	}
	if (kind == EngineNative || field == "inexpressible") && able.Native == nil {
		list.Addf(field, "there is no native engine beside %s", able.Engine)
		return able
	}
	p.Engine = kind
	return able.Of(kind)
}

func (s ProfileSpec) resolveVersions(p *Profile, able *Capabilities, list *fielderr.List) {
	versions := numbers(list, "versions", s.Versions, able.VersionByName, func(v uint16) error {
		if v < versionTLS12 {
			return fmt.Errorf("%s is obsolete (RFC 8996) and never allowed: write \"1.2\" or \"1.3\"", VersionName(v))
		}
		return nil
	})
	if len(versions) > 0 {
		p.MinVersion, p.MaxVersion = slices.Min(versions), slices.Max(versions)
	}
}

func (s ProfileSpec) resolveSuites(p *Profile, base string, able *Capabilities, list *fielderr.List) {
	suites12 := numbers(list, "tls12", s.TLS12, able.SuiteByName, func(id uint16) error {
		switch {
		case IsTLS13Suite(id):
			return fmt.Errorf("%s is a CipherSuite of TLS 1.3: it belongs in tls13", SuiteName(id))
		case base == profileLegacyRSA && slices.Contains(keyTransport(), id):
			return nil
		case !IsECDHE(id):
			return fmt.Errorf("%s gives no forward secrecy: only ECDHE is allowed", SuiteName(id))
		case !isAEAD(id):
			return fmt.Errorf("%s is not authenticated encryption: only AES-GCM and ChaCha20-Poly1305 are allowed", SuiteName(id))
		}
		return nil
	})
	suites13 := numbers(list, "tls13", s.TLS13, able.SuiteByName, func(id uint16) error {
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
	case p.MaxVersion < versionTLS13, len(suites13) == len(Suites13()):
		p.Suites13 = nil // a list of all three demands nothing, like none
	case s.TLS13 != nil:
		p.Suites13 = suites13
	}
}

func (s ProfileSpec) resolveGroups(p *Profile, able *Capabilities, list *fielderr.List) {
	groups := numbers(list, "groups", s.Groups, able.GroupByName, func(uint16) error { return nil })
	if s.Groups == nil {
		return
	}
	p.Groups = groups
	// RFC 8446 alone has the hybrids, so a TLS 1.2 client could never pass.
	if len(groups) == len(s.Groups) && len(groups) > 0 && p.MinVersion <= versionTLS12 &&
		!slices.ContainsFunc(groups, func(g uint16) bool { return !GroupOnly13(g) }) {
		list.Addf("groups", "none of them exists in TLS 1.2, which the profile allows: add X25519 or secp256r1, or set versions: [\"1.3\"]")
	}
}

// resolveStrength is what was added to the lists: curves, signatures, order and
// the answer to what cannot be kept.
func (s ProfileSpec) resolveStrength(p *Profile, able *Capabilities, list *fielderr.List) {
	curves := numbers(list, "curves", s.Curves, able.GroupByName, func(id uint16) error {
		if !slices.Contains([]uint16{uint16(tls.CurveP256), uint16(tls.CurveP384), uint16(tls.CurveP521)}, id) {
			return fmt.Errorf("%s is no curve of ECDSA keys: secp256r1, secp384r1 and secp521r1 are", GroupName(id))
		}
		return nil
	})
	if s.Curves != nil {
		p.Curves = curves
	}
	signatures := numbers(list, "signatures", s.Signatures, able.SchemeByName, func(id uint16) error {
		if id == uint16(tls.PKCS1WithSHA1) || id == uint16(tls.ECDSAWithSHA1) {
			return fmt.Errorf("%s rests on SHA-1, which is never accepted (RFC 9155)", SchemeName(id))
		}
		return nil
	})
	if s.Signatures != nil {
		p.Signatures = signatures
	}
	p.RequireEMS = p.RequireEMS || s.RequireEMS
	orders := map[string]Order{"": p.Order, "fast": OrderFast, "server": OrderServer, "client": OrderClient}
	order, ok := orders[s.Order]
	if !ok {
		list.Addf("order", "unknown order %q%s: fast, server or client", s.Order, fielderr.Suggest(s.Order, []string{"fast", "server", "client"}))
	}
	p.Order = order
	switch s.Inexpressible {
	case "", "native":
	case "refuse":
		p.Cap12 = false
	case "cap-1.2":
		p.Cap12 = true
	default:
		list.Addf("inexpressible", "unknown answer %q%s: refuse, native or cap-1.2", s.Inexpressible, fielderr.Suggest(s.Inexpressible, []string{"refuse", "native", "cap-1.2"}))
	}
}

// checkSignatures reports a version of which each handshake would be refused, for nobody
// could sign it: rsa_pkcs1_* signs none of TLS 1.3 (RFC 8446, section 4.2.3), ML-DSA none
// of TLS 1.2 (draft-ietf-tls-mldsa). RSA key transport signs nothing.
func checkSignatures(p *Profile, list *fielderr.List) {
	left := map[uint16]string{versionTLS12: "mldsa", versionTLS13: "rsa_pkcs1_"}
	for v := max(p.MinVersion, versionTLS12); v <= p.MaxVersion && len(p.Signatures) > 0; v++ {
		signs := slices.ContainsFunc(p.Signatures, func(id uint16) bool { return !strings.HasPrefix(SchemeName(id), left[v]) })
		if !signs && (v > versionTLS12 || !slices.ContainsFunc(p.Suites12, func(id uint16) bool { return !IsECDHE(id) })) {
			list.Addf("signatures", "none of them signs a handshake of %s, which the profile allows, so each would be refused: add one that does, or take the version out", VersionName(v))
		}
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
