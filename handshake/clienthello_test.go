package handshake_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
)

// clientConfigs are clients of each kind.
func clientConfigs() map[string]*tls.Config {
	//nolint:gosec // clients of every kind, old ones too, that never verify anything
	return map[string]*tls.Config{
		"TLS 1.3 with ML-KEM": {ServerName: "shop.example", NextProtos: []string{"h2", "http/1.1"}, InsecureSkipVerify: true},
		"TLS 1.3 only":        {ServerName: "shop.example", MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}},
		"TLS 1.2 only":        {ServerName: "shop.example", MaxVersion: tls.VersionTLS12},
		"TLS 1.1 only":        {ServerName: "shop.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"without a name":      {InsecureSkipVerify: true},
	}
}

func TestParseRealHellos(t *testing.T) {
	for name, c := range clientConfigs() {
		t.Run(name, func(t *testing.T) {
			msg := handshaketest.RecordedHello(t, c)[handshake.RecordHeader:]
			h, err := handshake.ParseClientHello(msg)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(h.Marshal(), msg) || !bytes.Equal(h.Raw, msg) {
				t.Error("does not marshal back to the same bytes")
			}
			if h.ServerName != c.ServerName || h.SNIPresent != (c.ServerName != "") || h.SNIInvalid {
				t.Errorf("server name %q present=%v invalid=%v", h.ServerName, h.SNIPresent, h.SNIInvalid)
			}
			if !slices.Equal(h.ALPN, c.NextProtos) {
				t.Errorf("ALPN %q", h.ALPN)
			}
			if !h.SecureRenegotiation || !h.ExtendedMasterSecret || !h.StatusRequest {
				t.Errorf("renegotiation_info=%v extended_master_secret=%v status_request=%v", h.SecureRenegotiation, h.ExtendedMasterSecret, h.StatusRequest)
			}
		})
	}
}

// All fields of a hello with everything in it.
func TestParseFields(t *testing.T) {
	g := handshaketest.GoodHello()
	g.SID = []byte{1, 2, 3}
	g.Suites = append(g.Suites, handshake.SuiteRenegotiationSCSV)
	for typ, data := range map[uint16][]byte{
		handshake.ExtServerName: handshaketest.SNIData("Shop.EXAMPLE."), handshake.ExtALPN: handshaketest.Prefixed(2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'),
		handshake.ExtPointFormats: {1, 0}, handshake.ExtExtendedMasterSecret: {}, handshake.ExtSessionTicket: []byte("ticket"), handshake.ExtStatusRequest: {1, 0, 0, 0, 0},
		handshake.ExtSignatureAlgsCert: handshaketest.List16(0x0401), handshake.ExtPSKModes: {1, 1}, handshake.ExtEarlyData: {}, 0x2a2a: {0},
		handshake.ExtECH: {0, 0, 1, 0, 1, 7, 0, 1, 9, 0, 1, 8},
	} {
		g.With(typ, data)
	}
	g.With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 1)) // must be last
	msg := g.Bytes()
	got, err := handshake.ParseClientHello(msg)
	if err != nil {
		t.Fatal(err)
	}
	want := &handshake.ClientHello{
		Raw: msg, LegacyVersion: 0x0303, SessionID: []byte{1, 2, 3}, CipherSuites: []uint16{0x0a0a, 0x1301, 0xc02b, 0xff},
		CompressionMethods: []byte{0}, Extensions: g.Exts, HasExtensions: true,
		ServerName: "shop.example", SNIPresent: true, SNISent: "Shop.EXAMPLE.", SNITrailingDot: true,
		ALPN: []string{"h2", "http/1.1"}, SupportedVersions: []uint16{0x0304, 0x0303}, Groups: []uint16{0x1a1a, 0x1d, 0x17},
		PointFormats: []byte{0}, KeyShares: []uint16{0x1d}, SignatureSchemes: []uint16{0x0403, 0x0804}, SignatureSchemesCert: []uint16{0x0401},
		ExtendedMasterSecret: true, SecureRenegotiation: true, StatusRequest: true, EarlyData: true, PreSharedKey: true, SessionTicket: true, ECH: true,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	msg[len(msg)-1]++
	if bytes.Equal(got.Raw, msg) {
		t.Error("the hello shares memory with its input")
	}
}

