package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/times"
)

// Check says whether any certificate of the peer's verified chain is revoked. It checks
// each but the root against the lists and the responder of its issuer. It may ask the
// configured responder, within ctx (and Waiting); everything else is in memory.
//
//   - One certificate is denied (Deny): refused, in every mode.
//   - One certificate is revoked, by a fresh list or a stale one: refused, in every mode
//     but Off.
//   - Nothing fresh is known about one of them: refused under Hard, let through with
//     Status Unknown under Soft.
//   - The Checker does not know the authority: refused.
func (c *Checker) Check(ctx context.Context, peer *handshake.Peer, now time.Time) Result {
	if peer == nil {
		return Result{Mode: Off} // no certificate, nothing to revoke
	}
	s := c.data.Load()
	v := s.authorities[peer.Authority]
	if detail, denied := c.denied.Load().of(peer.Chain); denied {
		r := Result{Status: Revoked, Mode: Hard, Source: FromFleet, Detail: detail, Code: reason.Revoked, Digest: s.digest}
		if v != nil {
			v.counters.count(&r)
		}
		return r
	}
	switch {
	case v == nil:
		return Result{Digest: s.digest, Code: reason.RevocationUnknown, Detail: "nothing is configured about revocation for the authority " + quote(peer.Authority)}
	case v.Mode == Off:
		return Result{Digest: s.digest, Mode: Off}
	}
	r := Result{Mode: v.Mode, Code: reason.RevocationUnknown, Detail: "the chain is not verified"}
	if len(peer.Chain) > 0 {
		r = v.check(ctx, c, peer, now)
	}
	v.counters.count(&r)
	r.Digest = s.digest
	return r
}

func (v *view) check(ctx context.Context, c *Checker, peer *handshake.Peer, now time.Time) Result {
	r := Result{Status: Good, Mode: v.Mode}
	var missing *finding
	for i, cert := range peer.Chain[:len(peer.Chain)-1] {
		e := element{cert: cert, issuer: peer.Chain[i+1]}
		if i == 0 {
			e.staple = peer.OCSPStaple
		}
		f := v.element(ctx, c, e, now)
		switch {
		case f.status == Revoked:
			return Result{Status: Revoked, Mode: v.Mode, Source: f.source, Detail: f.detail, Code: reason.Revoked}
		case f.status == Good && i == 0:
			r.Source, r.Until, r.Detail = f.source, f.until, f.detail
		case f.status == Good:
			if r.Until.IsZero() || f.until.Before(r.Until) {
				r.Until = f.until
			}
		case missing == nil:
			missing = &f
		}
	}
	if missing == nil {
		return r
	}
	r = Result{Status: Unknown, Mode: v.Mode, Source: missing.source, Detail: missing.detail}
	if v.Mode != Soft {
		r.Code = reason.RevocationUnknown
	}
	return r
}

// element is one certificate of a chain with its issuer.
type element struct {
	cert, issuer *x509.Certificate
	staple       []byte
}

// finding is what is known of one element.
type finding struct {
	status Status
	source string
	until  time.Time
	detail string
}

// element asks in this order: what is known to be revoked, the staple for a revocation,
// the responder, and the staple for a good answer. A revocation ends the search, wherever
// it is found; a good answer saves the next question. The staple's good answer counts
// last, because the client chose which staple to send, and it may be an old one.
func (v *view) element(ctx context.Context, c *Checker, e element, now time.Time) finding {
	f := v.known(e, now)
	if f.status == Revoked {
		return f
	}
	var staple finding
	if len(e.staple) > 0 {
		if staple = v.byStaple(c, e, now); staple.status == Revoked {
			return staple
		}
	}
	if f.status == Unknown && v.responder != nil {
		f = merge(f, v.byResponder(ctx, c, e, now))
	}
	if f.status == Unknown && len(e.staple) > 0 {
		f = merge(f, staple)
	}
	return f
}

// known is the answer from memory: from lists and from earlier OCSP answers. It asks
// nobody. A revocation is final.
func (v *view) known(e element, now time.Time) finding {
	f := v.byLists(e, now)
	if f.status == Revoked {
		return f
	}
	n, ok := serialOf(e.cert)
	if !ok {
		return f
	}
	// The responder's cache is asked in any case, so that the entry counts as used.
	cached := v.responder != nil && v.responder.known(n, e.issuer) == Revoked
	if cached || v.taken.has(n, e.issuer) {
		return finding{status: Revoked, source: FromOCSP, detail: about(e.cert) + ": revoked, an OCSP answer has said"}
	}
	return f
}

// takeBack records a revocation from an OCSP answer. If it is new, live flows are checked
// again.
func (v *view) takeBack(c *Checker, q question) {
	if v.taken.add(q.number, q.issuer) {
		c.epoch.Add(1)
		c.changed()
	}
}

// merge returns the answer that says something; without one it joins the reasons.
func merge(f, g finding) finding {
	if g.status != Unknown {
		return g
	}
	if f.detail != "" {
		g.detail = f.detail + "; " + g.detail
	}
	return g
}

