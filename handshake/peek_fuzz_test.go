package handshake

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// Whatever comes in whatever segments: an error and no hello, or a hello; and
// the conn gives back exactly what came.
func FuzzPeek(f *testing.F) {
	for _, msg := range seedHellos(f) {
		f.Add(inRecords(msg, MaxPlaintext), []byte{}, 0)
		f.Add(append(inRecords(msg, 100), "early data"...), []byte{1, 1, 1, 1, 1, 1, 0, 9}, 4096)
	}
	for _, s := range notTLSCases() {
		f.Add([]byte(s.in), []byte{1, 1}, 0)
	}
	f.Fuzz(func(t *testing.T, in, cuts []byte, limit int) {
		conn := &scriptedConn{in: in, cuts: cuts}
		h, back, err := Peek(context.Background(), conn, limit)
		if (h == nil) == (err == nil) {
			t.Fatalf("hello %v beside error %v", h, err)
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Step != StepClientHello || e.Reason == "" {
				t.Errorf("not an *Error of step 1 with a reason: %v", err)
			}
		} else if !bytes.Equal(h.Marshal(), h.Raw) || (limit > 0 && len(h.Raw) > limit) {
			t.Errorf("hello of %d bytes, limit %d", len(h.Raw), limit)
		}
		if conn.out.Len() > 0 {
			t.Errorf("sent % x", conn.out.Bytes())
		}
		all, err := io.ReadAll(back)
		if err != nil || !bytes.Equal(all, in) {
			t.Errorf("%d bytes came, %d are given back: %v", len(in), len(all), err)
		}
	})
}
