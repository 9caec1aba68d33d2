// Package identity has the sources of our own certificates. A policy names an
// identity and holds what it must be; its source gives the certificates of the
// moment: chain, key, OCSP response. So a certificate that is renewed is no other
// policy, and tickets of before go on to be good.
package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/escape"
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

// String is the kind in words: "ECDSA P-256 for dns:a.example".
func (k Kind) String() string {
	s := k.Key
	if len(k.Names) > 0 {
		s += " for " + escape.Shown(strings.Join(k.Names, ", "), certname.MaxShown)
	}
	switch {
	case k.Server && k.Client:
	case k.Server:
		s += ", server only"
	case k.Client:
		s += ", client only"
	}
	return s
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

// bySPIFFE is the kind without names that are no SPIFFE IDs.
func (k Kind) bySPIFFE() Kind {
	k.Names = slices.DeleteFunc(slices.Clone(k.Names), func(name string) bool { return !strings.HasPrefix(name, "uri:spiffe://") })
	return k
}
