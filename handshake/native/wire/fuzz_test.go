package wire_test

import (
	"bytes"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// Every parser of the message's type, in every version.
func FuzzMessages(f *testing.F) {
	for _, made := range []map[string]message{handmade(), handmade12()} {
		for name, m := range made {
			msg, err := m.Marshal()
			if err != nil {
				f.Fatalf("%s: %v", name, err)
			}
			f.Add(msg)
			f.Add(append(bytes.Clone(msg), 0))
			f.Add(msg[:len(msg)-1])
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		if len(msg) == 0 {
			return
		}
		for _, all := range versions {
			for _, parse := range all[msg[0]] {
				checkParse(t, parse, msg)
			}
		}
	})
}

// What is read of a hello that ParseClientHello takes: both agree, and nothing is read
// that does not stand there. Against itself as the second hello it fails only for
// what a second one must not have, or must.
func FuzzHello(f *testing.F) {
	psk := handshaketest.GoodHello().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, handshaketest.PSKData(2, 2))
	for _, h := range []*handshaketest.Hello{handshaketest.GoodHello(), handshaketest.Hello12(), psk, handshaketest.GoodHello().With(handshake.ExtCookie, []byte{0, 1, 7})} {
		f.Add(h.Bytes(), uint16(29))
	}
	f.Fuzz(func(t *testing.T, msg []byte, group uint16) {
		h, err := handshake.ParseClientHello(msg)
		if err != nil {
			return
		}
		shares, err := wire.KeyShares(h)
		if alertOf(t, err) == handshake.AlertNone && len(shares) != len(h.KeyShares) || err != nil && h.Fault13 == nil && len(h.SupportedVersions) > 0 && h.SupportedVersions[0] == 0x0304 {
			t.Errorf("%d key shares, ParseClientHello has %d (%v)", len(shares), len(h.KeyShares), err)
		}
		for i, s := range shares {
			if s.Group != h.KeyShares[i] || len(s.Key) == 0 {
				t.Errorf("key share %d is of group %d, %d bytes", i, s.Group, len(s.Key))
			}
		}
		psks, err := wire.ReadPSKs(h)
		alertOf(t, err)
		if psks != nil && (!bytes.HasPrefix(msg, psks.Truncated) || len(psks.Binders) != len(psks.Identities) || len(msg)-len(psks.Truncated) != bindersSize(psks)) {
			t.Errorf("truncated to %d of %d bytes, binders take %d", len(psks.Truncated), len(msg), bindersSize(psks))
		}
		_, err = wire.PSKModes(h)
		alertOf(t, err)
		_, err = wire.Cookie(h)
		alertOf(t, err)
		err = wire.CheckSecond(h, h, &wire.ServerHello{Retry: true, KeyShare: wire.KeyShare{Group: group}})
		if alertOf(t, err) == handshake.AlertNone && (h.EarlyData || group != 0 && (len(h.KeyShares) != 1 || h.KeyShares[0] != group)) {
			t.Error("a second hello with early data, or without the share that was asked for, is taken")
		}
	})
}

func bindersSize(p *wire.OfferedPSKs) int {
	n := 2
	for _, b := range p.Binders {
		n += 1 + len(b)
	}
	return n
}
