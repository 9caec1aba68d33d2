package revocation

import (
	"errors"

	"github.com/sslgate/sslgate/internal/readfile"
)

// The faults of a revocation list. ParseLists returns them wrapped in an error with the
// details. A list with any of them is not used at all.
var (
	// ErrNotCRL: the data is no revocation list in PEM or DER.
	ErrNotCRL = errors.New("not a revocation list")
	// ErrIndirect: the list speaks for CAs other than its issuer (RFC 5280,
	// section 5.2.5, indirectCRL, or section 5.3.3, certificateIssuer).
	ErrIndirect = errors.New("an indirect revocation list is not supported")
	// ErrDelta: the list holds only the changes since another list (RFC 5280, section
	// 5.2.4).
	ErrDelta = errors.New("a delta revocation list is not supported: name the complete one")
	// ErrPartial: the list leaves out certificates or reasons, and a certificate does not
	// show which (RFC 5280, section 5.2.5).
	ErrPartial = errors.New("a partial revocation list of this kind is not supported")
	// ErrCritical: a critical extension that is not understood; such a list
	// must not be used (RFC 5280, sections 5.2 and 5.3).
	ErrCritical = errors.New("the revocation list has a critical extension that is not understood")
	// ErrIssuer: none of the authority's CAs has the name of the list's issuer.
	ErrIssuer = errors.New("the issuer of the revocation list is no CA of this authority")
	// ErrSignature: a CA has the issuer's name, but it did not sign the list, may not
	// sign lists (key usage cRLSign), or signed with a weak hash.
	ErrSignature = errors.New("the signature of the revocation list is not good")
	// ErrOlder: a newer list of the same issuer is known (CRL number or
	// thisUpdate went backwards).
	ErrOlder = errors.New("older than the revocation list that is known")
	// ErrNotYet: its thisUpdate is in the future, and the known list is still fresh.
	ErrNotYet = errors.New("the revocation list is not valid yet")
	// ErrTooLarge: larger than the bound for a list or for an answer.
	ErrTooLarge = readfile.ErrTooLarge
)

// ErrOCSP means that an OCSP answer says nothing about the certificate; the error that
// wraps it has the details.
var ErrOCSP = errors.New("OCSP answer of no use")
