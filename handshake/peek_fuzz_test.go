package handshake_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// Whatever comes in whatever segments: an error and no hello, or a hello; and
// the conn gives back exactly what came.
func FuzzPeek(f *testing.F) {
	for _, msg := range seedHellos(f) {
		f.Add(handshaketest.InRecords(msg, handshake.MaxPlaintext), []byte{}, 0)
		f.Add(append(handshaketest.InRecords(msg, 100), "early data"...), []byte{1, 1, 1, 1, 1, 1, 0, 9}, 4096)
	}
	for _, s := range notTLSCases() {
		f.Add([]byte(s.in), []byte{1, 1}, 0)
	}
	f.Fuzz(func(t *testing.T, in, cuts []byte, limit int) {
		conn := &handshaketest.ScriptedConn{In: in, Cuts: cuts}
		h, back, err := handshake.Peek(context.Background(), conn, limit)
		if (h == nil) == (err == nil) {
			t.Fatalf("hello %v beside error %v", h, err)
		}
		if err != nil {
			var e *handshake.Error
			if !errors.As(err, &e) || e.Step != handshake.StepClientHello || e.Reason == "" {
				t.Errorf("not an *Error of step 1 with a reason: %v", err)
			}
		} else if !bytes.Equal(h.Marshal(), h.Raw) || (limit > 0 && len(h.Raw) > limit) {
			t.Errorf("hello of %d bytes, limit %d", len(h.Raw), limit)
		}
		if conn.Out.Len() > 0 {
			t.Errorf("sent % x", conn.Out.Bytes())
		}
		all, err := io.ReadAll(back)
		if err != nil || !bytes.Equal(all, in) {
			t.Errorf("%d bytes came, %d are given back: %v", len(in), len(all), err)
		}
	})
}
