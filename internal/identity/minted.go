package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// Minter makes certificates on demand, for interception: a *mint.Issuer.
type Minter interface {
	// For the name that a client asks for. The error is a *handshake.Error.
	For(ctx context.Context, name string) (*tls.Certificate, error)
	// Like makes one for the names of a server's certificate, which the caller
	// has verified.
	Like(ctx context.Context, server *x509.Certificate) (*tls.Certificate, error)
}

// Minted is the source of certificates that are made on demand.
type Minted struct {
	minter   Minter
	specimen []tls.Certificate
	kinds    []Kind
}

// NewMinted makes a source of what m makes. specimen is of the kind that is made;
// names are the patterns of the names that m makes certificates for. What m makes is a
// leaf of P-256 for servers.
func NewMinted(m Minter, specimen tls.Certificate, names []string) *Minted {
	names = slices.Clone(names)
	slices.Sort(names)
	return &Minted{m, []tls.Certificate{specimen}, []Kind{{Key: "ecdsa P-256", Names: names, Server: true, Made: true}}}
}

// OnDemand is true.
func (*Minted) OnDemand() bool { return true }

// For is a certificate for the name that the client asks for.
func (m *Minted) For(ctx context.Context, h *handshake.ClientHello, _ time.Time) ([]tls.Certificate, error) {
	name := ""
	if h != nil && h.SNIPresent && !h.SNIInvalid {
		name = h.ServerName
	}
	return one(m.minter.For(ctx, name))
}

// Like is the same identity towards one client, with a certificate for the names of a
// server's, which has been verified.
func (m *Minted) Like(server *x509.Certificate) handshake.Identity { return &like{m, server} }

// Certificates are the specimen.
func (m *Minted) Certificates() []tls.Certificate { return m.specimen }

// Is says what is made.
func (m *Minted) Is() []Kind { return m.kinds }

// Minter is what makes them.
func (m *Minted) Minter() Minter { return m.minter }

// like is Minted.Like.
type like struct {
	*Minted
	server *x509.Certificate
}

// For is a certificate like the server's.
func (l *like) For(ctx context.Context, _ *handshake.ClientHello, _ time.Time) ([]tls.Certificate, error) {
	return one(l.minter.Like(ctx, l.server))
}

func one(c *tls.Certificate, err error) ([]tls.Certificate, error) {
	if err != nil {
		return nil, err
	}
	return []tls.Certificate{*c}, nil
}

var (
	_ Source = (*File)(nil)
	_ Source = (*Minted)(nil)
)
