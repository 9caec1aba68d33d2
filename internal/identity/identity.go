// Package identity has the sources of our own certificates. A policy names an
// identity and holds what it must be; its source gives the certificates of the
// moment: chain, key, OCSP response. So a certificate that is renewed is no other
// policy, and tickets of before go on to be good.
package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/keyusage"
)

// Source gives the certificates of an identity, to clients and to destinations. It is
// safe for many goroutines.
type Source interface {
	// Identity is the side of the server: what a client is shown.
	handshake.Identity
	// Certificates are those of the moment, the preferred one first, without OCSP
	// responses: what a destination is shown. Where they are made on demand it is
	// one of the kind that is made, which is never shown.
	Certificates() []tls.Certificate
	// Is says what the certificates are. It never changes.
	Is() []Kind
}

// Kind is what one certificate of an identity is. It is part of the policy, and what
// else is in a certificate is not: a renewed one of the same kind takes its place
// silently. One of another kind makes another policy, with which tickets end.
type Kind struct {
	Key    string   // kind of key and its size: "ECDSA P-256", "RSA 2048"
	Names  []string // subject alternative names, or the patterns of those made on demand; sorted
	Server bool     // good for server authentication
	Client bool     // good for client authentication
	Made   bool     `json:",omitempty"` // made on demand
}

// kindOf is the Kind of a certificate.
func kindOf(leaf *x509.Certificate) Kind {
	k := Kind{Key: keykind.NameOf(leaf.PublicKey), Server: keyusage.Serves(leaf, x509.ExtKeyUsageServerAuth), Client: keyusage.Serves(leaf, x509.ExtKeyUsageClientAuth)}
	for _, n := range certname.Alt(leaf.Extensions) {
		k.Names = append(k.Names, fmt.Sprint(n))
	}
	slices.Sort(k.Names)
	return k
}

// File is the source of certificates that were read from files. OCSP responses are
// replaced while it is used.
type File struct {
	certs   []tls.Certificate
	staples []*handshake.Staple // by index; may be shorter, and have nil entries
	kinds   []Kind
}

// NewFile makes a source of certificates with their OCSP responses, by index, in place
// of those that they have; nil leaves that. A certificate that cannot be parsed has
// the zero Kind.
func NewFile(certs []tls.Certificate, staples []*handshake.Staple) *File {
	f := &File{certs: certs, staples: staples}
	for i := range certs {
		var k Kind
		if leaf := handshake.LeafOf(&certs[i]); leaf != nil {
			k = kindOf(leaf)
		}
		f.kinds = append(f.kinds, k)
	}
	return f
}

// OnDemand is false.
func (*File) OnDemand() bool { return false }

// For is the certificates with the OCSP responses that are good now.
func (f *File) For(_ context.Context, _ *handshake.ClientHello, now time.Time) ([]tls.Certificate, error) {
	if !slices.ContainsFunc(f.staples, func(s *handshake.Staple) bool { return s != nil }) {
		return f.certs, nil
	}
	out := slices.Clone(f.certs)
	for i := range min(len(out), len(f.staples)) {
		if s := f.staples[i]; s != nil {
			out[i].OCSPStaple = s.At(now)
		}
	}
	return out, nil
}

// Certificates are those of the files.
func (f *File) Certificates() []tls.Certificate { return f.certs }

// Is says what they are.
func (f *File) Is() []Kind { return f.kinds }
