package record

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"sync"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// traffic12 are the keys of a client; the same ones each time.
func traffic12(suite uint16) *keys.Traffic12 {
	var random [32]byte
	client, _ := keys.NewMaster12(keys.Suite12Of(suite), make([]byte, 32), &random, &random).Expand(&random, &random)
	return client
}

// No nonce is used twice with a key of TLS 1.2, and the part of it that stands in a record
// is none that was seen before.
func TestNoncesNeverRepeat12(t *testing.T) {
	for _, suite := range keys.Suites12() {
		seen, conn := map[string]int{}, &handshaketest.ScriptedConn{}
		w := NewWriter(conn, &Buffers{})
		w.SetKeys12(traffic12(suite))
		w.keys.aead = &watched{AEAD: w.keys.aead, mu: &sync.Mutex{}, seen: seen}
		for i := range 40 {
			_ = w.Add(handshake.RecordAppData, make([]byte, 1+i*1000))
			if i%3 == 0 {
				_ = w.Flush()
			}
		}
		_ = w.Flush()
		for nonce, n := range seen {
			if n != 1 {
				t.Errorf("%#04x: nonce %x was used %d times", suite, nonce, n)
			}
		}
		onWire, out := map[string]bool{}, conn.Out.Bytes()
		for len(out) > 0 {
			n := handshake.RecordHeader + handshake.RecordLen(out)
			onWire[string(out[handshake.RecordHeader:][:keys.ExplicitNonce])] = true
			out = out[n:]
		}
		if len(seen) < 40 || len(onWire) != len(seen) {
			t.Errorf("%#04x: %d nonces, %d on the wire", suite, len(seen), len(onWire))
		}
	}
}

// A key of AES-GCM stops at its limit, every key at the end of its sequence numbers.
func TestLimit12(t *testing.T) {
	w := NewWriter(&handshaketest.ScriptedConn{}, &Buffers{})
	w.SetKeys12(traffic12(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256))
	if w.keys.blocks = maxBlocks - 2; w.Add(handshake.RecordAppData, []byte{1}) != nil || w.Due() {
		t.Error("stopped before the limit")
	}
	if err := w.Add(handshake.RecordAppData, []byte{1}); !errors.Is(err, errLimit) || !errors.Is(w.Flush(), errLimit) {
		t.Errorf("%v at the limit", err)
	}
	w = NewWriter(&handshaketest.ScriptedConn{}, &Buffers{})
	w.SetKeys12(traffic12(tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256))
	w.keys.seq, w.keys.blocks = math.MaxUint64, maxBlocks
	if err := w.Add(handshake.RecordAppData, []byte{1}); !errors.Is(err, errUsedUp) {
		t.Error(err)
	}
}

