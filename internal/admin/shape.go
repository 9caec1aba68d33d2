package admin

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/internal/times"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/tun"
)

// The answers of the API, built from what the parts of the gateway report.

// FlowOf returns the answer for a live flow.
func FlowOf(st gateway.Status, relaying bool) Flow {
	f := Flow{
		ID: st.ID, Since: st.Start.UTC(), Age: time.Since(st.Start).Round(time.Millisecond).String(),
		Client: st.Client.String(), Destination: st.Destination.String(), SNI: st.SNI, Rule: st.Rule,
		Reason: string(st.Reason), Action: st.Action.String(), Step: int(st.Step), Relaying: relaying, BytesUp: st.BytesUp, BytesDown: st.BytesDown,
	}
	if st.Peer != nil {
		f.Subject, f.SANs = certname.Subject(st.Peer.Leaf()), certname.AltTexts(st.Peer.Leaf().Extensions, escape.Text)
	}
	return f
}

// LedgerOf returns the answer for a ledger, escaped.
func LedgerOf(entries []handshake.Entry) []LedgerEntry {
	var all []LedgerEntry
	for _, e := range entries {
		all = append(all, LedgerEntry{
			Step: int(e.Step), From: e.From.String(), Message: escape.String(e.Message, 0), AtUS: e.At.Microseconds(),
			Size: e.Size, Facts: escape.String(e.Facts, 0), Alert: e.Alert.String(),
		})
	}
	return all
}

// ShadowOf returns what a shadow policy has found so far; nil without one.
func ShadowOf(s *policy.Shadow) *Shadow {
	if s == nil {
		return nil
	}
	counts, flows, rest := s.Report()
	st := &Shadow{Policy: s.SetID(), Flows: flows, Rest: rest, Differences: []Difference{}}
	for _, c := range counts {
		st.Differences = append(st.Differences, Difference{
			Kind: c.Kind.String(), Flows: c.Flows,
			EnforcedRule: c.EnforcedRule, EnforcedReason: string(c.EnforcedReason), ShadowRule: c.ShadowRule, ShadowReason: string(c.ShadowReason),
		})
	}
	return st
}

// DroppedOf is what the guard has dropped.
func DroppedOf(counts []tun.Dropped) []Dropped {
	all := []Dropped{}
	for _, d := range counts {
		all = append(all, Dropped{Reason: d.Reason, Packets: d.Packets, Cause: d.Cause})
	}
	return all
}

// CertificateOf returns the answer for a certificate of the configuration.
func CertificateOf(kind, name, file string, c *x509.Certificate) Certificate {
	spki := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return Certificate{
		Kind: kind, Name: name, File: file, Subject: certname.Subject(c), Issuer: certname.Issuer(c), Serial: c.SerialNumber.Text(16),
		SANs: certname.AltTexts(c.Extensions, escape.Text), SPKI: hex.EncodeToString(spki[:]), NotBefore: times.UTC(c.NotBefore), NotAfter: times.UTC(c.NotAfter),
		DaysLeft: times.Days(time.Now(), c.NotAfter),
	}
}

// RevocationOf returns the status of each authority, by name.
func RevocationOf(st revocation.Stats) []AuthorityRevocation {
	all := []AuthorityRevocation{}
	for _, name := range slices.Sorted(maps.Keys(st.Authorities)) {
		a := st.Authorities[name]
		r := AuthorityRevocation{
			Authority: name, Mode: a.Mode.String(), OCSP: a.OCSP,
			Good: a.Good, Revoked: a.Revoked, UnknownRefused: a.UnknownRefused, UnknownAllowed: a.UnknownAllowed,
			OCSPAsked: a.OCSPAsked, OCSPFailures: a.OCSPFailures,
		}
		for _, l := range a.Lists {
			r.State = worse(r.State, l.State)
			if l.Error != "" {
				r.Errors = append(r.Errors, l.Source+": "+l.Error)
			}
			if l.NextUpdate.IsZero() {
				continue // a source that has given no list
			}
			r.Lists++
			r.Entries += l.Entries
			if r.NextUpdate == nil || l.NextUpdate.Before(*r.NextUpdate) {
				until := times.UTC(l.NextUpdate)
				r.NextUpdate = &until
			}
		}
		if a.OCSPError != "" {
			r.Errors = append(r.Errors, a.OCSP+": "+a.OCSPError)
		}
		r.Errors = slices.Compact(r.Errors) // the same error stands at each list of a source
		all = append(all, r)
	}
	return all
}

// RevocationListsOf lists the CRLs in use and the sources without one, the earliest expiry
// first.
func RevocationListsOf(st revocation.Stats) []RevocationList {
	all := []RevocationList{}
	for name, a := range st.Authorities {
		for _, l := range a.Lists {
			all = append(all, RevocationList{
				Authority: name, Mode: a.Mode.String(), Source: l.Source, Issuer: l.Issuer, Number: l.Number,
				ThisUpdate: times.UTC(l.ThisUpdate), NextUpdate: times.UTC(l.NextUpdate), Entries: l.Entries, State: l.State, Error: l.Error,
			})
		}
	}
	slices.SortFunc(all, func(a, b RevocationList) int {
		return cmp.Or(a.NextUpdate.Compare(b.NextUpdate), cmp.Compare(a.Authority, b.Authority), cmp.Compare(a.Source, b.Source))
	})
	return all
}

// worse returns the worse of two list states.
func worse(a, b string) string {
	order := []string{"", "fresh", "late", "missing", "expired"}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}
