package gateway

import (
	"bytes"
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/policy"
)

// Revocation says whether a verified chain is revoked: a *revocation.Checker.
type Revocation interface {
	Check(ctx context.Context, peer *handshake.Peer, now time.Time) revocation.Result
	// Epoch grows with every change of what Check may answer.
	Epoch() uint64
	// Digest names the lists that Check answers from; "" if there are none.
	Digest() string
	// DigestOf names the lists of some authorities; "" if there are none.
	DigestOf(authorities []string) string
	// Withdrawn says whether an OCSP answer has called a certificate revoked that was shown
	// earlier, in DER, leaf first.
	Withdrawn(authorities []string, shown [][]byte) bool
}

// revocationSeen is the last answer about a peer of the flow. A flow may have several: the
// one of a ticket that is not taken, and the one of the full handshake in its place.
type revocationSeen struct {
	peer   *handshake.Peer // whom it is about; nil before the first question
	epoch  uint64
	result revocation.Result
	// recorded is the last answer as it stands in the record; nil without a check.
	recorded *audit.Revocation
}

// about says whether the answer is about this peer: the same chain and authority, and the
// same staple.
func (s *revocationSeen) about(peer *handshake.Peer) bool {
	return s.peer != nil && (s.peer == peer ||
		s.peer.Authority == peer.Authority && bytes.Equal(s.peer.OCSPStaple, peer.OCSPStaple) &&
			slices.EqualFunc(s.peer.Chain, peer.Chain, (*x509.Certificate).Equal))
}

// withRevocation turns a verdict that lets a peer through into a refusal if the peer is
// revoked or nothing fresh is known about it. It is called inside the handshake, so that the
// client sees an alert, and again for the final verdict. The second answer is the first one
// unless something has changed meanwhile.
func (fl *flow) withRevocation(ctx context.Context, plan *policy.Plan, peer *handshake.Peer, v policy.Verdict) policy.Verdict {
	if fl.g.revocation == nil || v.Action != policy.Terminate || peer == nil || peer.Refusal != nil {
		return v
	}
	epoch := fl.g.revocation.Epoch() // read before the check, so that a change during it leads to a new check
	if seen := &fl.revocation; !seen.about(peer) || seen.epoch != epoch {
		ctx = revocation.Waiting(ctx, func(ask func()) {
			_ = fl.withoutTurn(ctx, ask) // turnLost has it
		})
		seen.result = fl.g.revocation.Check(ctx, peer, fl.g.now())
		seen.peer, seen.epoch = peer, epoch
	}
	r := &fl.revocation.result
	fl.out.crls = r.Digest
	fl.revocation.recorded = nil
	if r.Mode != revocation.Off {
		fl.revocation.recorded = &audit.Revocation{
			Status: r.Status.String(), Mode: r.Mode.String(), Source: r.Source, Until: r.Until, Detail: r.Detail,
		}
	}
	switch {
	case r.Code == "":
	case !plan.Observed:
		v.Action, v.Reason, v.Detail, v.Alert = policy.Deny, r.Code, r.Detail, handshake.AlertOf(r.Code)
	case !v.Would.Deny:
		v.Would = policy.Would{Deny: true, Rule: v.Rule, Reason: r.Code, Detail: r.Detail, Alert: handshake.AlertOf(r.Code)}
	}
	return v
}

// destinationRevoked refuses a destination whose certificate is revoked by its authority,
// or, under hard, about which nothing fresh is known. If the rule is observed, the refusal
// is only noted. It returns error and not *Error, as a nil *Error is no nil error.
func (fl *flow) destinationRevoked(ctx context.Context, plan *policy.Plan, peer *handshake.Peer) error {
	if fl.g.revocation == nil || peer == nil || plan.Mode == policy.TLSInsecure {
		return nil
	}
	r := fl.g.revocation.Check(ctx, peer, fl.g.now())
	if r.Code == "" {
		return nil
	}
	detail, alert := string(r.Code)+": "+r.Detail, handshake.AlertOf(r.Code)
	if plan.Observed {
		fl.observeDestination(policy.Would{Deny: true, Rule: plan.Rule, Reason: reason.UpstreamBadCert, Detail: detail, Alert: alert})
		return nil
	}
	e := handshake.Refuse(handshake.StepServerVerified, reason.UpstreamBadCert, detail)
	e.Wanted = alert
	return e
}

// crls names the revocation lists in force now.
func (g *Gateway) crls() string {
	if g.revocation == nil {
		return ""
	}
	return g.revocation.Digest()
}

var _ Revocation = (*revocation.Checker)(nil)
