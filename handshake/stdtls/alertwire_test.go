package stdtls

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// The exact alert reaches the client after ServerHello too.
func TestExactAlerts(t *testing.T) {
	f := handshaketest.Fixtures()
	leaf := testpki.Leaf{CN: "bob"}
	revoked := func(*handshake.Peer, *handshake.State) error {
		return &handshake.Error{Step: handshake.StepClientVerified, Side: handshake.SidePeer, Reason: reason.NotAllowed, Wanted: handshake.AlertCertificateRevoked, Received: handshake.AlertNone}
	}
	denied := func(*handshake.Peer, *handshake.State) error {
		return handshake.Refuse(handshake.StepClientVerified, reason.NotAllowed, "")
	}
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			cert  *testpki.Cert
			check handshake.CheckPeer
			want  handshake.Alert
		}{
			"revoked":    {f.Client, revoked, handshake.AlertCertificateRevoked},
			"denied":     {f.Client, denied, handshake.AlertAccessDenied},
			"expired":    {testpki.Must(f.CA.Expired(leaf)), nil, handshake.AlertCertificateExpired},
			"unknown CA": {testpki.Must(f.Other.Issue(leaf)), nil, handshake.AlertUnknownCA},
			"wrong EKU":  {testpki.Must(f.CA.WrongEKU(leaf)), nil, handshake.AlertUnsupportedCertificate},
			"bad chain":  {testpki.Must(f.CA.IssuerNotCA(leaf)), nil, handshake.AlertBadCertificate},
		} {
			for _, mode := range []handshake.LedgerMode{handshake.LedgerFull, handshake.LedgerSteps} {
				p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Ledger = mode })
				var err error
				o := handshakeWith(t, p, tt.check, goClientOn(clientConfig(version, tt.cert.TLS()), &err))
				if o.err == nil || o.err.Wanted != tt.want {
					t.Fatalf("%s: server %v", name, o.err)
				}
				if got := alertSeen(t, err); got != tt.want || o.l.AlertSent() != tt.want {
					t.Errorf("%s %s %s: client saw %s, ledger %s, want %s", handshake.VersionName(version), name, mode, got, o.l.AlertSent(), tt.want)
				}
			}
		}
	}
	o, _, err := withGo(t, handshaketest.ServerParams(), clientConfig(tls.VersionTLS13))
	if got := alertSeen(t, err); got != handshake.AlertCertificateRequired || o.l.AlertSent() != got {
		t.Errorf("none shown: client saw %s, ledger %s", got, o.l.AlertSent())
	}
}

// Towards the destination too.
func TestExactAlertsToDestination(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			cert *testpki.Cert
			want handshake.Alert
		}{
			"expired":    {testpki.Must(f.CA.Expired(testpki.Leaf{DNS: []string{"gateway.test"}})), handshake.AlertCertificateExpired},
			"unknown CA": {testpki.Must(f.Other.Issue(testpki.Leaf{DNS: []string{"gateway.test"}})), handshake.AlertUnknownCA},
		} {
			_, e, l, err := dialed(t, clientParams(), serverConfig(version, tt.cert))
			if e == nil || e.Wanted != tt.want {
				t.Fatalf("%s: %v", name, e)
			}
			if got := alertSeen(t, err); got != tt.want || l.AlertSent() != tt.want {
				t.Errorf("%s %s: server saw %s, ledger %s", handshake.VersionName(version), name, got, l.AlertSent())
			}
		}
	}
}

// recorder keeps what comes in from the wire, and the client's key log.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	in   bytes.Buffer
	keys bytes.Buffer
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	r.in.Write(b[:n])
	r.mu.Unlock()
	return n, err
}

func (r *recorder) Write(b []byte) (int, error) { return r.Conn.Write(b) }

// sealedRecords opens every encrypted record of TLS 1.3 that the server sent
// and returns which key and sequence number sealed each.
func (r *recorder) sealedRecords(t *testing.T, suite uint16) (nonces []string, lastType uint8) {
	t.Helper()
	k := &tap{}
	for line := range bytes.Lines(r.keys.Bytes()) {
		_, _ = k.Write(line)
	}
	for b := r.in.Bytes(); len(b) >= handshake.RecordHeader; b = b[handshake.RecordHeader+handshake.RecordLen(b):] {
		if b[0] != handshake.RecordAppData {
			continue
		}
		body, found := b[handshake.RecordHeader:handshake.RecordHeader+handshake.RecordLen(b)], 0
		for epoch, secret := range k.secrets[toClient] {
			o := newOpener(suite, secret)
			for seq := range uint64(32) {
				o.seq = seq
				if _, typ, ok := o.open(body); ok {
					nonces, lastType = append(nonces, fmt.Sprintf("epoch %d, record %d", epoch, seq)), typ
					found++
				}
			}
		}
		if found != 1 {
			t.Fatalf("a record opens under %d nonces", found)
		}
	}
	return nonces, lastType
}

