package diagram_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/diagram"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, d)
	}
}

const (
	us   = handshake.SideUs
	peer = handshake.SidePeer
	none = handshake.AlertNone
)

func ms(f float64) time.Duration { return time.Duration(f * float64(time.Millisecond)) }

// tls13 is the client's leg of a flow up to its end.
func tls13() []handshake.Entry {
	return []handshake.Entry{
		{Step: 1, From: peer, Message: "ClientHello", At: ms(0.4), Size: 517, Facts: "TLS 1.3, 1.2; 3 CipherSuites; X25519 share; sni pay.demo.test", Alert: none},
		{Step: 2, From: us, Message: "ServerHello", At: ms(1.2), Size: 122, Facts: "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519", Alert: none},
		{Step: 4, From: peer, At: ms(1.2), Facts: "key shares in the hellos: X25519", Alert: none},
		{Step: 2, From: us, Message: "EncryptedExtensions", At: ms(1.3), Size: 10, Alert: none},
		{Step: 2, From: us, Message: "CertificateRequest", At: ms(1.3), Size: 210, Facts: "1 acceptable CA name", Alert: none},
		{Step: 8, From: us, Message: "Finished", At: ms(1.3), Size: 36, Alert: none},
		{Step: 5, From: peer, Message: "Certificate", At: ms(2), Size: 900, Facts: "CN=pay client", Alert: none},
		{Step: 6, From: us, At: ms(2.5), Facts: "chain verified: CN=pay client, authority staff", Alert: none},
		{Step: 7, From: peer, Message: "Finished", At: ms(3), Size: 36, Alert: none},
		{Step: 9, From: us, At: ms(3.1), Facts: "TLS 1.3", Alert: none},
	}
}

// plain is the client's leg of a flow whose client speaks without TLS.
func plain() []handshake.Entry {
	return []handshake.Entry{{From: peer, At: ms(0.1), Facts: "speaks without TLS: nothing is known of it but its address", Alert: none}}
}

// The steps of a flow whose client speaks without TLS are those with the destination.
func TestNotSeenOfPlain(t *testing.T) {
	f := diagram.Flow{Plain: true, Client: diagram.Leg{Entries: plain()}, Destination: diagram.Leg{Entries: destination()}}
	for _, not := range f.NotSeen() {
		if strings.HasPrefix(not, "1 ") || strings.HasPrefix(not, "2 ") {
			t.Errorf("%q was seen", not)
		}
	}
	f.Plain = false
	if not := f.NotSeen(); len(not) == 0 || !strings.HasPrefix(not[0], "1 ") {
		t.Errorf("of the client's own handshake: %v", not)
	}
}

func destination() []handshake.Entry {
	return []handshake.Entry{
		{Step: 1, From: us, Message: "ClientHello", At: ms(4), Size: 300, Facts: "sni origin.demo.test", Alert: none},
		{Step: 2, From: peer, Message: "ServerHello", At: ms(5), Size: 90, Facts: "TLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Alert: none},
		{Step: 3, From: us, At: ms(6), Facts: "chain verified: CN=origin", Alert: none},
		{Step: 4, From: peer, At: ms(6), Facts: "their half", Alert: none},
		{Step: 3, From: us, Message: "Alert", At: ms(1234.567), Size: 2, Alert: handshake.AlertBadCertificate},
	}
}

func TestDraw(t *testing.T) {
	hostile := []handshake.Entry{
		{Step: 1, From: peer, Message: "ClientHello", At: ms(0.1), Size: 65536, Facts: "sni \x1b[2J\u202eevil\nname" + strings.Repeat("x", 400), Alert: none},
		{Step: 77, From: peer, Message: "\x1b]0;owned\a" + strings.Repeat("m", 50), At: ms(0.2), Alert: none},
		{Step: 1, From: us, Message: "Alert", At: ms(0.3), Size: 2, Facts: "unrecognized_name(112)", Alert: 112},
	}
	for _, tc := range []struct {
		name string
		flow diagram.Flow
	}{
		{"client", diagram.Flow{Client: diagram.Leg{Entries: tls13()}}},
		{"both", diagram.Flow{Client: diagram.Leg{Entries: tls13()}, Destination: diagram.Leg{Entries: destination()}}},
		{"hostile", diagram.Flow{Client: diagram.Leg{Entries: hostile, Lost: 9}}},
		{"plain", diagram.Flow{Plain: true, Client: diagram.Leg{Entries: plain()}, Destination: diagram.Leg{Entries: destination()}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.flow.Draw()
			golden(t, tc.name, got)
			fits(t, got)
		})
	}
	if got := (diagram.Flow{}).Draw(); got != "" {
		t.Errorf("a flow without entries draws %q", got)
	}
}

// fits checks what a terminal needs: 80 columns, no control characters.
func fits(t *testing.T, text string) {
	t.Helper()
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("line %d has %d columns: %q", i+1, n, line)
		}
		for _, r := range line {
			if r < ' ' || r == 0x7f || r >= 0x200b && r <= 0x202e {
				t.Errorf("line %d has %q", i+1, r)
			}
		}
	}
}

