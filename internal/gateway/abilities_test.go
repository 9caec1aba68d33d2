package gateway

import (
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/stack"
)

// What the relay asks of the two kinds of connections that are below everything.
var (
	_ interface {
		handshake.Conn
		handshake.ReadWaiter
		handshake.InboundQueue
		handshake.InboundWaiter
		handshake.QueueDepths
	} = (*stack.Conn)(nil)
	_ interface {
		handshake.Conn
		handshake.ReadWaiter
		handshake.DirectWriter
	} = (*socket)(nil)
)

func TestTurnConnKeepsAbilities(t *testing.T) {
	handshaketest.KeepsAbilities(t, func(below net.Conn) net.Conn { return NewTurnConn(below, nil, nil) })
	handshaketest.KeepsAbilities(t, func(below net.Conn) net.Conn {
		_, c, _ := handshake.Peek(t.Context(), below, 0) // what comes is no hello
		return NewTurnConn(c, nil, nil)
	})
}
