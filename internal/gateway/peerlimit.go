package gateway

import (
	"errors"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/peerlimit"
	"github.com/sslgate/sslgate/internal/reason"
)

// Identities are the counts of limits.per_identity.
func (g *Gateway) Identities() peerlimit.Stats { return g.peers.Stats() }

// admitIdentity counts the flow for the identity that the client has proven, and says what
// refuses it; nil lets it go on. A client without a certificate, or with one that is not
// verified, has no identity.
func (fl *flow) admitIdentity() *handshake.Error {
	p := fl.facts.Peer
	if p == nil || !p.Proven || p.Chain == nil {
		return nil
	}
	hold, err := fl.g.peers.Admit(peerlimit.KeyOf(p))
	switch {
	case errors.Is(err, peerlimit.ErrHandshakes):
		return handshake.Refuse(handshake.StepClientVerified, reason.IdentityHandshakeLimit, err.Error())
	case err != nil:
		return handshake.Refuse(handshake.StepClientVerified, reason.IdentityFlowLimit, err.Error())
	}
	fl.hold = hold
	return nil
}
