package keys

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The values of RFC 8448, section 3 (Simple 1-RTT Handshake).
func TestRFC8448(t *testing.T) {
	s := SuiteOf(tls.TLS_AES_128_GCM_SHA256)
	same := func(what string, got []byte, want string) {
		t.Helper()
		if !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%s is %x, want %s", what, got, want)
		}
	}
	early := NewEarly(s, nil)
	same("the Early Secret", early.value(), "33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a")
	earlyValue, shared := early.value(), unhex(t, "8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d")
	hs := early.Handshake(shared)
	same("the Handshake Secret", hs.value(), "1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac")
	zero := make([]byte, 32)
	if !bytes.Equal(earlyValue, zero) || !bytes.Equal(shared, zero) {
		t.Error("the Early Secret or the shared secret is still there")
	}
	hellos := unhex(t, "860c06edc07858ee8e78f0e7428c58edd6b43f2ca3e6e95f02ed063cf0e1cad8")
	client, server := hs.Client(hellos), hs.Server(hellos)
	same("client_handshake_traffic_secret", client.value(), "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21")
	same("server_handshake_traffic_secret", server.value(), "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38")
	_, iv := server.Protection()
	same("the server's IV", iv[:], "5d313eb2671276ee13000b30")
	same("the server's key", labelled(server, "key", 16), "3fce516009c21727d0f2e4e86ee403bc")
	same("the server's Finished", server.Finished(unhex(t, "edb7725fa7a3473b031ec8ef65a2485493900138a2b91291407d7951a06110ed")),
		"9b9b141d906337fbd2cbdce71df4deda4ab42c309572cb7fffee5454b78f0718")
	m := hs.Master()
	same("the Master Secret", m.value(), "18df06843d13a08bf2a449844c5f8a478001bc4d4c627984d5a41da8d0402919")
	finished := unhex(t, "9608102a0f1ccc6db6250b7b7e417b1a000eaada3daae4777a7686c9ff83df13")
	same("client_application_traffic_secret_0", m.Client(finished).value(), "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5")
	same("server_application_traffic_secret_0", m.Server(finished).value(), "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
	same("the client's Finished", client.Finished(finished), "a8ec436d677634ae525ac1fcebe11a039ec17694fac6e98527b642f2edd5ce61")
	res := m.Resumption(unhex(t, "209145a96ee8e2a122ff810047cc952684658d6049e86429426db87c54ad143d"))
	same("resumption_master_secret", res.value(), "7df235f2031d2a051287d02b0241b0bfdaf86cc856231f2d5aba46c434ec196c")
	same("the PSK", res.PSK([]byte{0, 0}), "4ecd0eb6ec3b4d87f5d6028f922ca4c5851a277fd41311c9e62d2c9492e1c4f3")
}

func labelled(t *Traffic, label string, n int) []byte {
	out := make([]byte, n)
	t.expandLabel(out, label, nil)
	return out
}

// Every secret of another epoch is another one, and the one before is gone.
func TestNextEpoch(t *testing.T) {
	for _, id := range []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256} {
		s := SuiteOf(id)
		first := NewEarly(s, nil).Handshake(make([]byte, 32)).Client(s.Hash([]byte("x")))
		kept, value := bytes.Clone(first.value()), first.value()
		next := first.Next()
		if bytes.Equal(next.value(), kept) || len(next.value()) != s.HashSize || !bytes.Equal(value, make([]byte, s.HashSize)) {
			t.Errorf("%#04x: %x after %x, which is now %x", id, next.value(), kept, value)
		}
		a, iv := next.Protection()
		if a.NonceSize() != NonceSize || iv == [NonceSize]byte{} {
			t.Errorf("%#04x: a nonce of %d bytes, IV %x", id, a.NonceSize(), iv)
		}
	}
	if SuiteOf(0x1304) != nil {
		t.Error("TLS_AES_128_CCM_SHA256 is implemented")
	}
}

func TestTranscript(t *testing.T) {
	a, b := sha256.Sum256([]byte("ab")), sha512.Sum384([]byte("ab"))
	for id, want := range map[uint16][]byte{tls.TLS_CHACHA20_POLY1305_SHA256: a[:], tls.TLS_AES_256_GCM_SHA384: b[:]} {
		tr := NewTranscript(SuiteOf(id))
		tr.Add([]byte("a"))
		ahead, err := tr.SumWith([]byte("b"))
		if err != nil || !bytes.Equal(ahead, want) {
			t.Errorf("%#04x: %x, %v", id, ahead, err)
		}
		if tr.Add([]byte("b")); !bytes.Equal(tr.Sum(), want) {
			t.Errorf("%#04x: %x", id, tr.Sum())
		}
	}
}

