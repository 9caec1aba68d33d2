package handshake_test

import (
	"errors"
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// peeked is what Peek returns of a connection that ends at once.
func peeked(t *testing.T) func(net.Conn) net.Conn {
	return func(below net.Conn) net.Conn {
		_, c, err := handshake.Peek(t.Context(), below, 0)
		if err == nil {
			t.Error("a hello of nothing")
		}
		return c
	}
}

// Whatever wraps a connection keeps what it is able to do. The engine's own wrapper and
// the gateway's have the same test.
func TestPeekKeepsAbilities(t *testing.T) {
	handshaketest.KeepsAbilities(t, peeked(t))
	handshaketest.KeepsAbilities(t, func(below net.Conn) net.Conn { return peeked(t)(peeked(t)(below)) })
	c := peeked(t)(&handshaketest.ScriptedConn{})
	if err := c.(handshake.Conn).CloseWrite(); !errors.Is(err, handshake.ErrNoHalfClose) {
		t.Errorf("CloseWrite over a connection that has none: %v", err)
	}
	if _, ok := c.(handshake.Peeked); !ok {
		t.Error("not a Peeked")
	}
}
