package handshake

import (
	"context"
	"crypto/tls"
	"time"
)

// ClientAuth says whether the server asks for a client certificate (step 2)
// and what an absent one means (step 5). The zero value requires one.
type ClientAuth uint8

// The client authentication modes.
const (
	ClientAuthRequired ClientAuth = iota // "no certificate" is fatal
	ClientAuthOptional                   // "no certificate" is a warning; a bad one is refused
	ClientAuthNone                       // not asked
)

// String is the word of the configuration.
func (c ClientAuth) String() string {
	switch c {
	case ClientAuthOptional:
		return "optional"
	case ClientAuthNone:
		return "none"
	}
	return "required"
}

// LedgerMode says how much of the handshake a ledger holds.
type LedgerMode uint8

// The ledger modes.
const (
	// LedgerFull notes every message with its time, size and facts.
	LedgerFull LedgerMode = iota
	// LedgerSteps notes what was decided, alerts and how far the steps came,
	// not the single messages: cheaper.
	LedgerSteps
)

// String is the word of the configuration.
func (m LedgerMode) String() string {
	if m == LedgerSteps {
		return "steps"
	}
	return "full"
}

// Params is what the plans of both sides have in common: what policy demands of
// a handshake and of the peer's certificates. It is immutable once built and
// shared by many flows.
type Params struct {
	Profile Profile // versions, CipherSuites, groups, minimum key sizes

	// Certificates are our own: see ServerParams and ClientParams.
	Certificates []tls.Certificate

	// Authorities the peer's chain may lead to. Empty trusts nobody.
	Authorities []*Authority

	// ALPN protocols in order of preference: see ServerParams and ClientParams.
	ALPN []string

	// MaxChain bounds the number of certificates a peer may show, and
	// MaxChainBytes their total size in bytes; checked before any signature
	// is. Zero means 10 and 64 KiB: more than any real chain, little memory.
	MaxChain      int
	MaxChainBytes int

	// Epoch changes whenever something changes that may make a certificate bad
	// that was good before (a new CRL, another policy): chains verified under
	// another epoch are verified again.
	Epoch uint64

	// Ledger is how much is noted. Where the profile has Signatures, the engine
	// must read every message in any case.
	Ledger LedgerMode

	// Observe judges the peer as ever but refuses nothing that the handshake
	// itself does not need. What an engine does with it:
	//
	//   - Server: a certificate is asked for as if ClientAuth were
	//     ClientAuthOptional (RequestClientCert) unless it is ClientAuthNone,
	//     and an absent one is no refusal: CheckPeer is called with a nil Peer;
	//   - both: where Verify, or the check of VerifyName, refuses the
	//     chain, the handshake goes on. CheckPeer is called with a Peer that
	//     has Shown and Refusal, and neither Chain nor Authority;
	//   - what CheckPeer returns still counts: policy returns nil for what is
	//     only observed;
	//   - still fatal, with the reason and alert as ever: a certificate that
	//     crypto/x509 cannot parse, MaxChain and MaxChainBytes, a
	//     CertificateVerify that does not fit (possession), and no version,
	//     CipherSuite, group, signature algorithm or ALPN protocol in common.
	//
	// The Profile counts as it stands: it is policy that gives a flow whose
	// hello does not fit the rule's a wider one. A peer that is not refused
	// sees the same bytes with and without Observe, but for one thing: TLS 1.2
	// and 1.3 have no bit on the wire that says whether a certificate is
	// required, so the CertificateRequest is the same too.
	Observe bool

	// Now is the clock; nil means time.Now. Tests and `explain` set it.
	Now func() time.Time
}

// Identity is the source of our certificates towards clients, as they are at the
// moment: they may be renewed, with their OCSP responses, while plans stay the same.
// Safe for many goroutines.
type Identity interface {
	// OnDemand says that a certificate is made for each hello, so that one that no
	// handshake can come of must not ask for it.
	OnDemand() bool
	// For is what one client is shown, the preferred one first; OCSPStaple is set
	// where there is a response that is good now. Its error ends the flow before
	// anything is sent; a *Error keeps its reason and alert. h is nil only where
	// OnDemand is false.
	For(ctx context.Context, h *ClientHello, now time.Time) ([]tls.Certificate, error)
}

// ServerParams is the plan of a handshake with an intercepted client.
// Certificates are those to show (step 2), at least one. Authorities are those of
// client certificates. ALPN nil means the client's list is ignored and none is
// chosen; no overlap is alert 120.
type ServerParams struct {
	Params

	// Identity, where set, gives the certificates to show to one client, in place
	// of Certificates, which then only say of what kind they will be: a hello is
	// judged by them.
	Identity Identity

	// ClientAuth says whether a certificate is asked for.
	ClientAuth ClientAuth

	// AcceptableCAs are the subjects (DER of a Name, RFC 5280, section 4.1.2.6)
	// announced in the CertificateRequest. nil means those of
	// Authorities; an empty list announces none, and so does one that does not
	// fit: see CANames. What is trusted is Authorities alone.
	AcceptableCAs [][]byte

	// AnswersNone says that no ALPN is the last word: nobody else is asked for
	// an answer. A client whose protocols all need one is refused then
	// (RefusesProtocols).
	AnswersNone bool
	// AnyProtocol refuses no ALPN offer: a client that has none of ALPN in common
	// goes on without an answer.
	AnyProtocol bool

	// Ticket allows resumption; nil sends and takes no tickets. Under Observe
	// there are none either.
	Ticket *TicketRule
}

// ClientParams is the plan of a handshake with a destination. Certificates are
// the identity to answer a certificate request with, may be empty. Authorities
// are those of the destination. ALPN is what is offered.
type ClientParams struct {
	Params

	// ServerName is the name sent as SNI; see VerifyName for the one to verify.
	ServerName string
	// VerifyName is the DNS name or IP address literal that the destination's
	// certificate must be for. It must not be empty unless Insecure.
	VerifyName string

	// Pins are SHA-256 sums of the SubjectPublicKeyInfo that the destination's
	// own certificate may have (RFC 7469, section 2.4), besides every other
	// demand; empty pins nothing.
	Pins [][32]byte
	// Insecure verifies neither chain nor name of the destination, only that it
	// holds the key of the certificate it shows, and Pins.
	Insecure bool
}

// Time is the clock of a handshake.
func (p *Params) Time() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}
