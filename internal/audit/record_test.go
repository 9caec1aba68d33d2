package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

func testPeer(t testing.TB, cn string) *handshake.Peer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(0xbeef), Subject: pkix.Name{CommonName: cn}, NotAfter: time.Unix(2e9, 0),
		DNSNames: []string{"a.example"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "corp", Path: "/x"}},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &handshake.Peer{Shown: []*x509.Certificate{c}, Authority: "staff", Proven: true, SignatureScheme: uint16(tls.ECDSAWithP256AndSHA256)}
}

func fullRecord(t testing.TB) *Record {
	r := NewRecord("00000001-1", time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		netip.MustParseAddrPort("192.0.2.1:1234"), netip.MustParseAddrPort("[2001:db8::1]:443"))
	r.Hello = &handshake.ClientHello{
		LegacyVersion: 0x0303, SupportedVersions: []uint16{0x0a0a, 0x0304, 0x0303}, CipherSuites: []uint16{0x1301, 0xc02b}, Groups: []uint16{0x11ec, 0x001d}, KeyShares: []uint16{0x11ec},
		SignatureSchemes: []uint16{0x0403}, SignatureSchemesCert: []uint16{0x0804}, ServerName: "pay.example", SNIPresent: true, ALPN: []string{"h2"},
		Extensions:           []handshake.Extension{{Type: handshake.ExtServerName}, {Type: handshake.ExtALPN}, {Type: handshake.ExtSupportedVersions}, {Type: handshake.ExtExtendedMasterSecret}},
		ExtendedMasterSecret: true, Fault13: &handshake.Error{},
	}
	r.Seq = 7
	r.SNI, r.ALPN, r.Policy, r.CRLs, r.Rule, r.Action = "pay.example", []string{"h2"}, "0123456789abcdef", "00112233445566aa", "pay", "terminate"
	r.RuleDigest = "00ff00ff00ff00ff"
	r.Reason, r.Detail, r.Step = reason.OK, "detail", 9
	r.AlertWanted, r.AlertSent, r.AlertReceived = 48, 42, 0
	st := &handshake.State{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519), ALPN: "h2", ServerName: "pay.example", Resumed: true, HelloRetry: true}
	r.Engine, r.DestEngine = handshake.EngineNative, handshake.EngineNative
	r.ClientLeg, r.DestinationLeg, r.Dialed = st, st, netip.MustParseAddrPort("192.0.2.2:443")
	r.Direction = LocalOut
	r.Upgrade, r.DestUpgrade = "postgres", "postgres"
	r.DialedFrom = netip.MustParseAddrPort("192.0.2.1:40000")
	r.Peer, r.DestPeer = testPeer(t, "client\x1b[31m\n\u202e"), testPeer(t, "server")
	r.Shadow = &Shadow{Policy: "fedcba9876543210", Kind: "shadow_denies", Action: "deny", Rule: "next", Reason: reason.NotAllowed, Detail: "d"}
	r.Would = &Would{Rule: "strict", Reason: reason.UnknownCA, Detail: "d", Alert: 48}
	r.Seen = &Seen{State: st, Asked: true, Client: r.Peer.Leaf(), Destination: r.DestPeer.Leaf(), Alert: 70}
	r.Revocation = &Revocation{Status: "good", Mode: "hard", Source: "crl", Until: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Detail: "list 7"}
	r.Ledger = []handshake.Entry{{Step: 1, From: handshake.SidePeer, Message: "ClientHello", At: 5 * time.Microsecond, Size: 100, Facts: "f", Alert: handshake.AlertNone}}
	r.DestLedger = []handshake.Entry{{Step: 6, Message: "Alert", Alert: 48}}
	r.BytesUp, r.BytesDown, r.Setup, r.Duration = 1, 2, 3*time.Microsecond, 4*time.Microsecond
	r.End, r.EndDetail, r.LedgerLost, r.Suppressed, r.SuppressedFlows, r.SuppressedClient = reason.EndClean, "d", 1, 2, 3, 4
	return r
}

