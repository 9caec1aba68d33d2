package handshake

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/times"
	"github.com/sslgate/sslgate/internal/work"
)

// The bounds of a peer's chain where Params has none.
const (
	defaultMaxChain      = 10
	defaultMaxChainBytes = 64 << 10 // bytes
)

// Verify judges the certificates a peer showed, leaf first: step 6 for a
// client, step 3 for the destination. It returns the peer, verified but not
// proven, or a refusal whose Reason names the first cause a person would name:
// too long, then no path to an authority, then a broken link in that path,
// then time, critical extensions, usage, constraints, then the strength of
// keys and signatures.
//
// The authorities are tried in order, and the first under which the chain
// verifies completely wins. If there is none, the refusal is that of the
// authority under which the chain got furthest.
//
// usage is clientAuth or serverAuth. A certificate without any extended key
// usage may be used for everything (RFC 5280, section 4.2.1.12), so it passes.
// Revocation and names are not looked at here.
//
// How many signatures are checked is bounded by about twice the length of what
// was shown, over all authorities together: see verifysearch.go.
//
// Both the Peer and a refusal's Peer carry what was shown; it is nil only if
// nothing was. usage selects the codes too: those of step 6 for clients, the
// destination's own for servers.
func Verify(shown []*x509.Certificate, authorities []*Authority, usage x509.ExtKeyUsage, p *Params) (*Peer, *Error) {
	peer, _, e := VerifyCost(shown, authorities, usage, p)
	return peer, e
}

// VerifyCost is Verify, and says what it has cost.
func VerifyCost(shown []*x509.Certificate, authorities []*Authority, usage x509.ExtKeyUsage, p *Params) (*Peer, work.Units, *Error) {
	if len(shown) == 0 {
		return nil, 0, Refuse(StepClientCertificate, reason.NoCertificate, "")
	}
	peer := &Peer{Shown: shown}
	v := verifier{
		shown: shown, usage: usage, now: p.Time(), minRSA: p.Profile.MinRSABits, minEC: p.Profile.MinECBits,
		signatures: p.Profile.Signatures, curves: p.Profile.Curves,
	}
	if v.minRSA == 0 {
		v.minRSA = 2048
	}
	if v.minEC == 0 {
		v.minEC = 256
	}
	var spent work.Units
	worst := p.bounds(shown)
	if worst == nil {
		worst = &fault{code: reason.UnknownCA, detail: "no authority is trusted here"}
		search := v.search(authorities)
		for i, a := range authorities {
			chain, f := search.under(a)
			spent = search.spent
			if f == nil {
				peer.Chain, peer.Authority = chain, a.Name
				return peer, spent, nil
			}
			if i == 0 || f.rank() > worst.rank() {
				worst = f
			}
		}
	}
	e := worst.refusal(usage)
	e.Peer = peer
	return nil, spent, e
}

// verifier judges one shown chain.
type verifier struct {
	shown         []*x509.Certificate
	usage         x509.ExtKeyUsage
	now           time.Time
	minRSA, minEC int // bits

	signatures []uint16 // schemes; nil is any but SHA-1
	curves     []uint16 // groups; nil is any
}

// fault is why a chain does not verify under one authority.
type fault struct {
	code   reason.Code
	detail string
	err    error
	named  bool // the issuer has the name of one of the authority's CAs
}

// rank orders faults by how far the chain got: 0 led nowhere.
func (f *fault) rank() int {
	switch {
	case f.code != reason.UnknownCA:
		return 2
	case f.named:
		return 1
	}
	return 0
}

// refusal words a fault for the leg it happened on.
func (f *fault) refusal(usage x509.ExtKeyUsage) *Error {
	step, code, detail := StepClientVerified, f.code, f.detail
	if usage == x509.ExtKeyUsageServerAuth {
		step = StepServerVerified
		switch f.code {
		case reason.UnknownCA:
			code = reason.UpstreamUnknownCA
		case reason.Expired, reason.NotYetValid:
			code = reason.UpstreamExpired
		default:
			code = reason.UpstreamBadCert
		}
		detail = string(f.code) + ": " + detail
	}
	e := Refuse(step, code, detail)
	// The destination gets the alert of the fault itself; what the table has
	// for the upstream codes is what the client gets to see.
	e.Wanted = AlertOf(f.code)
	e.Err = f.err
	return e
}