// client makes the client's part of a key exchange.
func client(t *testing.T, group tls.CurveID) (share []byte, finish func(server []byte) []byte) {
	t.Helper()
	var curve ecdh.Curve
	var own *ecdh.PrivateKey
	var point []byte
	switch group {
	case tls.X25519, tls.X25519MLKEM768:
		curve = ecdh.X25519()
	case tls.CurveP256, tls.SecP256r1MLKEM768:
		curve = ecdh.P256()
	case tls.CurveP384, tls.SecP384r1MLKEM1024:
		curve = ecdh.P384()
	case tls.CurveP521:
		curve = ecdh.P521()
	}
	if curve != nil {
		own = must(curve.GenerateKey(rand.Reader))
		point = own.PublicKey().Bytes()
	}
	agreed := func(b []byte) []byte { return must(own.ECDH(must(curve.NewPublicKey(b)))) }
	switch group {
	case tls.X25519MLKEM768:
		dk := must(mlkem.GenerateKey768())
		return append(dk.EncapsulationKey().Bytes(), point...), func(b []byte) []byte {
			return append(must(dk.Decapsulate(b[:mlkem.CiphertextSize768])), agreed(b[mlkem.CiphertextSize768:])...)
		}
	case tls.SecP256r1MLKEM768:
		dk := must(mlkem.GenerateKey768())
		return append(point, dk.EncapsulationKey().Bytes()...), func(b []byte) []byte {
			return append(agreed(b[:65]), must(dk.Decapsulate(b[65:]))...)
		}
	case tls.SecP384r1MLKEM1024:
		dk := must(mlkem.GenerateKey1024())
		return append(point, dk.EncapsulationKey().Bytes()...), func(b []byte) []byte {
			return append(agreed(b[:97]), must(dk.Decapsulate(b[97:]))...)
		}
	case tls.MLKEM1024:
		dk := must(mlkem.GenerateKey1024())
		return dk.EncapsulationKey().Bytes(), func(b []byte) []byte { return must(dk.Decapsulate(b)) }
	}
	return point, agreed
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestKeyExchange(t *testing.T) {
	for _, group := range Groups() {
		share, finish := client(t, tls.CurveID(group))
		shared, ours, err := Answer(group, share)
		if err != nil {
			t.Errorf("group %d: %v", group, err)
			continue
		}
		if got := finish(ours); !bytes.Equal(got, shared) {
			t.Errorf("group %d: the client has %x, the server %x", group, got, shared)
		}
		again, _, err := Answer(group, share)
		if err != nil || bytes.Equal(again, shared) {
			t.Errorf("group %d: twice the same secret, %v", group, err)
		}
		for name, bad := range map[string][]byte{
			"empty": {}, "a byte less": share[:len(share)-1], "a byte more": append(bytes.Clone(share), 0),
			"zeros": make([]byte, len(share)), "ones": bytes.Repeat([]byte{0xff}, len(share)),
		} {
			// ML-KEM takes an encapsulation key of zeros, X25519 a point of ones.
			if name == "zeros" && tls.CurveID(group) == tls.MLKEM1024 || name == "ones" && tls.CurveID(group) == tls.X25519 {
				continue
			}
			if _, _, err := Answer(group, bad); err == nil {
				t.Errorf("group %d: a share that is bad (%s) is taken", group, name)
			}
		}
	}
	if _, _, err := Answer(0x0100, make([]byte, 256)); err == nil {
		t.Error("ffdhe2048 is implemented")
	}
}

func TestBinder(t *testing.T) {
	s := SuiteOf(tls.TLS_AES_128_GCM_SHA256)
	// RFC 8448, section 4: the PSK of section 3.
	e := NewEarly(s, unhex(t, "4ecd0eb6ec3b4d87f5d6028f922ca4c5851a277fd41311c9e62d2c9492e1c4f3"))
	got := e.Binder(unhex(t, "63224b2e4573f2d3454ca84b9d009a04f6be9e05711a8396473aefa01e924a14"))
	if want := unhex(t, "3add4fb2d8fdf822a0ca3cf7678ef5e88dae990141c5924d57bb6fa31b9e5f9d"); !Equal(got, want) {
		t.Errorf("%x", got)
	}
	if got[0] ^= 1; Equal(got, unhex(t, "3add4fb2d8fdf822a0ca3cf7678ef5e88dae990141c5924d57bb6fa31b9e5f9d")) || Equal(got[:31], got) {
		t.Error("what differs is equal")
	}
}