// No nonce is used twice on the wire, whichever way an alert was made: by
// replacing crypto/tls's, or by ourselves; and none is left out, so nothing
// that was sealed under one was held back and sent otherwise.
func TestNonceOnce(t *testing.T) {
	f := handshaketest.Fixtures()
	foreign := testpki.Must(f.Other.Issue(testpki.Leaf{CN: "mallory"}))
	ed := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "ed", Key: testpki.Ed25519}))
	for name, tt := range map[string]struct {
		cert   *testpki.Cert
		params func(*handshake.ServerParams)
		want   handshake.Alert
	}{
		"replaced": {foreign, func(*handshake.ServerParams) {}, handshake.AlertUnknownCA},
		// The chain passes, the proof of possession does not.
		"our own": {ed, func(p *handshake.ServerParams) { p.Profile.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)} }, handshake.AlertUnsupportedCertificate},
		"none":    {f.Client, func(*handshake.ServerParams) {}, handshake.AlertNone},
	} {
		p := handshaketest.ServerParams(tt.params)
		var rec *recorder
		var cs tls.ConnectionState
		var err error
		o := handshakeWith(t, p, nil, func(c *net.TCPConn) {
			rec = &recorder{Conn: c}
			config := clientConfig(tls.VersionTLS13, tt.cert.TLS())
			config.KeyLogWriter = &rec.keys
			err = goClient(config, &cs)(rec)
		})
		nonces, last := rec.sealedRecords(t, cs.CipherSuite)
		if seen := slices.Compact(slices.Sorted(slices.Values(nonces))); len(seen) != len(nonces) || len(nonces) < 5 {
			t.Errorf("%s: nonces %s", name, strings.Join(nonces, "; "))
		}
		for i, n := range nonces { // in order and without a gap
			if !strings.HasSuffix(n, "record 0") && (i == 0 || !strings.HasPrefix(n, nonces[i-1][:8])) {
				t.Errorf("%s: nonces %s", name, strings.Join(nonces, "; "))
			}
		}
		if last != handshake.RecordAlert || o.l.AlertSent() != tt.want {
			t.Errorf("%s: last record of type %d, client %v, server %v, sent %s", name, last, err, o.err, o.l.AlertSent())
		}
		if tt.want != handshake.AlertNone && alertSeen(t, err) != tt.want {
			t.Errorf("%s: client saw %v", name, err)
		}
	}
}

// OpenSSL opens the replaced alert under each of the CipherSuites.
func TestExactAlertsOpenSSL(t *testing.T) {
	f := handshaketest.Fixtures()
	dir := t.TempDir()
	caFile, _, err := f.CA.WritePEM(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	expired := testpki.Must(f.CA.Expired(testpki.Leaf{CN: "late"}))
	cert, key, err := expired.WritePEM(dir, "late")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-tls1_2"},
		{"-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"},
		{"-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"},
		{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"},
	} {
		o, out := withOpenSSL(t, handshaketest.ServerParams(), append(args, "-CAfile", caFile, "-cert", cert, "-key", key)...)
		if o.err == nil || o.err.Reason != reason.Expired || o.l.AlertSent() != handshake.AlertCertificateExpired {
			t.Errorf("%v: %v, sent %s", args, o.err, o.l.AlertSent())
		}
		if !strings.Contains(out, "alert certificate expired") {
			t.Errorf("%v: openssl says\n%s", args, out)
		}
	}
}

// What is no alert of crypto/tls's is left as it is.
func TestRewriteLeavesTheRest(t *testing.T) {
	tp := newTap(handshake.NewLedger(time.Now()), true)
	plain := []byte{handshake.RecordAlert, 3, 3, 0, 2, 2, 42}
	if got := tp.rewrite(toClient, plain, 0); !bytes.Equal(got, plain) {
		t.Errorf("nothing wanted: % x", got)
	}
	tp.want(handshake.AlertUnknownCA)
	other := []byte{handshake.RecordHandshake, 3, 3, 0, 2, 2, 42, handshake.RecordAppData, 3, 3, 0, 1, 0}
	if got := tp.rewrite(toClient, other, 0); !bytes.Equal(got, other) {
		t.Errorf("no alert: % x", got)
	}
	cutShort := []byte{handshake.RecordAlert, 3, 3, 0}
	if got := tp.rewrite(toClient, cutShort, 0); !bytes.Equal(got, cutShort) {
		t.Errorf("part of a record: % x", got)
	}
	both := append(slices.Clone(other), plain...)
	got := tp.rewrite(toClient, both, 0)
	if want := append(slices.Clone(other), handshake.RecordAlert, 3, 3, 0, 2, 2, 48); !bytes.Equal(got, want) {
		t.Errorf("after others: % x", got)
	}
	if got := tp.rewrite(toClient, plain, 0); !bytes.Equal(got, plain) {
		t.Errorf("once only: % x", got)
	}
}
