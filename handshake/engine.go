package handshake

import (
	"context"
	"net"
)

// CheckPeer is asked about the peer after its chain was verified and before
// the handshake ends. It may refuse, with an *Error; it grants nothing, for
// the peer is not proven yet. peer is nil where an optional certificate was
// not shown, or none was asked for. It also runs on resumption.
type CheckPeer func(peer *Peer, s *State) error

// State is what the two sides agreed on.
type State struct {
	Version    uint16
	Suite      uint16
	Group      uint16 // 0 for RSA key transport
	ALPN       string
	ServerName string // SNI sent or received
	Resumed    bool
	HelloRetry bool
	// ExtendedMasterSecret says that the session is bound to its handshake (RFC
	// 7627), as it always is in TLS 1.3; false until the handshake has ended.
	ExtendedMasterSecret bool
	// Observed is what the client would have been refused for without
	// Params.Observe, before CheckPeer is asked; nil if nothing. The Peer's
	// chain is not verified then: Chain is nil and Authority is empty.
	Observed *Error
}

// Session is a finished handshake: step 9.
type Session struct {
	State
	// Conn carries the application data. Its Read returns io.EOF only after a
	// close_notify; after a FIN without one ErrNoCloseNotify, or ErrTruncated
	// inside a record. It can be closed without a close_notify: CloseWriteBare.
	Conn Conn
	// Peer is nil if the peer showed no certificate; else it is Proven.
	Peer *Peer
	// Granted is the engine's part of Grant; nil for one of Engine.Client.
	Granted func()
}

// Grant lets the client in: the caller has judged the proven peer, and stands
// by it. Until then nothing can be written to a session of Engine.Server, and
// its ticket does not leave. It does nothing to one of Engine.Client.
func (s *Session) Grant() {
	if s.Granted != nil {
		s.Granted()
	}
}

// Limit is one thing that an engine cannot keep of a Params.
type Limit struct {
	What string // the demand, in the words of the configuration
	Why  string
}

// Planner is what an engine says of a plan without making a handshake. Policy and
// configuration ask it, so that no plan is made that the engine does not keep.
type Planner interface {
	// Capabilities is what the engine implements.
	Capabilities() *Capabilities
	// Cannot lists what the engine cannot keep of p, never silently widened.
	Cannot(p *Params) []Limit
	// Refuses says why no handshake of these parameters can come of a hello,
	// with the alert that is wanted; nil if one may. It is what Server asks
	// before it sends anything: RefusesHello, and what is the engine's own.
	Refuses(p *ServerParams, hello *ClientHello) *Error
}

// Engine does handshakes. Server and Client return a *Error (through errors.As) if
// the handshake did not end well; the connection is then useless and the
// caller closes it. ctx carries the total deadline. Every message is noted in
// the ledger, which must not be nil. It is safe for many goroutines.
type Engine interface {
	Planner
	// Server is sslgate towards the intercepted client. hello is what Peek
	// read; conn replays it. Nothing may be written to the session before
	// Session.Grant, and no ticket may have left.
	Server(ctx context.Context, conn net.Conn, hello *ClientHello, p *ServerParams, check CheckPeer, l *Ledger) (*Session, error)
	// Client is sslgate towards the destination.
	Client(ctx context.Context, conn net.Conn, p *ClientParams, check CheckPeer, l *Ledger) (*Session, error)

	// SetBufferRoom bounds what the buffers of all sessions together take, in
	// bytes, from the next loan on. 0 is as much as the engine takes by itself.
	SetBufferRoom(room int64)
	// RecordBuffers is what they take now, in bytes.
	RecordBuffers() int64
	// CachedChains is how many verified chains are remembered.
	CachedChains() int
}