func TestVersionsWithoutExtension(t *testing.T) {
	for legacy, want := range map[uint16][]uint16{
		0x0301: {0x0301}, 0x0302: {0x0302, 0x0301}, 0x0303: {0x0303, 0x0302, 0x0301},
		0x0304: {0x0303, 0x0302, 0x0301}, // RFC 8446, section 4.2.1
		0x0399: {0x0303, 0x0302, 0x0301},
	} {
		h := handshaketest.Hello12()
		h.Legacy, h.Exts = legacy, nil
		got, err := handshake.ParseClientHello(h.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.SupportedVersions, want) || got.HasExtensions || got.Extensions != nil {
			t.Errorf("%#04x: versions %#04x, extensions %v", legacy, got.SupportedVersions, got.Extensions)
		}
	}
}

func TestEmptyExtensionsBlock(t *testing.T) {
	h := handshaketest.Hello12()
	h.Exts = []handshake.Extension{}
	msg := h.Bytes()
	got, err := handshake.ParseClientHello(msg)
	if err != nil {
		t.Fatal(err)
	}
	if !got.HasExtensions || len(got.Extensions) != 0 || !bytes.Equal(got.Marshal(), msg) {
		t.Error("an empty extensions block is not kept")
	}
}

func TestServerNameReading(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	for _, c := range []struct {
		sent, want string
		invalid    bool
	}{
		{"shop.example", "shop.example", false},
		{"SHOP.Example", "shop.example", false},
		{"shop.example.", "shop.example", false},
		{"localhost", "localhost", false},
		{"_dmarc.x-1.example", "_dmarc.x-1.example", false},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", false},
		{"1.2.3.4.example", "1.2.3.4.example", false},
		{label63 + ".example", label63 + ".example", false},
		{label63 + "a.example", "", true},
		{strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 126) + "a", false}, // 253 bytes
		{strings.Repeat("a.", 126) + "aa", "", true},
		{"10.0.0.1", "", true},
		{"10.0.0.1.", "", true},
		{"10.1", "", true},
		{"0x7f.0X1", "", true},
		{"::1", "", true},
		{"[::1]", "", true},
		{".", "", true},
		{"..", "", true},
		{"a..b", "", true},
		{".a", "", true},
		{"a..", "", true},
		{"shop.example\x00.evil", "", true},
		{"b\xc3\xbccher.example", "", true},
		{"*.example", "", true},
		{"shop.example:443", "", true},
		{"shop example", "", true},
	} {
		h, err := handshake.ParseClientHello(handshaketest.GoodHello().With(handshake.ExtServerName, handshaketest.SNIData(c.sent)).Bytes())
		if err != nil {
			t.Errorf("%q: %v", c.sent, err)
			continue
		}
		if h.ServerName != c.want || h.SNIInvalid != c.invalid || !h.SNIPresent || h.SNISent != c.sent {
			t.Errorf("%q is read as %q, invalid=%v, present=%v, sent=%q", c.sent, h.ServerName, h.SNIInvalid, h.SNIPresent, h.SNISent)
		}
	}
	// A list that names no host is unusable, not absent.
	h, err := handshake.ParseClientHello(handshaketest.GoodHello().With(handshake.ExtServerName, handshaketest.Prefixed(7, 0, 1, 'x')).Bytes())
	if err != nil || !h.SNIPresent || !h.SNIInvalid || h.ServerName != "" {
		t.Errorf("a list without host_name: %+v, %v", h, err)
	}
	h, err = handshake.ParseClientHello(handshaketest.GoodHello().Without(handshake.ExtServerName).Bytes())
	if err != nil || h.SNIPresent || h.SNIInvalid || h.ServerName != "" {
		t.Errorf("no extension: %+v, %v", h, err)
	}
}

// wantRefusal checks an error of step 1.
func wantRefusal(t *testing.T, err error, code reason.Code, alert handshake.Alert) {
	t.Helper()
	var e *handshake.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if e.Step != handshake.StepClientHello || e.Side != handshake.SidePeer || e.Reason != code || e.Wanted != alert {
		t.Errorf("got step %d, %s's fault, %s, alert %v (%v); want %s, alert %v", e.Step, e.Side, e.Reason, e.Wanted, err, code, alert)
	}
}