func about(c *x509.Certificate) string {
	return fmt.Sprintf("%s, serial %x", certname.Quoted(c), c.SerialNumber)
}

func (v *view) byLists(e element, now time.Time) finding {
	lists := v.of(e.issuer)
	if len(lists) == 0 {
		return finding{detail: "no revocation list of " + certname.Quoted(e.issuer) + " is known"}
	}
	f := finding{}
	for _, l := range lists {
		if l.Has(e.cert) {
			return finding{status: Revoked, source: FromCRL, detail: about(e.cert) + " is in " + l.String()}
		}
		switch {
		case !l.scope.covers(e.cert):
			if f.status == Unknown && f.source == "" {
				f.detail = l.String() + " does not cover " + about(e.cert)
			}
		case l.Fresh(now):
			if f.status != Good || l.NextUpdate.After(f.until) {
				f = finding{status: Good, source: FromCRL, until: l.NextUpdate, detail: l.String()}
			}
		case f.status != Good:
			f.source, f.detail = FromCRL, l.String()+" expired on "+times.Stamp(l.NextUpdate)
			if now.Before(l.NextUpdate) {
				f.detail = l.String() + " is not valid before " + times.Stamp(l.ThisUpdate)
			}
		}
	}
	return f
}

func (v *view) question(e element) (question, error) {
	n, ok := serialOf(e.cert)
	if !ok {
		return question{}, errors.New("its serial number is longer than 20 octets")
	}
	return question{number: n, issuer: e.issuer, revoked: func(d *x509.Certificate) bool { return v.names(e.issuer, d) }}, nil
}

// names says whether a list of the issuer names the certificate.
func (v *view) names(issuer, cert *x509.Certificate) bool {
	return slices.ContainsFunc(v.of(issuer), func(l *List) bool { return l.Has(cert) })
}

// byStaple is the answer of the staple. It has no nonce of ours, so even a fresh one may
// have been made before a revocation; lists and responder take precedence.
func (v *view) byStaple(c *Checker, e element, now time.Time) finding {
	f := finding{source: FromStaple}
	q, err := v.question(e)
	var a *answer
	if err == nil {
		a, err = parseAnswer(e.staple)
	}
	if err == nil {
		f.status, f.until, err = a.judge(q, now)
	}
	switch {
	case err != nil:
		v.counters.badStaples.Add(1)
		f.detail = "staple: " + err.Error()
	case f.status == Revoked:
		v.takeBack(c, q)
		f.detail = about(e.cert) + ": revoked, says the stapled OCSP answer"
	default:
		f.detail = "stapled OCSP answer"
	}
	return f
}

func (v *view) byResponder(ctx context.Context, c *Checker, e element, now time.Time) finding {
	f := finding{source: FromOCSP}
	q, err := v.question(e)
	if err == nil {
		f.status, f.until, err = v.responder.ask(ctx, q, now)
	}
	switch {
	case err != nil:
		f.status, f.detail = Unknown, "OCSP: "+err.Error()
	case f.status == Revoked:
		v.takeBack(c, q)
		f.detail = about(e.cert) + ": revoked, says the OCSP responder"
	default:
		f.detail = "OCSP responder"
	}
	return f
}

// Ended says whether a peer that was let through must be cut off now: reason.EndRevoked
// or reason.EndExpired with the details; "" while it may stay. It asks nobody and takes
// about a microsecond, so it can be called for every live flow every few seconds. Lack of
// fresh information ends no flow.
//
// It also marks the peer's OCSP answer as used, so that Run renews the answer in time and
// a revocation is known after ocsp.max_age.
func (c *Checker) Ended(peer *handshake.Peer, now time.Time) (reason.Code, string) {
	if peer == nil {
		return "", ""
	}
	for _, cert := range peer.Chain {
		if now.After(cert.NotAfter) {
			return reason.EndExpired, about(cert) + " expired on " + times.Stamp(cert.NotAfter)
		}
	}
	if detail, revoked := c.KnownRevoked(peer, now); revoked {
		return reason.EndRevoked, detail
	}
	return "", ""
}

// KnownRevoked says whether a certificate of the peer's chain is known to be revoked, and
// which. Like Ended, it asks nobody.
func (c *Checker) KnownRevoked(peer *handshake.Peer, now time.Time) (detail string, revoked bool) {
	if peer == nil {
		return "", false
	}
	if detail, denied := c.denied.Load().of(peer.Chain); denied {
		return detail, true
	}
	v := c.data.Load().authorities[peer.Authority]
	if v == nil || v.Mode == Off {
		return "", false
	}
	for i := range max(0, len(peer.Chain)-1) {
		e := element{cert: peer.Chain[i], issuer: peer.Chain[i+1]}
		if f := v.known(e, now); f.status == Revoked {
			return f.detail, true
		}
	}
	return "", false
}
