package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/tls"
	"testing"
)

// sameAsStd holds mac, extract and expand against the standard library's.
func sameAsStd(t *testing.T, id uint16, key, message []byte, n int) {
	t.Helper()
	s := SuiteOf(id)
	var got [maxHash]byte
	h := hmac.New(s.newHash, key)
	h.Write(message)
	s.mac(&got, key, message)
	if want := h.Sum(nil); !bytes.Equal(got[:s.HashSize], want) {
		t.Errorf("%#04x: HMAC of a key of %d bytes and a message of %d is %x, want %x", id, len(key), len(message), got, want)
	}
	cut := len(message) / 3
	var again [maxHash]byte
	if s.mac(&again, key, message[:cut], message[cut:]); again != got {
		t.Errorf("%#04x: HMAC of a message of %d bytes in two parts is another one", id, len(message))
	}
	s.extract(&got, message, key)
	if want := must(hkdf.Extract(s.newHash, message, key)); !bytes.Equal(got[:s.HashSize], want) {
		t.Errorf("%#04x: HKDF-Extract is %x, want %x", id, got, want)
	}
	out := make([]byte, n%(s.HashSize+1))
	s.expand(out, key, message)
	if want := must(hkdf.Expand(s.newHash, key, string(message), len(out))); !bytes.Equal(out, want) {
		t.Errorf("%#04x: HKDF-Expand is %x, want %x", id, out, want)
	}
}

// Keys and messages around a block's length, and where a message is longer than its room.
func TestHMAC(t *testing.T) {
	for _, id := range []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384} {
		for _, key := range []int{0, 1, 32, 48, 63, 64, 65, 127, 128, 129, 300} {
			for _, message := range []int{0, 1, 63, 64, 65, usualMessage - 1, usualMessage, usualMessage + 1, maxBlock + usualMessage, 1000} {
				sameAsStd(t, id, bytes.Repeat([]byte{0xa5}, key), bytes.Repeat([]byte{0x5a}, message), key+message)
			}
		}
	}
}

// The output may stand where the input does, as in the chain of the PRF.
func TestHMACInPlace(t *testing.T) {
	s := SuiteOf(tls.TLS_AES_256_GCM_SHA384)
	var a, b [maxHash]byte
	s.mac(&a, []byte("key"), []byte("message"))
	s.mac(&b, []byte("key"), a[:])
	if s.mac(&a, []byte("key"), a[:]); a != b {
		t.Errorf("%x, want %x", a, b)
	}
}

func FuzzHMAC(f *testing.F) {
	f.Add([]byte("key"), []byte("message"), 32, true)
	f.Add(make([]byte, 200), make([]byte, 500), 48, false)
	f.Fuzz(func(t *testing.T, key, message []byte, n int, large bool) {
		id := tls.TLS_AES_128_GCM_SHA256
		if large {
			id = tls.TLS_AES_256_GCM_SHA384
		}
		sameAsStd(t, id, key, message, max(n, 0))
	})
}

// A handshake's keys leave nothing behind but themselves.
func TestScheduleAllocates(t *testing.T) {
	s := SuiteOf(tls.TLS_AES_128_GCM_SHA256)
	var out [maxHash]byte
	key := NewEarly(s, nil)
	if n := testing.AllocsPerRun(100, func() { key.expandLabel(out[:16], "key", nil) }); n != 0 {
		t.Errorf("%v objects for one key", n)
	}
}
