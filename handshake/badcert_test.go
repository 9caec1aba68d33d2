package handshake

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/testpki"
)

// Every kind of bad certificate is refused with its own reason, where a
// certificate is required and where one is optional, in both versions; the
// record has what was claimed, and the client sees the alert that the ledger
// says was sent.
func TestBadCertificates(t *testing.T) {
	f := fixtures()
	for _, fault := range testpki.Faults() {
		cert := testpki.Must(fault.Make(f.ca, testpki.Leaf{CN: "mallory"}))
		for _, version := range bothVersions {
			if fault.Name == "p224" && version == tls.VersionTLS13 {
				continue // a Go client cannot sign with P-224 there (RFC 8446, section 4.2.3)
			}
			for _, auth := range []ClientAuth{ClientAuthRequired, ClientAuthOptional} {
				t.Run(fault.Name+"/"+VersionName(version)+"/"+auth.String(), func(t *testing.T) {
					p := serverParams(func(p *Params) { p.ClientAuth = auth })
					o, _, err := withGo(t, p, clientConfig(version, cert.TLS()))
					if o.err == nil {
						t.Fatal("let through")
					}
					if o.err.Reason != fault.Reason || o.err.Step != StepClientVerified || o.err.Side != SidePeer {
						t.Errorf("got %v, want %s", o.err, fault.Reason)
					}
					if o.err.Wanted != AlertOf(fault.Reason) {
						t.Errorf("wanted %s, want %s", o.err.Wanted, AlertOf(fault.Reason))
					}
					if o.err.Peer == nil || o.err.Peer.Proven || !o.err.Peer.Leaf().Equal(cert.Cert) {
						t.Errorf("claimed %+v", o.err.Peer)
					}
					if err == nil {
						t.Fatal("the client saw no refusal")
					}
					if got := alertSeen(t, err); got != o.l.AlertSent() || got == AlertNone {
						t.Errorf("client saw %s, ledger %s", got, o.l.AlertSent())
					}
				})
			}
		}
	}
}

// A thief has somebody's certificate and a key of his own. crypto/tls shows
// him to VerifyConnection under the victim's name.
func TestThief(t *testing.T) {
	f := fixtures()
	for _, version := range bothVersions {
		thief := testpki.Thief(f.client, testpki.Must(testpki.NewKey(testpki.P256)))
		asked := 0
		var err error
		o := handshakeWith(t, serverParams(), func(p *Peer, _ *State) error {
			asked++
			if p.Proven {
				t.Error("proven before the handshake ended")
			}
			return nil
		}, goClientOn(clientConfig(version, thief), &err))
		if o.err == nil || o.err.Reason != reason.NoPossession || o.err.Step != StepClientVerified || o.err.Side != SidePeer || o.err.Wanted != AlertDecryptError {
			t.Fatalf("%s: got %v, wanted %s", VersionName(version), o.err, o.err.Wanted)
		}
		if o.err.Peer == nil || o.err.Peer.Proven || o.err.Peer.Leaf().Subject.CommonName != "alice" {
			t.Errorf("claimed %+v", o.err.Peer)
		}
		if asked != 1 {
			t.Errorf("check was called %d times", asked)
		}
		if got := alertSeen(t, err); got != AlertDecryptError || o.l.AlertSent() != got {
			t.Errorf("client saw %s, ledger %s", got, o.l.AlertSent())
		}
		if o.l.Reached() >= StepClientVerified {
			t.Errorf("reached %s", o.l.Reached())
		}
		proven := false
		for _, e := range o.l.Entries() {
			proven = proven || strings.Contains(e.Facts, "possession of the key proven")
		}
		if proven {
			t.Error("the ledger calls the thief proven")
		}
	}
}

// Certificates that crypto/tls itself cannot read never reach our own check.
func TestUndecodableCertificate(t *testing.T) {
	f := fixtures()
	for _, version := range bothVersions {
		bad := f.client.TLS()
		bad.Certificate = [][]byte{{0x30, 0x03, 0x02, 0x01, 0x05}}
		o, _, err := withGo(t, serverParams(), clientConfig(version, bad))
		if o.err == nil || o.err.Reason != reason.BadCertificate || o.err.Step != StepClientVerified {
			t.Fatalf("%s: got %v", VersionName(version), o.err)
		}
		if got := alertSeen(t, err); got != o.l.AlertSent() || got != o.err.Wanted {
			t.Errorf("client saw %s, ledger %s, wanted %s", got, o.l.AlertSent(), o.err.Wanted)
		}
	}
}