// What may stand in a record of TLS 1.2, before and behind the keys.
func TestRecords12(t *testing.T) {
	sealed := func(typ uint8, n int) []byte {
		conn := &handshaketest.ScriptedConn{}
		w := NewWriter(conn, &Buffers{})
		w.SetKeys12(traffic12(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256))
		w.buf = w.buffers.record()
		w.seal(typ, make([]byte, n))
		_ = w.Flush()
		return conn.Out.Bytes()
	}
	other := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		record []byte
		keys   bool
		want   handshake.Alert // AlertNone: taken
	}{
		"change_cipher_spec":                {[]byte{20, 3, 3, 0, 1, 1}, false, handshake.AlertNone},
		"a handshake record":                {[]byte{22, 3, 3, 0, 1, 1}, false, handshake.AlertNone},
		"an alert":                          {[]byte{21, 3, 3, 0, 2, 2, 40}, false, handshake.AlertNone},
		"another version":                   {[]byte{22, 3, 1, 0, 1, 1}, false, handshake.AlertProtocolVersion},
		"application data":                  {[]byte{23, 3, 3, 0, 1, 1}, false, handshake.AlertUnexpectedMessage},
		"an empty handshake record":         {[]byte{22, 3, 3, 0, 0}, false, handshake.AlertUnexpectedMessage},
		"an unknown type":                   {[]byte{24, 3, 3, 0, 1, 1}, false, handshake.AlertUnexpectedMessage},
		"too long":                          {append([]byte{22, 3, 3, 0x40, 1}, make([]byte, 1<<14+1)...), false, handshake.AlertRecordOverflow},
		"sealed data":                       {sealed(23, 5), true, handshake.AlertNone},
		"sealed data of full size":          {sealed(23, handshake.MaxPlaintext), true, handshake.AlertNone},
		"sealed data that is too long":      {sealed(23, handshake.MaxPlaintext+1), true, handshake.AlertRecordOverflow},
		"no sealed data":                    {sealed(23, 0), true, handshake.AlertNone},
		"a sealed handshake record":         {sealed(22, 5), true, handshake.AlertNone},
		"an empty sealed handshake record":  {sealed(22, 0), true, handshake.AlertUnexpectedMessage},
		"a sealed change_cipher_spec":       {sealed(20, 1), true, handshake.AlertUnexpectedMessage},
		"another type than was sealed":      {other(sealed(23, 5), 0), true, handshake.AlertBadRecordMAC},
		"another nonce than was sealed":     {other(sealed(23, 5), 5), true, handshake.AlertBadRecordMAC},
		"other content than was sealed":     {other(sealed(23, 5), 13), true, handshake.AlertBadRecordMAC},
		"an alert in the clear behind keys": {[]byte{21, 3, 3, 0, 2, 2, 40}, true, handshake.AlertBadRecordMAC},
		"a short record behind keys":        {append([]byte{23, 3, 3, 0, 23}, make([]byte, 23)...), true, handshake.AlertBadRecordMAC},
	} {
		r := NewReader(&pieces{data: c.record}, &Buffers{})
		r.Begin12()
		if c.keys {
			r.SetKeys12(traffic12(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256))
		}
		typ, _, err := r.Next()
		var bad *Fault
		switch {
		case errors.As(err, &bad) && bad.Alert != c.want, err != nil && bad == nil, err == nil && (c.want != handshake.AlertNone || typ != c.record[0]):
			t.Errorf("%s: type %d, %v", name, typ, err)
		}
	}
}

// What is written is read, however it is cut; what was changed is not.
func FuzzRoundTrip12(f *testing.F) {
	f.Add([]byte("hello"), uint16(3), []byte{1, 0, 200}, -1, uint8(0))
	f.Add(bytes.Repeat([]byte{7}, 300), uint16(200), []byte{}, 9, uint8(5))
	f.Fuzz(func(t *testing.T, unit []byte, times uint16, sizes []byte, flip int, suite uint8) {
		id := keys.Suites12()[int(suite)%len(keys.Suites12())]
		want := bytes.Repeat(unit, int(times)%512)
		conn, buffers := &handshaketest.ScriptedConn{}, &Buffers{}
		w := NewWriter(conn, buffers)
		w.SetKeys12(traffic12(id))
		if w.Add(handshake.RecordAppData, want) != nil || w.Flush() != nil {
			t.Fatal("not written")
		}
		data := conn.Out.Bytes()
		if flip = flip % max(1, len(data)); flip >= 0 && len(data) > 0 {
			data[flip] ^= 0x80
		}
		r := NewReader(&pieces{data: data, sizes: sizes}, buffers)
		r.Begin12()
		r.SetKeys12(traffic12(id))
		r.Establish()
		var got []byte
		var err error
		for err == nil {
			var content []byte
			_, content, err = r.Next()
			got = append(got, content...)
		}
		if flip < 0 || len(data) == 0 {
			if !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
			}
		} else if errors.Is(err, io.EOF) || !bytes.HasPrefix(want, got) {
			t.Fatalf("byte %d of %d was changed: %d bytes came, %v", flip, len(data), len(got), err)
		}
		if r.Release(); buffers.Lent() != 0 {
			t.Fatalf("%d bytes are lent", buffers.Lent())
		}
	})
}
