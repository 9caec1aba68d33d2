package handshake

import (
	"crypto/x509"
	"time"
)

// What the tests outside the package look at.
const (
	MaxCipherSuites        = maxCipherSuites
	MaxExtensions          = maxExtensions
	MaxGroups              = maxGroups
	MaxKeyShares           = maxKeyShares
	MaxSchemes             = maxSchemes
	MaxHelloRecords        = maxHelloRecords
	SuiteRenegotiationSCSV = suiteRenegotiationSCSV
)

var ChainKey = chainKey

func (a *Authority) Prepare() { a.prepare() }

func (a *Authority) Trusts(c *x509.Certificate) bool { return a.trusts(c) }

// LookedAt says whether a chain was searched for below the authority.
func (a *Authority) LookedAt() bool { return a.names != nil }

// CountChecks verifies the chain of a client as Verify does, and counts the
// signatures checked.
func CountChecks(shown []*x509.Certificate, authorities []*Authority) (chain []*x509.Certificate, checks int) {
	v := &verifier{shown: shown, usage: x509.ExtKeyUsageClientAuth, now: time.Now(), minRSA: 2048, minEC: 256}
	s := v.search(authorities)
	for _, a := range authorities {
		if chain, f := s.under(a); f == nil {
			return chain, s.made
		}
	}
	return nil, s.made
}
