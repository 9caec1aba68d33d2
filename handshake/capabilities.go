package handshake

import "slices"

// Capabilities is what an engine implements, by the numbers of IANA's registries.
// A configuration can name nothing else. It never changes.
type Capabilities struct {
	// Engine is the engine's name in messages: "Go's crypto/tls".
	Engine string
	// Versions, CipherSuites of all versions, groups and signature schemes.
	Versions, Suites, Groups, Schemes []uint16
	// Native is what profiles with EngineNative can name; nil where there is no such
	// engine.
	Native *Capabilities
	// Destinations are the versions that the engine itself speaks with destinations; nil
	// is all of Versions. See Dials.
	Destinations []uint16
}

// Dials says whether the engine makes the handshakes with destinations of a profile: it
// speaks every version of it there. Where it does not, EngineStd makes them, for nobody
// knows before the destination's answer which version it will be.
func (c *Capabilities) Dials(p *Profile) bool {
	has := c.Destinations
	if has == nil {
		has = c.Versions
	}
	for v := p.MinVersion; v <= p.MaxVersion; v++ {
		if !slices.Contains(has, v) {
			return false
		}
	}
	return p.MinVersion <= p.MaxVersion
}

// EngineKind says which engine makes the handshakes of a profile.
type EngineKind uint8

// The engines.
const (
	EngineStd    EngineKind = iota // Go's crypto/tls
	EngineNative                   // sslgate's own
)

// String is the word of the configuration.
func (k EngineKind) String() string {
	if k == EngineNative {
		return "native"
	}
	return "std"
}

// Of is what that engine implements; nil where there is none.
func (c *Capabilities) Of(k EngineKind) *Capabilities {
	if k == EngineNative {
		return c.Native
	}
	return c
}

// VersionByName resolves "1.2", "TLS 1.2", "TLSv1.2" and the like to a
// version of the engine's. Whether it is allowed is the caller's question.
func (c *Capabilities) VersionByName(name string) (uint16, error) {
	return numberOf(versionTable[:], "TLS version", name, c.Engine, in(c.Versions))
}

// SuiteByName resolves the IANA or OpenSSL name of a CipherSuite that the engine
// implements, of TLS 1.2 or 1.3 (see IsTLS13Suite), without regard to case. The
// error says whether the name is unknown, with a suggestion, or known but not
// implemented.
func (c *Capabilities) SuiteByName(name string) (uint16, error) {
	return numberOf(suiteCodes(), "CipherSuite", name, c.Engine, in(c.Suites))
}

// GroupByName resolves the name of a group that the engine implements: the IANA
// name, or P-256, prime256v1 and the like.
func (c *Capabilities) GroupByName(name string) (uint16, error) {
	return numberOf(groupTable[:], "group", name, c.Engine, in(c.Groups))
}

// SchemeByName resolves the IANA name of a signature scheme that the engine
// implements.
func (c *Capabilities) SchemeByName(name string) (uint16, error) {
	return numberOf(schemeTable[:], "signature scheme", name, c.Engine, in(c.Schemes))
}

func in(list []uint16) func(uint16) bool {
	return func(id uint16) bool { return slices.Contains(list, id) }
}

// Widest is everything that the engine can do from TLS 1.2 on, secure or not: for
// flows that are only observed, where the alternative is that they end. The
// demands on the keys in a chain are the usual ones, for what is found too weak is
// reported and not refused.
func (c *Capabilities) Widest() Profile {
	return Profile{
		Name: "observed", MinVersion: versionTLS12, MaxVersion: slices.Max(c.Versions),
		Suites12: slices.DeleteFunc(slices.Clone(c.Suites), IsTLS13Suite), Groups: slices.Clone(c.Groups),
		MinRSABits: minRSABits, MinECBits: minECBits,
	}
}

// suiteCodes is the table of CipherSuites in the form of the other registries.
func suiteCodes() []code {
	table := make([]code, 0, len(suiteTable))
	for _, e := range suiteTable {
		c := code{id: e.id, name: e.name}
		if e.openssl != "" {
			c.alias = []string{e.openssl}
		}
		table = append(table, c)
	}
	return table
}
