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
			suites = allSuites13()
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
