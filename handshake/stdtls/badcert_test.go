package stdtls

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// Every kind of bad certificate is refused with its own reason, where a
// certificate is required and where one is optional, in both versions; the
// record has what was claimed, and the client sees the alert that the ledger
// says was sent.
func TestBadCertificates(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, fault := range testpki.Faults() {
		cert := testpki.Must(fault.Make(f.CA, testpki.Leaf{CN: "mallory"}))
		for _, version := range bothVersions {
			if fault.Name == "p224" && version == tls.VersionTLS13 {
				continue // a Go client cannot sign with P-224 there (RFC 8446, section 4.2.3)
			}
			for _, auth := range []handshake.ClientAuth{handshake.ClientAuthRequired, handshake.ClientAuthOptional} {
				t.Run(fault.Name+"/"+handshake.VersionName(version)+"/"+auth.String(), func(t *testing.T) {
					p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.ClientAuth = auth })
					o, _, err := withGo(t, p, clientConfig(version, cert.TLS()))
					if o.err == nil {
						t.Fatal("let through")
					}
					if o.err.Reason != fault.Reason || o.err.Step != handshake.StepClientVerified || o.err.Side != handshake.SidePeer {
						t.Errorf("got %v, want %s", o.err, fault.Reason)
					}
					if o.err.Wanted != handshake.AlertOf(fault.Reason) {
						t.Errorf("wanted %s, want %s", o.err.Wanted, handshake.AlertOf(fault.Reason))
					}
					if o.err.Peer == nil || o.err.Peer.Proven || !o.err.Peer.Leaf().Equal(cert.Cert) {
						t.Errorf("claimed %+v", o.err.Peer)
					}
					if err == nil {
						t.Fatal("the client saw no refusal")
					}
					if got := alertSeen(t, err); got != o.l.AlertSent() || got == handshake.AlertNone {
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
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		thief := testpki.Thief(f.Client, testpki.Must(testpki.NewKey(testpki.P256)))
		asked := 0
		var err error
		o := handshakeWith(t, handshaketest.ServerParams(), func(p *handshake.Peer, _ *handshake.State) error {
			asked++
			if p.Proven {
				t.Error("proven before the handshake ended")
			}
			return nil
		}, goClientOn(clientConfig(version, thief), &err))
		if o.err == nil || o.err.Reason != reason.NoPossession || o.err.Step != handshake.StepClientVerified || o.err.Side != handshake.SidePeer || o.err.Wanted != handshake.AlertDecryptError {
			t.Fatalf("%s: got %v, wanted %s", handshake.VersionName(version), o.err, o.err.Wanted)
		}
		if o.err.Peer == nil || o.err.Peer.Proven || o.err.Peer.Leaf().Subject.CommonName != "alice" {
			t.Errorf("claimed %+v", o.err.Peer)
		}
		if asked != 1 {
			t.Errorf("check was called %d times", asked)
		}
		if got := alertSeen(t, err); got != handshake.AlertDecryptError || o.l.AlertSent() != got {
			t.Errorf("client saw %s, ledger %s", got, o.l.AlertSent())
		}
		if o.l.Reached() >= handshake.StepClientVerified {
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
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		bad := f.Client.TLS()
		bad.Certificate = [][]byte{{0x30, 0x03, 0x02, 0x01, 0x05}}
		o, _, err := withGo(t, handshaketest.ServerParams(), clientConfig(version, bad))
		if o.err == nil || o.err.Reason != reason.BadCertificate || o.err.Step != handshake.StepClientVerified {
			t.Fatalf("%s: got %v", handshake.VersionName(version), o.err)
		}
		if got := alertSeen(t, err); got != o.l.AlertSent() || got != o.err.Wanted {
			t.Errorf("client saw %s, ledger %s, wanted %s", got, o.l.AlertSent(), o.err.Wanted)
		}
	}
}

// Certificates that crypto/x509 refuses are named in the record, wherever in the
// chain they stand, and the alert is the one that belongs to the reason.
func TestRefusedCertificateIsNamed(t *testing.T) {
	f := handshaketest.Fixtures()
	serial := f.Client.Cert.SerialNumber.Bytes()
	at := bytes.Index(f.Client.Cert.Raw, serial)
	negative := bytes.Clone(f.Client.Cert.Raw)
	negative[at] = 0x80 // the INTEGER is a negative one now, whose first nine bits are not alike (X.690, section 8.3.2)
	if at < 2 || negative[at-2] != 2 {
		t.Fatal("the serial number is padded: the test needs another certificate")
	}
	curve := bytes.Replace(f.Client.Cert.Raw, []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"), []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x01"), 1)
	behind := append(bytes.Clone(f.Client.Cert.Raw), 0)
	for name, c := range map[string]struct {
		chain [][]byte
		want  string
	}{
		"serial":            {[][]byte{negative}, "serial number is negative"},
		"curve":             {[][]byte{curve}, "elliptic curve P-192"},
		"second in a chain": {[][]byte{f.Client.Cert.Raw, behind}, "certificate 2 of 2"},
	} {
		for _, version := range bothVersions {
			bad := f.Client.TLS()
			bad.Certificate = c.chain
			o, _, err := withGo(t, handshaketest.ServerParams(), clientConfig(version, bad))
			if o.err == nil || o.err.Reason != reason.BadCertificate || o.err.Step != handshake.StepClientVerified || !strings.Contains(o.err.Detail, c.want) || !strings.Contains(o.err.Detail, "CN=alice") {
				t.Fatalf("%s %s: got %v", handshake.VersionName(version), name, o.err)
			}
			if got := alertSeen(t, err); got != handshake.AlertBadCertificate || o.l.AlertSent() != got || o.err.Wanted != got {
				t.Errorf("%s %s: client saw %s, ledger %s, wanted %s", handshake.VersionName(version), name, got, o.l.AlertSent(), o.err.Wanted)
			}
		}
	}
}

// A Certificate message that does not decode is a bad one, and not the "no
// certificate" of a client that has none, in whatever way it is malformed.
func TestMalformedCertificateMessage(t *testing.T) {
	f := handshaketest.Fixtures()
	for name, c := range map[string]struct {
		body, body13 []byte
		code         reason.Code
		alert        handshake.Alert // 0: that for an absent certificate
	}{
		"no certificate":                {[]byte{0, 0, 0}, []byte{0, 0, 0, 0}, reason.NoCertificate, 0},
		"none, in one record with more": {[]byte{0, 0, 0}, []byte{0, 0, 0, 0}, reason.NoCertificate, 0},
		"bytes behind an empty list":    {[]byte{0, 0, 0, 9}, []byte{0, 0, 0, 0, 9}, reason.BadCertificate, handshake.AlertDecodeError},
		"a list that is cut":            {[]byte{0, 0, 9}, []byte{0, 0, 0, 9}, reason.BadCertificate, handshake.AlertDecodeError},
		"half a length":                 {[]byte{0}, []byte{0, 0}, reason.BadCertificate, handshake.AlertDecodeError},
		"nothing":                       {nil, nil, reason.BadCertificate, handshake.AlertDecodeError},
		"a certificate that is cut":     {[]byte{0, 0, 4, 0, 0, 9, 1}, []byte{0, 0, 0, 4, 0, 0, 9, 1}, reason.BadCertificate, handshake.AlertDecodeError},
	} {
		for _, version := range bothVersions {
			body := c.body
			if version == tls.VersionTLS13 {
				body = c.body13
			}
			msg := append([]byte{handshake.TypeCertificate, 0, 0, byte(len(body))}, body...)
			if strings.HasSuffix(name, "in one record with more") {
				msg = append(msg, 20, 0, 0, 1, 0) // Finished
				if version < tls.VersionTLS13 {
					msg = append(msg[:len(msg)-5], append([]byte{16, 0, 0, 33, 32}, make([]byte, 32)...)...) // ClientKeyExchange
				}
			}
			keys := newTap(handshake.NewLedger(time.Now()), false)
			config := clientConfig(version, f.Client.TLS())
			config.KeyLogWriter = keys
			m := &mangler{
				keys: keys, skip: func(rec []byte) bool { return rec[0] != handshake.RecordHandshake && rec[0] != handshake.RecordAppData },
				change: func([]byte) []byte {
					if version == tls.VersionTLS13 {
						return newOpener(keys.seen.suite, keys.secrets[toServer][0]).seal(handshake.RecordHandshake, msg)
					}
					return append([]byte{handshake.RecordHandshake, 3, 3, 0, byte(len(msg))}, msg...)
				},
			}
			var err error
			o := handshakeWith(t, handshaketest.ServerParams(), nil, func(conn *net.TCPConn) {
				m.TCPConn = conn
				tc := tls.Client(m, config)
				if err = tc.Handshake(); err == nil {
					_, err = tc.Read(make([]byte, 1))
				}
			})
			want := c.alert
			if want == 0 {
				if want = handshake.AlertCertificateRequired; version < tls.VersionTLS13 {
					want = handshake.AlertHandshakeFailure
				}
			}
			if o.err == nil || o.err.Reason != c.code {
				t.Errorf("%s %s: %v, want %s", handshake.VersionName(version), name, o.err, c.code)
				continue
			}
			if got := alertSeen(t, err); got != want || o.l.AlertSent() != want {
				t.Errorf("%s %s: the client saw %s, ledger %s, want %s", handshake.VersionName(version), name, got, o.l.AlertSent(), want)
			}
			for _, e := range o.l.Entries() {
				if e.Message == handshake.MsgCertificate && e.From == handshake.SidePeer && strings.Contains(e.Facts, "no certificate") != (c.code == reason.NoCertificate) {
					t.Errorf("%s %s: drawn as %q", handshake.VersionName(version), name, e.Facts)
				}
			}
		}
	}
}