func TestNotSeen(t *testing.T) {
	if got := (diagram.Flow{Client: diagram.Leg{Entries: tls13()}}).NotSeen(); got != nil {
		t.Errorf("a whole handshake lacks %q", got)
	}
	got := diagram.Flow{Client: diagram.Leg{Entries: append(tls13()[:6:6],
		handshake.Entry{Step: 5, From: us, Message: "Alert", Alert: 116})}}.NotSeen()
	want := []string{"5 client certificate", "6 client verified", "7 client finished", "9 application data"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

const line = `{"id":"7","time":"2026-11-23T15:00:00Z","client":"10.77.1.2:20010","destination":"10.77.2.10:443",` +
	`"sni":"pay.demo.test","rule":"pay","action":"terminate","verdict":"refused","reason":"certificate_expired",` +
	`"detail":"\\x1b[2J said the peer","step":6,"alert_wanted":"certificate_expired(45)","alert_sent":"bad_certificate(42)",` +
	`"client_leg":{"version":"TLS 1.3","suite":"TLS_AES_128_GCM_SHA256","group":"X25519"},` +
	`"peer":{"proven":false,"subject":"CN=pay","sans":["uri:spiffe://demo.test/pay","dns:\\u202egro.live"],"serial":"1f","spki":"ab"},` +
	`"dialed":"10.77.2.10:443","bytes_up":1,"bytes_down":2,"duration_us":1500,"end":"closed",` +
	`"ledger":[{"step":1,"from":"peer","message":"ClientHello","at_us":625,"size":517,"facts":"TLS 1.3"},` +
	`{"step":6,"from":"us","message":"Alert","at_us":2100,"size":2,"alert":"bad_certificate(42)"}]}`

func TestBlock(t *testing.T) {
	r, err := audit.Parse([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	got := diagram.Block(r)
	golden(t, "block", got)
	fits(t, got)
	r.Peer.Proven, r.Rule = true, ""
	if got := diagram.Block(r); !strings.Contains(got, "proven: CN=pay") || strings.Contains(got, "never proven") || !strings.Contains(got, "none: the default, deny") {
		t.Error(got)
	}
	if _, err := audit.Parse([]byte("{")); err == nil {
		t.Error("half a line is taken")
	}
}

// Whatever a record holds, the block stays within the terminal.
func FuzzBlock(f *testing.F) {
	f.Add([]byte(line))
	f.Add([]byte(`{"rule":"\u001b[2J","ledger":[{"step":255,"from":"peer","message":"` + strings.Repeat("é", 90) + `"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := audit.Parse(b)
		if err != nil {
			if r != nil {
				t.Error("an error and a record")
			}
			return
		}
		fits(t, diagram.Block(r))
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}
