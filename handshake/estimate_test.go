package handshake_test

import (
	"reflect"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// A compact hello has everything that is decided by, and takes little.
func TestCompactHello(t *testing.T) {
	for name, msg := range map[string][]byte{
		"1.3": handshaketest.GoodHello().Bytes(), "1.2": handshaketest.Hello12().Bytes(), "padded": handshaketest.GoodHello().With(21, make([]byte, 30000)).Bytes(),
		"ALPN": handshaketest.GoodHello().With(handshake.ExtALPN, []byte("\x00\x0c\x02h2\x08http/1.1")).Bytes(),
	} {
		h, err := handshake.ParseClientHello(msg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c := h.Compact()
		if c.Raw != nil || c.Held() >= h.Held() {
			t.Errorf("%s: %d bytes of %d", name, c.Held(), h.Held())
		}
		for i := range c.Extensions {
			if c.Extensions[i].Data != nil || c.Extensions[i].Type != h.Extensions[i].Type {
				t.Errorf("%s: extension %d", name, i)
			}
		}
		if c.Summary() != h.Summary() {
			t.Errorf("%s: %s, was %s", name, c.Summary(), h.Summary())
		}
		whole := *h
		whole.Raw, whole.Extensions = nil, c.Extensions
		if d := *c; !reflect.DeepEqual(normal(d), normal(whole)) {
			t.Errorf("%s: %+v, was %+v", name, d, whole)
		}
	}
}

// normal has nil for empty lists.
func normal(h handshake.ClientHello) handshake.ClientHello {
	for _, b := range []*[]byte{&h.SessionID, &h.CompressionMethods, &h.PointFormats} {
		if len(*b) == 0 {
			*b = nil
		}
	}
	return h
}
