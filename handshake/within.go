package handshake

import "slices"

// Within says whether every handshake that p allows is one that o allows too,
// as far as a peer is concerned: the order of preference says nothing of it.
func (p *Profile) Within(o *Profile) bool {
	twelve, thirteen := p.MinVersion <= versionTLS12, p.MaxVersion >= versionTLS13
	switch {
	case p.MinVersion < o.MinVersion || p.MaxVersion > o.MaxVersion,
		twelve && !containsAll(o.Suites12, p.Suites12),
		twelve && o.RequireEMS && !p.RequireEMS,
		!containsAll(o.Groups, p.Groups),
		p.MinRSABits < o.MinRSABits || p.MinECBits < o.MinECBits:
		return false
	}
	if thirteen && o.Suites13 != nil {
		suites := p.Suites13
		if suites == nil {
			suites = Suites13()
		}
		if !containsAll(o.Suites13, suites) {
			return false
		}
	}
	return narrower(p.Signatures, o.Signatures) && narrower(p.Curves, o.Curves)
}

// narrower compares lists of which nil is everything.
func narrower(p, o []uint16) bool {
	return o == nil || p != nil && !slices.ContainsFunc(p, func(id uint16) bool { return !slices.Contains(o, id) })
}

func containsAll(have, want []uint16) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// Allows says whether what was negotiated lies within the profile: crypto/tls
// decides the TLS 1.3 CipherSuite without asking. group 0 is not known yet,
// or RSA key transport.
func (p *Profile) Allows(version, suite, group uint16) (what string, ok bool) {
	switch {
	case version < p.MinVersion || version > p.MaxVersion:
		return VersionName(version), false
	case version >= versionTLS13 && p.Suites13 != nil && !slices.Contains(p.Suites13, suite),
		version < versionTLS13 && !slices.Contains(p.Suites12, suite):
		return SuiteName(suite), false
	case group != 0 && !slices.Contains(p.Groups, group):
		return GroupName(group), false
	}
	return "", true
}
