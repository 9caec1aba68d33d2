package handshaketest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// InRecords puts a message into records with at most size bytes each.
func InRecords(msg []byte, size int) []byte {
	var out []byte
	for chunk := range slices.Chunk(msg, size) {
		out = append(out, handshake.RecordHandshake, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(len(chunk)))
		out = append(out, chunk...)
	}
	return out
}

// ScriptedConn is a connection whose peer sends In, in segments of the lengths in Cuts, and then
// closes.
type ScriptedConn struct {
	In   []byte
	Cuts []byte       // lengths of the segments; the rest comes at once
	Out  bytes.Buffer // what was written
}

// Read gives one segment at most.
func (c *ScriptedConn) Read(b []byte) (int, error) {
	if len(c.In) == 0 {
		return 0, io.EOF
	}
	n := len(c.In)
	if len(c.Cuts) > 0 {
		n, c.Cuts = min(n, int(c.Cuts[0])), c.Cuts[1:]
	}
	n = copy(b, c.In[:n])
	c.In = c.In[n:]
	return n, nil
}

// Write keeps what is written in Out.
func (c *ScriptedConn) Write(b []byte) (int, error) { return c.Out.Write(b) }

// Close does nothing.
func (c *ScriptedConn) Close() error { return nil }

// LocalAddr is empty.
func (c *ScriptedConn) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr is empty.
func (c *ScriptedConn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// SetDeadline does nothing: nothing waits.
func (c *ScriptedConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c *ScriptedConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c *ScriptedConn) SetWriteDeadline(time.Time) error { return nil }
