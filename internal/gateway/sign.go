package gateway

import (
	"context"
	"crypto"
	"crypto/tls"
	"io"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// remoteKey is a private key of ours that another process has: a *signer.Remote.
type remoteKey interface {
	crypto.Signer
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// signedFor is an identity towards one flow: where another process signs, the flow waits for
// it without a turn, and until its own deadline at the most.
type signedFor struct {
	handshake.Identity
	fl *flow
}

// For is handshake.Identity.For.
func (s signedFor) For(ctx context.Context, h *handshake.ClientHello, now time.Time) ([]tls.Certificate, error) {
	certs, err := s.Identity.For(ctx, h, now)
	return s.fl.signing(ctx, certs), err
}

// signing are certificates whose remote keys wait as signedFor says.
func (fl *flow) signing(ctx context.Context, certs []tls.Certificate) []tls.Certificate {
	isRemote := func(c tls.Certificate) bool { _, ok := c.PrivateKey.(remoteKey); return ok }
	if !slices.ContainsFunc(certs, isRemote) {
		return certs
	}
	out := slices.Clone(certs)
	for i := range out {
		if k, ok := out[i].PrivateKey.(remoteKey); ok {
			out[i].PrivateKey = &flowKey{k, ctx, fl}
		}
	}
	return out
}

// flowKey is a remote key in the handshakes of one flow.
type flowKey struct {
	remoteKey
	ctx context.Context // of the handshake: crypto.Signer has none
	fl  *flow
}

// Sign is crypto.Signer.Sign.
func (k *flowKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	if lost := k.fl.withoutTurn(k.ctx, func() { signature, err = k.SignContext(k.ctx, digest, opts) }); lost != nil {
		return nil, lost
	}
	if err != nil {
		k.fl.unsigned = err
	}
	return signature, err
}

// whyUnsigned puts in the reason where a handshake has failed because nobody signed.
func (fl *flow) whyUnsigned(e *handshake.Error) *handshake.Error {
	if fl.unsigned == nil {
		return e
	}
	e.Side, e.Reason, e.Detail, e.Err = handshake.SideUs, reason.SignerFailed, fl.unsigned.Error(), fl.unsigned
	e.Wanted = handshake.AlertOf(e.Reason) // crypto/tls sends another one in TLS 1.2
	return e
}