func write(t testing.TB, r *Record) (string, map[string]any) {
	t.Helper()
	var b bytes.Buffer
	if err := New(&b).Write(r); err != nil {
		t.Fatal(err)
	}
	if strings.Count(b.String(), "\n") != 1 {
		t.Fatalf("a record is one line: %q", b.String())
	}
	var m map[string]any
	if err := json.Unmarshal(b.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	return b.String(), m
}

// Operators grep these names: each stands in docs/audit.md, and none there is
// made up.
func TestFieldNamesAreThoseOfTheDocs(t *testing.T) {
	_, m := write(t, fullRecord(t))
	var got []string
	for k := range m {
		got = append(got, k)
	}
	sort.Strings(got)
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, line := range strings.Split(string(doc), "\n") {
		if f, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(f, "`")
			want = append(want, name)
		}
	}
	sort.Strings(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("fields (- documented, + written):\n%s", d)
	}
}

// The form of the values, pinned.
func TestRecordGolden(t *testing.T) {
	line, m := write(t, fullRecord(t))
	if strings.ContainsAny(line, "\x1b\u202e") {
		t.Errorf("unescaped text of a peer in %q", line)
	}
	p := m["peer"].(map[string]any)
	if got := p["subject"]; got != `CN=client\1B[31m\0A\E2\80\AE` {
		t.Errorf("subject = %q", got)
	}
	for k, want := range map[string]any{
		"msg": "flow", "time": "2026-01-02T03:04:05.000006Z", "client": "192.0.2.1:1234", "destination": "[2001:db8::1]:443",
		"verdict": "allowed", "reason": "verified", "step": 9.0, "alert_wanted": "unknown_ca(48)", "alert_sent": "bad_certificate(42)",
		"alert_received": "close_notify(0)", "would": "deny", "would_rule": "strict", "would_reason": "unknown_ca", "would_alert": "unknown_ca(48)", "setup_us": 3.0, "duration_us": 4.0,
	} {
		if m[k] != want {
			t.Errorf("%s = %v, want %v", k, m[k], want)
		}
	}
	wantLeg := map[string]any{"version": "TLS 1.3", "suite": "TLS_AES_128_GCM_SHA256", "group": "X25519", "alpn": "h2", "server_name": "pay.example", "resumed": true, "hello_retry": true}
	if d := cmp.Diff(any(wantLeg), m["client_leg"]); d != "" {
		t.Error(d)
	}
	wantRevocation := map[string]any{"status": "good", "mode": "hard", "source": "crl", "until": "2026-02-03T04:05:06Z", "detail": "list 7"}
	if d := cmp.Diff(any(wantRevocation), m["revocation"]); d != "" {
		t.Error(d)
	}
	wantHello := map[string]any{
		"ja4": "t13d0204h2_777cda164f4b_292338188497", "versions": "0a0a 0304 0303", "suites": "1301 c02b", "groups": "11ec 001d", "key_shares": "11ec",
		"signatures": "0403", "signatures_cert": "0804", "extensions": "0000 0010 002b 0017", "partly": true,
	}
	if d := cmp.Diff(any(wantHello), m["hello"]); d != "" {
		t.Error(d)
	}
	wantLedger := []any{map[string]any{"step": 1.0, "from": "peer", "message": "ClientHello", "at_us": 5.0, "size": 100.0, "facts": "f"}}
	if d := cmp.Diff(any(wantLedger), m["ledger"]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(any([]any{"dns:a.example", "uri:spiffe://corp/x"}), p["sans"]); d != "" {
		t.Error(d)
	}
}

// A record nobody filled in says refused-as-a-defect, never allowed.
func TestEmptyRecordIsNotAllowed(t *testing.T) {
	_, m := write(t, NewRecord("x", time.Now(), netip.AddrPort{}, netip.AddrPort{}))
	if m["verdict"] != "failed" || m["reason"] != "internal_error" || m["action"] != "deny" {
		t.Errorf("got %v", m)
	}
	if _, ok := m["alert_sent"]; ok {
		t.Error("an alert that was not sent is in the record")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestLostRecordIsAnError(t *testing.T) {
	l := New(failing{})
	if err := l.Write(fullRecord(t)); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("err = %v", err)
	}
}
