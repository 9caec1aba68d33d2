package wire_test

import (
	"bytes"
	"crypto/tls"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

func TestKeyShares(t *testing.T) {
	rec := handshaketest.RecordedHello(t, &tls.Config{ServerName: "shop.example", MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519}})
	h, err := handshake.ParseClientHello(rec[handshake.RecordHeader:])
	if err != nil {
		t.Fatal(err)
	}
	shares, err := wire.KeyShares(h)
	if err != nil || len(shares) != 2 || shares[0].Group != uint16(tls.X25519MLKEM768) || len(shares[0].Key) != 1184+32 || len(shares[1].Key) != 32 {
		t.Errorf("%v, %v", shares, err)
	}
	if shares, err := wire.KeyShares(hello(t, handshaketest.Hello12())); shares != nil || err != nil {
		t.Errorf("a hello without the extension has %v, %v", shares, err)
	}
	empty, err := wire.KeyShares(hello(t, handshaketest.GoodHello().With(handshake.ExtKeyShare, []byte{0, 0})))
	if empty == nil || len(empty) != 0 || err != nil {
		t.Errorf("an empty list is %v, %v", empty, err)
	}
	// In a hello of TLS 1.2 nobody else has looked at them.
	twice := hello(t, handshaketest.Hello12().With(handshake.ExtKeyShare, handshaketest.KeyShares(29, 29)))
	if _, err := wire.KeyShares(twice); alertOf(t, err) != handshake.AlertIllegalParameter {
		t.Errorf("two shares of one group: %v", err)
	}
}

func pskHello() *handshaketest.Hello {
	return handshaketest.GoodHello().With(handshake.ExtPSKModes, []byte{2, 1, 0}).With(handshake.ExtPreSharedKey, psks("one", "two", "three"))
}

// psks is the content of a pre_shared_key extension.
func psks(identities ...string) []byte {
	var ids, binders []byte
	for i, id := range identities {
		ids = append(append(ids, 0, byte(len(id))), id...)
		ids = append(ids, 0, 0, 0, byte(i))
		binders = append(append(binders, 32), bytes.Repeat([]byte{byte(i)}, 32)...)
	}
	return slices.Concat(handshaketest.Prefixed(ids...), handshaketest.Prefixed(binders...))
}

