// Package engines is the gateway's handshake.Engine: it sends each handshake to the
// engine that the profile asks for, Go's crypto/tls (stdtls) or sslgate's own (native).
//
// Of a profile with engine: native, what the native engine does not say that it has (its
// Capabilities) is crypto/tls's all the same: handshakes with destinations that may become
// TLS 1.2, and with clients a version that it has not. Nothing is decided by what a
// handshake turns into: a client's hello says which version it will be, towards a
// destination the profile does, and with it which engine.
package engines

import (
	"context"
	"net"
	"slices"
	"sync"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native"
	"github.com/sslgate/sslgate/handshake/stdtls"
)

const (
	version12 = 0x0303
	version13 = 0x0304
)

// Engine is both engines. Safe for many goroutines.
type Engine struct {
	std, native handshake.Engine
	able        *handshake.Capabilities
	versions    []uint16 // that the native engine itself has
	room        room
}

var _ handshake.Engine = (*Engine)(nil)

// New has crypto/tls and the engine of sslgate's own.
func New() *Engine {
	std := stdtls.New()
	return of(std, native.New(std))
}

// of joins two engines.
func of(std, native handshake.Engine) *Engine {
	able, own := *std.Capabilities(), *native.Capabilities()
	e := &Engine{std: std, native: native, versions: own.Versions}
	if own.Destinations == nil {
		own.Destinations = own.Versions // its own, without those below
	}
	if !slices.Contains(own.Versions, version12) {
		// TLS 1.2 is the other engine's, and so are its names.
		own.Versions = union(own.Versions, able.Versions)
		own.Suites = union(own.Suites, able.Suites)
		own.Schemes = union(own.Schemes, able.Schemes)
	}
	able.Native = &own
	e.able = &able
	return e
}

// union is a, and behind it what b has besides.
func union(a, b []uint16) []uint16 {
	out := slices.Clone(a)
	for _, id := range b {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// Capabilities is what crypto/tls implements, with what profiles of the native engine
// can name in Native.
func (e *Engine) Capabilities() *handshake.Capabilities { return e.able }

// speaks says whether the native engine itself has a version.
func (e *Engine) speaks(version uint16) bool {
	return slices.Contains(e.versions, version)
}

// Cannot lists what cannot be kept of p by the engines that its handshakes with clients
// go to.
func (e *Engine) Cannot(p *handshake.Params) []handshake.Limit {
	if p.Profile.Engine != handshake.EngineNative {
		return e.std.Cannot(p)
	}
	var limits []handshake.Limit
	own, other := *p, *p
	if p.Profile.MinVersion < version13 && !e.speaks(version12) {
		own.Profile.MinVersion = version13
		other.Profile.MaxVersion = version12
		limits = e.std.Cannot(&other)
	}
	if own.Profile.MaxVersion >= own.Profile.MinVersion {
		for _, limit := range e.native.Cannot(&own) {
			if !slices.Contains(limits, limit) {
				limits = append(limits, limit)
			}
		}
	}
	return limits
}

// serves is the engine for a client: the highest version that both have is the one that
// is spoken (handshake.ClientHello.Acceptable). Where there is none the hello is
// refused by either.
func (e *Engine) serves(p *handshake.ServerParams, hello *handshake.ClientHello) handshake.Engine {
	if p.Profile.Engine != handshake.EngineNative {
		return e.std
	}
	for v := p.Profile.MaxVersion; v >= p.Profile.MinVersion; v-- {
		if slices.Contains(hello.SupportedVersions, v) {
			if e.speaks(v) {
				return e.native
			}
			break
		}
	}
	return e.std
}

// Refuses asks the engine that would make the handshake.
func (e *Engine) Refuses(p *handshake.ServerParams, hello *handshake.ClientHello) *handshake.Error {
	return e.serves(p, hello).Refuses(p, hello)
}

// Server makes the handshake with a client.
func (e *Engine) Server(ctx context.Context, conn net.Conn, hello *handshake.ClientHello, p *handshake.ServerParams, check handshake.CheckPeer, l *handshake.Ledger) (*handshake.Session, error) {
	if hello == nil && p.Profile.Engine == handshake.EngineNative {
		return nil, handshake.OurFault("no hello says which engine is asked")
	}
	engine := e.std
	if hello != nil {
		engine = e.serves(p, hello)
	}
	if engine == e.native {
		e.share()
	}
	return engine.Server(ctx, conn, hello, p, check, l)
}

// Client makes the handshake with a destination. A plan of the native engine that it does
// not make itself it still gets: it refuses what crypto/tls cannot keep.
func (e *Engine) Client(ctx context.Context, conn net.Conn, p *handshake.ClientParams, check handshake.CheckPeer, l *handshake.Ledger) (*handshake.Session, error) {
	if p.Profile.Engine != handshake.EngineNative {
		return e.std.Client(ctx, conn, p, check, l)
	}
	e.share()
	return e.native.Client(ctx, conn, p, check, l)
}

// CachedChains is the sum.
func (e *Engine) CachedChains() int { return e.std.CachedChains() + e.native.CachedChains() }

// RecordBuffers is the sum.
func (e *Engine) RecordBuffers() int64 { return e.std.RecordBuffers() + e.native.RecordBuffers() }

// room is how the bound of the buffers is divided: all of it is crypto/tls's until the native
// engine is needed for the first time, and half of it from then on.
type room struct {
	mu     sync.Mutex
	all    int64 // 0: each takes what it takes by itself
	shared bool  // the native engine is in use
	halved bool  // and has its half
}

// SetBufferRoom divides the room between the two.
func (e *Engine) SetBufferRoom(all int64) {
	e.room.mu.Lock()
	defer e.room.mu.Unlock()
	e.room.all, e.room.halved = all, false
	e.divide()
}

// share gives the native engine its part, if it has none yet.
func (e *Engine) share() {
	e.room.mu.Lock()
	defer e.room.mu.Unlock()
	if e.room.halved {
		return
	}
	e.room.shared = true
	e.divide()
}

// divide tells both engines their rooms. The native one gets its half only when what
// the other has lent fits the other half: together they never have more than all.
func (e *Engine) divide() {
	r := &e.room
	const nothing = 1 // 0 would be no bound
	switch {
	case r.all == 0:
		e.std.SetBufferRoom(0)
		e.native.SetBufferRoom(0)
		r.halved = r.shared
	case !r.shared:
		e.std.SetBufferRoom(r.all)
		e.native.SetBufferRoom(nothing)
	default:
		half := max(r.all/2, nothing)
		e.std.SetBufferRoom(half)
		if r.halved = e.std.RecordBuffers() <= half; r.halved {
			e.native.SetBufferRoom(half)
		} else {
			e.native.SetBufferRoom(nothing)
		}
	}
}
