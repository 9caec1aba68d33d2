package keys

import (
	"bytes"
	"crypto/tls"
	"testing"
)

// The test vectors of the PRF with SHA-256 and SHA-384 that were published on the IETF's
// TLS list.
func TestPRF(t *testing.T) {
	for _, c := range []struct {
		suite              uint16
		secret, seed, want string
	}{
		{
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "9bbe436ba940f017b17652849a71db35", "a0ba9f936cda311827a6f796ffd5198c",
			"e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66",
		},
		{
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "b80b733d6ceefcdc71566ea48e5567df", "cd665cf6a8447dd6ff8b27555edb7465",
			"7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe34f82b1233c9146a0e534cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3d416d473ebc2c5fd4abfdad05d9184259b5bf8cd4d90fa0d31e2dec479e4f1a26066f2eea9a69236a3e52655c9e9aee691c8f3a26854308d5eaa3be85e0990703d73e56f",
		},
	} {
		want := unhex(t, c.want)
		got := Suite12Of(c.suite).prf(unhex(t, c.secret), "test label", unhex(t, c.seed), len(want))
		if !bytes.Equal(got, want) {
			t.Errorf("%#04x: %x", c.suite, got)
		}
	}
}

// Both directions have keys of their own, of the suite's lengths; secrets that are used up
// are gone.
func TestMaster12(t *testing.T) {
	client, server := [32]byte{1}, [32]byte{2}
	for _, id := range Suites12() {
		s := Suite12Of(id)
		shared := bytes.Repeat([]byte{7}, 32)
		m := NewMaster12(s, shared, &client, &server)
		if len(m.value) != MasterSize || !bytes.Equal(shared, make([]byte, 32)) {
			t.Errorf("%#04x: a master secret of %d bytes, of %x", id, len(m.value), shared)
		}
		extended := NewExtendedMaster12(s, bytes.Repeat([]byte{7}, 32), s.Hash(nil))
		if bytes.Equal(extended.value, m.value) || bytes.Equal(m.ClientFinished(nil), m.ServerFinished(nil)) || len(m.ClientFinished(nil)) != finishedSize {
			t.Errorf("%#04x: what must differ is the same", id)
		}
		a, b := m.Expand(&client, &server)
		if bytes.Equal(a.key, b.key) || bytes.Equal(a.iv, b.iv) || len(a.key) != s.keyLen || len(a.iv) != s.fixedIV {
			t.Errorf("%#04x: %+v, %+v", id, a, b)
		}
		again, _ := ResumedMaster12(s, m.Secret()).Expand(&client, &server)
		if !bytes.Equal(a.key, again.key) {
			t.Errorf("%#04x: the session that is gone on with has another master secret", id)
		}
		aead, iv, explicit := a.Protection()
		if aead.NonceSize() != NonceSize || explicit != (s.fixedIV == 4) || !bytes.Equal(iv[:s.fixedIV], a.iv) {
			t.Errorf("%#04x: IV %x", id, iv)
		}
		m.Clear()
		a.Clear()
		if !bytes.Equal(m.value, make([]byte, MasterSize)) || !bytes.Equal(a.key, make([]byte, s.keyLen)) {
			t.Errorf("%#04x: a secret is still there", id)
		}
	}
	if ResumedMaster12(Suite12Of(Suites12()[0]), make([]byte, 32)) != nil || Suite12Of(tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA) != nil {
		t.Error("a PSK of TLS 1.3 is a master secret, or CBC is implemented")
	}
}

func TestECDHE(t *testing.T) {
	for _, group := range Groups12() {
		e := must(NewECDHE(group))
		share, finish := client(t, tls.CurveID(group))
		if got := must(e.Agree(share)); !bytes.Equal(got, finish(e.Public())) {
			t.Errorf("group %d: %x", group, got)
		}
		for name, bad := range map[string][]byte{"nothing": nil, "a byte less": share[1:], "zeros": make([]byte, len(share))} {
			if _, err := e.Agree(bad); err == nil {
				t.Errorf("group %d: a point that is bad (%s) is taken", group, name)
			}
		}
	}
	if _, err := NewECDHE(uint16(tls.X25519MLKEM768)); err == nil || len(Groups12()) != 4 {
		t.Errorf("%x are groups of TLS 1.2, %v", Groups12(), err)
	}
}