func TestReadPSKs(t *testing.T) {
	h := hello(t, pskHello())
	p, err := wire.ReadPSKs(h)
	if err != nil || len(p.Identities) != 3 || string(p.Identities[1].Identity) != "two" || p.Identities[2].ObfuscatedAge != 2 || p.Binders[2][31] != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	if !bytes.HasSuffix(p.Truncated, []byte("three\x00\x00\x00\x02")) || !bytes.HasPrefix(h.Raw, p.Truncated) {
		t.Errorf("truncated to %q", p.Truncated)
	}
	if modes, err := wire.PSKModes(h); err != nil || !bytes.Equal(modes, []byte{wire.ModePSKDHE, wire.ModePSK}) {
		t.Errorf("modes %v, %v", modes, err)
	}
	for name, data := range map[string][]byte{
		"a binder too few": handshaketest.PSKData(2, 1), "a binder too many": handshaketest.PSKData(1, 2),
		"no identity": handshaketest.PSKData(0, 1), "no binder": handshaketest.PSKData(1, 0),
		"short":             {0, 1},
		"an empty identity": slices.Concat(handshaketest.Prefixed(0, 0, 0, 0, 0, 0), handshaketest.Prefixed(append([]byte{32}, make([]byte, 32)...)...)),
		"31 bytes":          slices.Concat(handshaketest.Prefixed(0, 1, 1, 0, 0, 0, 0), handshaketest.Prefixed(append([]byte{31}, make([]byte, 31)...)...)),
	} {
		// TLS 1.2, so that ParseClientHello lets it pass.
		p, err := wire.ReadPSKs(hello(t, handshaketest.Hello12().With(handshake.ExtPreSharedKey, data)))
		if p != nil || alertOf(t, err) == handshake.AlertNone {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// Each change of the second hello that RFC 8446, section 4.1.2, lists, and others.
func TestCheckSecond(t *testing.T) {
	retry := &wire.ServerHello{Retry: true, KeyShare: wire.KeyShare{Group: 23}}
	cookie := &wire.ServerHello{Retry: true, Cookie: []byte{7, 7}}
	share := func(h *handshaketest.Hello) *handshaketest.Hello {
		return h.With(handshake.ExtKeyShare, handshaketest.KeyShares(23))
	}
	good := func() *handshaketest.Hello { return share(handshaketest.GoodHello()) }
	grease := func() *handshaketest.Hello {
		return handshaketest.GoodHello().With(handshake.ExtECH, []byte{0, 0, 1, 0, 1, 7, 0, 1, 9, 0, 1, 8})
	}
	padded := func(n int) *handshaketest.Hello { return handshaketest.GoodHello().With(21, make([]byte, n)) }
	for name, c := range map[string]struct {
		first, second *handshaketest.Hello
		retry         *wire.ServerHello
		want          handshake.Alert
	}{
		"the share":             {handshaketest.GoodHello(), good(), retry, handshake.AlertNone},
		"the cookie":            {handshaketest.GoodHello(), handshaketest.GoodHello().With(handshake.ExtCookie, []byte{0, 2, 7, 7}), cookie, handshake.AlertNone},
		"no early data":         {pskHello().With(handshake.ExtEarlyData, nil).Without(handshake.ExtPreSharedKey).With(handshake.ExtPreSharedKey, psks("one")), share(pskHello().Without(handshake.ExtPreSharedKey)).With(handshake.ExtPreSharedKey, psks("one")), retry, handshake.AlertNone},
		"fewer identities":      {pskHello(), share(pskHello().With(handshake.ExtPreSharedKey, psks("one", "three"))), retry, handshake.AlertNone},
		"no identities":         {pskHello(), share(pskHello().Without(handshake.ExtPreSharedKey)), retry, handshake.AlertNone},
		"more padding":          {padded(3), share(padded(9)), retry, handshake.AlertNone},
		"no more padding":       {padded(3), good(), retry, handshake.AlertNone},
		"new padding":           {handshaketest.GoodHello(), share(padded(1)), retry, handshake.AlertNone},
		"encrypted hello":       {grease(), share(grease().With(handshake.ExtECH, []byte{0, 0, 1, 0, 1, 7, 0, 0, 0, 1, 9})), retry, handshake.AlertNone},
		"the order":             {handshaketest.GoodHello(), good().Without(handshake.ExtServerName).With(handshake.ExtServerName, handshaketest.SNIData("shop.example")), retry, handshake.AlertNone},
		"the share of before":   {handshaketest.GoodHello(), handshaketest.GoodHello(), retry, handshake.AlertIllegalParameter},
		"two shares":            {handshaketest.GoodHello(), handshaketest.GoodHello().With(handshake.ExtKeyShare, handshaketest.KeyShares(23, 29)), retry, handshake.AlertIllegalParameter},
		"no share":              {handshaketest.GoodHello(), handshaketest.GoodHello().With(handshake.ExtKeyShare, []byte{0, 0}), retry, handshake.AlertIllegalParameter},
		"a share not asked for": {handshaketest.GoodHello(), good().With(handshake.ExtCookie, []byte{0, 2, 7, 7}), cookie, handshake.AlertIllegalParameter},
		"no cookie":             {handshaketest.GoodHello(), handshaketest.GoodHello(), cookie, handshake.AlertMissingExtension},
		"another cookie":        {handshaketest.GoodHello(), handshaketest.GoodHello().With(handshake.ExtCookie, []byte{0, 2, 7, 8}), cookie, handshake.AlertIllegalParameter},
		"a cookie from nowhere": {handshaketest.GoodHello(), good().With(handshake.ExtCookie, []byte{0, 2, 7, 7}), retry, handshake.AlertIllegalParameter},
		"early data still":      {pskHello().Without(handshake.ExtPreSharedKey).With(handshake.ExtEarlyData, nil).With(handshake.ExtPreSharedKey, psks("one")), share(pskHello().Without(handshake.ExtPreSharedKey).With(handshake.ExtEarlyData, nil)).With(handshake.ExtPreSharedKey, psks("one")), retry, handshake.AlertIllegalParameter},
		"another identity":      {pskHello(), share(pskHello().With(handshake.ExtPreSharedKey, psks("one", "four"))), retry, handshake.AlertIllegalParameter},
		"other order":           {pskHello(), share(pskHello().With(handshake.ExtPreSharedKey, psks("two", "one"))), retry, handshake.AlertIllegalParameter},
		"new identities":        {pskHello().Without(handshake.ExtPreSharedKey), share(pskHello()), retry, handshake.AlertIllegalParameter},
		"another name":          {handshaketest.GoodHello(), good().With(handshake.ExtServerName, handshaketest.SNIData("other.example")), retry, handshake.AlertIllegalParameter},
		"no name":               {handshaketest.GoodHello(), good().Without(handshake.ExtServerName), retry, handshake.AlertIllegalParameter},
		"a new extension":       {handshaketest.GoodHello(), good().With(0x4a4a, nil), retry, handshake.AlertIllegalParameter},
		"other groups":          {handshaketest.GoodHello(), good().With(handshake.ExtSupportedGroups, handshaketest.List16(23)), retry, handshake.AlertIllegalParameter},
		"no encrypted hello":    {grease(), good(), retry, handshake.AlertIllegalParameter},
	} {
		t.Run(name, func(t *testing.T) {
			if got := alertOf(t, wire.CheckSecond(hello(t, c.first), hello(t, c.second), c.retry)); got != c.want {
				t.Errorf("alert %v, not %v", got, c.want)
			}
		})
	}
	for name, change := range map[string]func(h *handshake.ClientHello){
		"random":      func(h *handshake.ClientHello) { h.Random[31]++ },
		"session ID":  func(h *handshake.ClientHello) { h.SessionID = []byte{1} },
		"version":     func(h *handshake.ClientHello) { h.LegacyVersion++ },
		"suites":      func(h *handshake.ClientHello) { h.CipherSuites = h.CipherSuites[1:] },
		"compression": func(h *handshake.ClientHello) { h.CompressionMethods = []byte{0, 1} },
	} {
		second := hello(t, good())
		change(second)
		if got := alertOf(t, wire.CheckSecond(hello(t, handshaketest.GoodHello()), second, retry)); got != handshake.AlertIllegalParameter {
			t.Errorf("%s: alert %v", name, got)
		}
	}
}
