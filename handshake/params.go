package handshake

import (
	"crypto/tls"
	"crypto/x509"
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

// Authority is a named set of trust anchors. Which names it may speak for is
// policy's business, not the handshake's.
type Authority struct {
	Name  string
	Roots []*x509.Certificate
}

// Params is the plan of one handshake: everything that policy decided about
// it. It is immutable once built and shared by many flows.
type Params struct {
	Profile Profile // versions, CipherSuites, groups, minimum key sizes

	// Server side: the certificates to show (step 2), at least one.
	// Client side: the identity to answer a certificate request with, may be empty.
	Certificates []tls.Certificate

	// ClientAuth is used by the server side only.
	ClientAuth ClientAuth
	// Authorities the peer's chain may lead to. Server side: those of client
	// certificates, also announced as acceptable CA names. Client side: those
	// of the destination. Empty trusts nobody.
	Authorities []*Authority

	// ALPN protocols in order of preference. Server side: nil means the
	// client's list is ignored and none is chosen; no overlap is alert 120.
	// Client side: what is offered.
	ALPN []string

	// ServerName is used by the client side only: the name sent as SNI and
	// verified, see VerifyName for a different one to verify.
	ServerName string
	// VerifyName is the DNS name or IP address literal that the destination's
	// certificate must be for. Client side only. It must not be empty.
	VerifyName string

	// MaxChain bounds the number of certificates a peer may show, and
	// MaxChainBytes their total size in bytes; checked before any signature
	// is. Zero means 10 and 64 KiB: more than any real chain, little memory.
	MaxChain      int
	MaxChainBytes int

	// Now is the clock; nil means time.Now. Tests and `explain` set it.
	Now func() time.Time
}
