package revocation

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

func sha256Sum(b []byte) [32]byte { return sha256.Sum256(b) }

var (
	oidDelta  = asn1.ObjectIdentifier{2, 5, 29, 27} // deltaCRLIndicator
	oidIDP    = asn1.ObjectIdentifier{2, 5, 29, 28} // issuingDistributionPoint
	oidNumber = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidAKI    = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// scope says for which certificates of its issuer a list speaks; the zero value means
// all. It comes from issuingDistributionPoint (RFC 5280, section 5.2.5).
type scope struct {
	usersOnly bool
	casOnly   bool
	uris      []string // distribution points; nil means that the list is no shard
}

// covers says whether a list of this scope would have the certificate if it were revoked.
// A shard speaks for the certificates that name it (RFC 5280, section 6.3.3, step
// (b)(2)(i)).
func (s scope) covers(c *x509.Certificate) bool {
	if s.usersOnly && c.IsCA || s.casOnly && !c.IsCA {
		return false
	}
	return s.uris == nil || slices.ContainsFunc(c.CRLDistributionPoints, func(u string) bool { return slices.Contains(s.uris, u) })
}

// key differs for lists of one issuer that do not replace each other.
func (s scope) key() string {
	return fmt.Sprintf("%t %t %q", s.usersOnly, s.casOnly, s.uris)
}

// scopeOf reads the extensions of a list and refuses what cannot be used.
func scopeOf(l *x509.RevocationList) (scope, error) {
	var sc scope
	seen := map[string]bool{}
	for _, ext := range l.Extensions {
		id := ext.Id.String()
		if seen[id] {
			return scope{}, fmt.Errorf("%w: extension %s is there twice", ErrNotCRL, id)
		}
		seen[id] = true
		switch {
		case ext.Id.Equal(oidDelta):
			return scope{}, ErrDelta
		case ext.Id.Equal(oidIDP):
			var err error
			if sc, err = parseIDP(ext.Value); err != nil {
				return scope{}, err
			}
		case ext.Id.Equal(oidNumber), ext.Id.Equal(oidAKI):
		case ext.Critical:
			return scope{}, fmt.Errorf("%w: %s", ErrCritical, id)
		}
	}
	return sc, nil
}

// parseIDP reads IssuingDistributionPoint:
//
//	SEQUENCE { distributionPoint [0] DistributionPointName OPTIONAL,
//	  onlyContainsUserCerts [1], onlyContainsCACerts [2] BOOLEAN DEFAULT FALSE,
//	  onlySomeReasons [3] ReasonFlags OPTIONAL,
//	  indirectCRL [4], onlyContainsAttributeCerts [5] BOOLEAN DEFAULT FALSE }
func parseIDP(der []byte) (scope, error) {
	const context = cbasn1.Tag(0x80)
	malformed := fmt.Errorf("%w: issuingDistributionPoint cannot be decoded", ErrNotCRL)
	in := cryptobyte.String(der)
	var seq, point cryptobyte.String
	var hasPoint bool
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadOptionalASN1(&point, &hasPoint, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return scope{}, malformed
	}
	flag := [6]bool{}
	for n := 1; n <= 5; n++ {
		var v cryptobyte.String
		var present bool
		if !seq.ReadOptionalASN1(&v, &present, context|cbasn1.Tag(n)) {
			return scope{}, malformed
		}
		if flag[n] = present; n != 3 && present {
			if len(v) != 1 {
				return scope{}, malformed
			}
			flag[n] = v[0] != 0
		}
	}
	switch {
	case !seq.Empty(), flag[1] && flag[2]:
		return scope{}, malformed
	case flag[4]:
		return scope{}, fmt.Errorf("%w: indirectCRL is set in its issuingDistributionPoint", ErrIndirect)
	case flag[3]:
		return scope{}, fmt.Errorf("%w: it covers only some reasons (onlySomeReasons)", ErrPartial)
	case flag[5]:
		return scope{}, fmt.Errorf("%w: it covers attribute certificates only", ErrPartial)
	}
	sc := scope{usersOnly: flag[1], casOnly: flag[2]}
	if !hasPoint {
		return sc, nil
	}
	// DistributionPointName ::= CHOICE { fullName [0] GeneralNames, nameRelativeToCRLIssuer [1] }
	var names cryptobyte.String
	if !point.ReadASN1(&names, cbasn1.Tag(0).ContextSpecific().Constructed()) || !point.Empty() {
		return scope{}, fmt.Errorf("%w: its distribution point has no full name", ErrPartial)
	}
	for !names.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return scope{}, malformed
		}
		if tag == context|6 { // uniformResourceIdentifier
			sc.uris = append(sc.uris, string(name))
		}
	}
	if sc.uris == nil {
		return scope{}, fmt.Errorf("%w: its distribution point has no URI", ErrPartial)
	}
	slices.Sort(sc.uris)
	return sc, nil
}
