package handshake

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// recordedHello returns the flight that a real crypto/tls client starts with:
// the record or records of its ClientHello.
func recordedHello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer func() { _ = server.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, c).Handshake() // fails when the pipe is closed
		_ = client.Close()
	}()
	defer func() { _ = server.Close(); <-done }()
	_ = server.SetReadDeadline(testenv.Deadline())
	head := make([]byte, RecordHeader)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, RecordLen(head))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

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

// hello builds messages for tests: a TLS 1.3 hello that is right, to be
// changed in one place.
type hello struct {
	legacy      uint16
	sid         []byte
	suites      []uint16
	compression []byte
	exts        []Extension
}

func goodHello() *hello {
	return &hello{
		legacy: 0x0303, suites: []uint16{0x0a0a, 0x1301, 0xc02b}, compression: []byte{0},
		exts: []Extension{
			{ExtServerName, sniData("shop.example")},
			{ExtSupportedGroups, list16(0x1a1a, 0x001d, 0x0017)},
			{ExtSignatureAlgorithms, list16(0x0403, 0x0804)},
			{ExtSupportedVersions, []byte{4, 3, 4, 3, 3}},
			{ExtKeyShare, keyShares(0x001d)},
		},
	}
}

// hello12 is a right hello of TLS 1.2 alone.
func hello12() *hello {
	h := goodHello()
	h.exts = h.exts[:3]
	return h
}

func (h *hello) with(typ uint16, data []byte) *hello {
	for i := range h.exts {
		if h.exts[i].Type == typ {
			h.exts[i].Data = data
			return h
		}
	}
	h.exts = append(h.exts, Extension{typ, data})
	return h
}

func (h *hello) without(typ uint16) *hello {
	h.exts = slices.DeleteFunc(h.exts, func(e Extension) bool { return e.Type == typ })
	return h
}

func (h *hello) bytes() []byte {
	m := &ClientHello{
		LegacyVersion: h.legacy, SessionID: h.sid, CipherSuites: h.suites, CompressionMethods: h.compression,
		Extensions: h.exts, HasExtensions: h.exts != nil,
	}
	return m.Marshal()
}

func list16(v ...uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(2*len(v)))
	for _, x := range v {
		b = binary.BigEndian.AppendUint16(b, x)
	}
	return b
}

// prefixed puts a 16-bit length before b.
func prefixed(b ...byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func sniData(names ...string) []byte {
	var b []byte
	for _, n := range names {
		b = append(append(b, 0), prefixed([]byte(n)...)...)
	}
	return prefixed(b...)
}

func keyShares(groups ...uint16) []byte {
	var b []byte
	for _, g := range groups {
		b = binary.BigEndian.AppendUint16(b, g)
		b = append(b, prefixed(make([]byte, 32)...)...)
	}
	return prefixed(b...)
}

func pskData(identities, binders int) []byte {
	var ids, bs []byte
	for range identities {
		ids = append(append(ids, prefixed('t', 'i', 'c', 'k')...), 0, 0, 0, 1)
	}
	for range binders {
		bs = append(append(bs, 32), make([]byte, 32)...)
	}
	return append(prefixed(ids...), prefixed(bs...)...)
}

func TestParseRealHellos(t *testing.T) {
	for name, c := range clientConfigs() {
		t.Run(name, func(t *testing.T) {
			msg := recordedHello(t, c)[RecordHeader:]
			h, err := ParseClientHello(msg)
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
	g := goodHello()
	g.sid = []byte{1, 2, 3}
	g.suites = append(g.suites, SuiteRenegotiationSCSV)
	for typ, data := range map[uint16][]byte{
		ExtServerName: sniData("Shop.EXAMPLE."), ExtALPN: prefixed(2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'),
		ExtPointFormats: {1, 0}, ExtExtendedMasterSecret: {}, ExtSessionTicket: []byte("ticket"), ExtStatusRequest: {1, 0, 0, 0, 0},
		ExtSignatureAlgsCert: list16(0x0401), ExtPSKModes: {1, 1}, ExtEarlyData: {}, 0x2a2a: {0},
		ExtECH: {0, 0, 1, 0, 1, 7, 0, 1, 9, 0, 1, 8},
	} {
		g.with(typ, data)
	}
	g.with(ExtPreSharedKey, pskData(1, 1)) // must be last
	msg := g.bytes()
	got, err := ParseClientHello(msg)
	if err != nil {
		t.Fatal(err)
	}
	want := &ClientHello{
		Raw: msg, LegacyVersion: 0x0303, SessionID: []byte{1, 2, 3}, CipherSuites: []uint16{0x0a0a, 0x1301, 0xc02b, 0xff},
		CompressionMethods: []byte{0}, Extensions: g.exts, HasExtensions: true,
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
		h := hello12()
		h.legacy, h.exts = legacy, nil
		got, err := ParseClientHello(h.bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.SupportedVersions, want) || got.HasExtensions || got.Extensions != nil {
			t.Errorf("%#04x: versions %#04x, extensions %v", legacy, got.SupportedVersions, got.Extensions)
		}
	}
}

func TestEmptyExtensionsBlock(t *testing.T) {
	h := hello12()
	h.exts = []Extension{}
	msg := h.bytes()
	got, err := ParseClientHello(msg)
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
		h, err := ParseClientHello(goodHello().with(ExtServerName, sniData(c.sent)).bytes())
		if err != nil {
			t.Errorf("%q: %v", c.sent, err)
			continue
		}
		if h.ServerName != c.want || h.SNIInvalid != c.invalid || !h.SNIPresent || h.SNISent != c.sent {
			t.Errorf("%q is read as %q, invalid=%v, present=%v, sent=%q", c.sent, h.ServerName, h.SNIInvalid, h.SNIPresent, h.SNISent)
		}
	}
	// A list that names no host is unusable, not absent.
	h, err := ParseClientHello(goodHello().with(ExtServerName, prefixed(7, 0, 1, 'x')).bytes())
	if err != nil || !h.SNIPresent || !h.SNIInvalid || h.ServerName != "" {
		t.Errorf("a list without host_name: %+v, %v", h, err)
	}
	h, err = ParseClientHello(goodHello().without(ExtServerName).bytes())
	if err != nil || h.SNIPresent || h.SNIInvalid || h.ServerName != "" {
		t.Errorf("no extension: %+v, %v", h, err)
	}
}

// wantRefusal checks an error of step 1.
func wantRefusal(t *testing.T, err error, code reason.Code, alert Alert) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if e.Step != StepClientHello || e.Side != SidePeer || e.Reason != code || e.Wanted != alert {
		t.Errorf("got step %d, %s's fault, %s, alert %v (%v); want %s, alert %v", e.Step, e.Side, e.Reason, e.Wanted, err, code, alert)
	}
}