// WithinBounds says whether Verify would look at the certificates at all: how many
// they are, and how large.
func (p *Params) WithinBounds(shown []*x509.Certificate) bool { return p.bounds(shown) == nil }

// CertificateBytes is how much a peer's certificates may take together, in bytes.
func (p *Params) CertificateBytes() int { return cmp.Or(p.MaxChainBytes, defaultMaxChainBytes) }

// bounds come before any signature is checked.
func (p *Params) bounds(shown []*x509.Certificate) *fault {
	size := 0
	for _, c := range shown {
		size += len(c.Raw)
	}
	if f := p.tooMany(len(shown), size); f != nil {
		return f
	}
	for _, c := range shown {
		if what := oversized(c); what != "" {
			return &fault{code: reason.BadCertificate, detail: what}
		}
	}
	return nil
}

// tooMany holds n certificates of size bytes together against the bounds.
func (p *Params) tooMany(n, size int) *fault {
	maxChain, maxBytes := cmp.Or(p.MaxChain, defaultMaxChain), p.CertificateBytes()
	switch {
	case n > maxChain:
		return &fault{code: reason.ChainTooLong, detail: fmt.Sprintf("%d certificates, at most %d are allowed", n, maxChain)}
	case size > maxBytes:
		return &fault{code: reason.ChainTooLong, detail: fmt.Sprintf("%d bytes of certificates, at most %d are allowed", size, maxBytes)}
	}
	return nil
}

// RefusesChain refuses n certificates of size bytes together as Verify would, before any of
// them is parsed; nil where they are within the bounds. usage is that of the peer.
func (p *Params) RefusesChain(n, size int, usage x509.ExtKeyUsage) *Error {
	if f := p.tooMany(n, size); f != nil {
		return f.refusal(usage)
	}
	return nil
}

// TooManyCertificates refuses a Certificate message of n bytes that nobody has
// decoded, of which at most most are read. usage is that of the peer.
func TooManyCertificates(n, most int, usage x509.ExtKeyUsage) *Error {
	f := &fault{code: reason.ChainTooLong, detail: fmt.Sprintf("a Certificate message of %d bytes, at most %d are read", n, most)}
	return f.refusal(usage)
}

// explain words an error of crypto/x509 about a path that does lead to the
// authority.
func (v *verifier) explain(path []*x509.Certificate, err error) *fault {
	f := &fault{code: reason.BadCertificate, detail: v.about(v.shown[0]), err: err}
	var invalid x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	if errors.As(err, &critical) {
		f.code = reason.UnknownCritical
		for _, c := range path {
			if len(c.UnhandledCriticalExtensions) > 0 {
				f.detail = fmt.Sprintf("%s: extension %s", v.about(c), c.UnhandledCriticalExtensions[0])
				break
			}
		}
		return f
	}
	if !errors.As(err, &invalid) {
		return f
	}
	// What was judged are copies without their names (byX509).
	if i := slices.IndexFunc(path, func(c *x509.Certificate) bool { return invalid.Cert != nil && c.Equal(invalid.Cert) }); i >= 0 {
		invalid.Cert = path[i]
	}
	if invalid.Cert != nil {
		f.detail = v.about(invalid.Cert)
	}
	switch invalid.Reason {
	case x509.Expired:
		f.code = reason.Expired
		f.detail += ": not after " + times.RFC3339(invalid.Cert.NotAfter)
		if v.now.Before(invalid.Cert.NotBefore) {
			f.code = reason.NotYetValid
			f.detail = v.about(invalid.Cert) + ": not before " + times.RFC3339(invalid.Cert.NotBefore)
		}
	case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
		f.code = reason.WrongUsage
	case x509.TooManyIntermediates, x509.NotAuthorizedToSign:
		f.code = reason.NotACA
	case x509.CANotAuthorizedForThisName, x509.UnconstrainedName, x509.TooManyConstraints:
		f.code = reason.NameConstraint
		f.detail += ": " + Shortened(invalid.Detail, MaxNameLength)
	}
	return f
}

// about names a certificate: subject and serial number.
func (v *verifier) about(c *x509.Certificate) string {
	return fmt.Sprintf("\"%s\", serial %x", certname.Shown(c.RawSubject, MaxNameLength), c.SerialNumber)
}
