package wire_test

import (
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
)

func offer() *wire.ClientHello {
	return &wire.ClientHello{
		Random: [32]byte{5}, SessionID: make([]byte, 32), Suites: []uint16{0x1302, 0x1301}, ServerName: "shop.example",
		Groups: []uint16{0x11ec, 29, 23}, KeyShares: []wire.KeyShare{{Group: 29, Key: make([]byte, 32)}}, Signatures: []uint16{0x0403}, SignaturesCert: []uint16{0x0401},
		ALPN: []string{"h2", "http/1.1"}, StatusRequest: true, Cookie: []byte{7}, PSKModes: []byte{wire.ModePSKDHE},
	}
}

func parsed(t *testing.T, h *wire.ClientHello) *handshake.ClientHello {
	t.Helper()
	msg, err := h.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	p, err := handshake.ParseClientHello(msg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What is offered is what a server reads, and crypto/tls among them takes it.
func TestClientHello(t *testing.T) {
	h := parsed(t, offer())
	shares, err := wire.KeyShares(h)
	modes, errModes := wire.PSKModes(h)
	cookie, errCookie := wire.Cookie(h)
	if err != nil || errModes != nil || errCookie != nil || len(shares) != 1 || len(shares[0].Key) != 32 || string(modes) != "\x01" || string(cookie) != "\x07" {
		t.Errorf("%v, %v, %v, %v", shares, modes, cookie, err)
	}
	if h.ServerName != "shop.example" || !slices.Equal(h.SupportedVersions, []uint16{0x0304}) || !slices.Equal(h.ALPN, []string{"h2", "http/1.1"}) || !h.StatusRequest ||
		!slices.Equal(h.Groups, []uint16{0x11ec, 29, 23}) || !slices.Equal(h.SignatureSchemes, []uint16{0x0403}) || !slices.Equal(h.SignatureSchemesCert, []uint16{0x0401}) || len(h.SessionID) != 32 {
		t.Errorf("%+v", h)
	}
	bare := parsed(t, &wire.ClientHello{Suites: []uint16{0x1301}, Groups: []uint16{29}, KeyShares: []wire.KeyShare{}, Signatures: []uint16{0x0403}})
	if asked := wire.Asked(bare); !slices.Equal(asked, []uint16{handshake.ExtSupportedGroups, handshake.ExtSignatureAlgorithms, handshake.ExtSupportedVersions, handshake.ExtKeyShare}) {
		t.Errorf("%v", asked)
	}
}

// A server may choose of what was offered, and after a HelloRetryRequest what it has
// asked for.
func TestCheckServerHello(t *testing.T) {
	retry := &wire.ServerHello{Retry: true, SessionID: make([]byte, 32), Suite: 0x1302, KeyShare: wire.KeyShare{Group: 23}}
	second := offer()
	second.KeyShares = []wire.KeyShare{{Group: 23, Key: make([]byte, 65)}}
	for name, c := range map[string]struct {
		offer  *wire.ClientHello
		change func(h *wire.ServerHello)
		retry  *wire.ServerHello
		want   handshake.Alert
	}{
		"as offered":                  {offer(), func(*wire.ServerHello) {}, nil, handshake.AlertNone},
		"another session ID":          {offer(), func(h *wire.ServerHello) { h.SessionID = []byte{1} }, nil, handshake.AlertIllegalParameter},
		"no session ID":               {offer(), func(h *wire.ServerHello) { h.SessionID = nil }, nil, handshake.AlertIllegalParameter},
		"a suite not offered":         {offer(), func(h *wire.ServerHello) { h.Suite = 0x1303 }, nil, handshake.AlertIllegalParameter},
		"a suite of TLS 1.2":          {offer(), func(h *wire.ServerHello) { h.Suite = 0xc02b }, nil, handshake.AlertIllegalParameter},
		"a group without a share":     {offer(), func(h *wire.ServerHello) { h.KeyShare.Group = 23 }, nil, handshake.AlertIllegalParameter},
		"a key that is not offered":   {offer(), func(h *wire.ServerHello) { h.PSK = true }, nil, handshake.AlertUnsupportedExtension},
		"a retry":                     {offer(), func(h *wire.ServerHello) { *h = *retry }, nil, handshake.AlertNone},
		"a retry with a cookie":       {offer(), func(h *wire.ServerHello) { *h = *retry; h.Cookie = []byte{1} }, nil, handshake.AlertNone},
		"a retry for what is there":   {offer(), func(h *wire.ServerHello) { *h = *retry; h.KeyShare.Group = 29 }, nil, handshake.AlertIllegalParameter},
		"a retry for what is unknown": {offer(), func(h *wire.ServerHello) { *h = *retry; h.KeyShare.Group = 24 }, nil, handshake.AlertIllegalParameter},
		"a second retry":              {second, func(h *wire.ServerHello) { *h = *retry }, retry, handshake.AlertUnexpectedMessage},
		"after a retry":               {second, func(h *wire.ServerHello) { h.KeyShare.Group = 23 }, retry, handshake.AlertNone},
		"another suite after a retry": {second, func(h *wire.ServerHello) { h.KeyShare.Group, h.Suite = 23, 0x1301 }, retry, handshake.AlertIllegalParameter},
		"another group after a retry": {second, func(*wire.ServerHello) {}, retry, handshake.AlertIllegalParameter},
	} {
		h := &wire.ServerHello{SessionID: make([]byte, 32), Suite: 0x1302, KeyShare: wire.KeyShare{Group: 29, Key: []byte{1}}}
		c.change(h)
		msg, err := h.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.ParseServerHello(msg)
		if err != nil {
			t.Fatal(err)
		}
		if got := alertOf(t, wire.CheckServerHello(parsed(t, c.offer), got, c.retry)); got != c.want {
			t.Errorf("%s: alert %v, not %v", name, got, c.want)
		}
	}
	// Pre-shared keys by their index.
	h := hello(t, pskHello())
	for index, want := range map[uint16]handshake.Alert{2: handshake.AlertNone, 3: handshake.AlertIllegalParameter} {
		answer := &wire.ServerHello{Suite: 0x1301, PSK: true, SelectedIdentity: index}
		if got := alertOf(t, wire.CheckServerHello(h, answer, nil)); got != want {
			t.Errorf("identity %d: alert %v", index, got)
		}
	}
}

func TestCheckEncrypted(t *testing.T) {
	for name, c := range map[string]struct {
		m    *wire.EncryptedExtensions
		want handshake.Alert
	}{
		"as offered":       {&wire.EncryptedExtensions{ServerName: true, ALPN: "h2", Groups: []uint16{23}}, handshake.AlertNone},
		"another protocol": {&wire.EncryptedExtensions{ALPN: "spdy"}, handshake.AlertIllegalParameter},
		"early data":       {&wire.EncryptedExtensions{EarlyData: true}, handshake.AlertUnsupportedExtension},
	} {
		msg, err := c.m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		m, err := wire.ParseEncryptedExtensions(msg)
		if err != nil {
			t.Fatal(err)
		}
		if got := alertOf(t, wire.CheckEncrypted(parsed(t, offer()), m)); got != c.want {
			t.Errorf("%s: alert %v, not %v", name, got, c.want)
		}
	}
}
