// Package native is a handshake engine of our own, for clients that speak TLS 1.3 (RFC
// 8446) or TLS 1.2 with ECDHE and an AEAD (RFC 5246, RFC 8422), and for destinations with
// TLS 1.3: it keeps a profile to the letter, asks about a peer once it is proven, chooses
// every alert, and notes its ledger first-hand.
//
// How to read it: leg.go is what a handshake has on either side. server.go makes one with a
// client, whose states are types in server13*.go, server12.go and client12.go, one function
// a state; choose.go and choose12.go are what a hello and a profile have in common.
// client.go makes one with a destination, whose states are in client13*.go. chain.go is
// what a peer shows, conn.go is step 9. Below are packages wire (the messages), record (the
// record layer) and keys (the key schedule and the key exchange). Cryptography is that of
// the standard library and golang.org/x/crypto.
package native

import (
	"context"
	"crypto/fips140"
	"crypto/tls"
	"net"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
)

// Engine is both sides of TLS 1.3, and the server's of TLS 1.2. What it has not, older
// versions and the client's side of TLS 1.2, another engine does, or it is refused: see
// Cannot and Refuses. It is
// safe for many goroutines; its state are caches and the buffers that it lends.
type Engine struct {
	std     handshake.Engine
	buffers record.Buffers
	chains  handshake.ChainCache
	known   knownCerts
}

// New returns the engine. std is the one that speaks TLS 1.2 to destinations; its buffers and
// its cache are its own, and bounded apart.
func New(std handshake.Engine) *Engine { return &Engine{std: std} }

// schemes are the signature schemes that a CertificateVerify may have, the cheapest
// to verify first.
func schemes() []uint16 {
	return []uint16{
		uint16(tls.ECDSAWithP256AndSHA256), uint16(tls.Ed25519), uint16(tls.ECDSAWithP384AndSHA384), uint16(tls.ECDSAWithP521AndSHA512),
		uint16(tls.PSSWithSHA256), uint16(tls.PSSWithSHA384), uint16(tls.PSSWithSHA512),
		uint16(tls.MLDSA44), uint16(tls.MLDSA65), uint16(tls.MLDSA87),
	}
}

// schemesCert are those that stand on certificates alone (RFC 8446, section 4.2.3).
func schemesCert() []uint16 {
	return []uint16{uint16(tls.PKCS1WithSHA256), uint16(tls.PKCS1WithSHA384), uint16(tls.PKCS1WithSHA512)}
}

// Capabilities is what the engine implements.
func (*Engine) Capabilities() *handshake.Capabilities {
	return &handshake.Capabilities{
		Engine: "the native engine", Versions: []uint16{tls.VersionTLS13, tls.VersionTLS12}, Suites: slices.Concat(handshake.Suites13(), keys.Suites12()),
		Destinations: []uint16{tls.VersionTLS13}, Groups: keys.Groups(), Schemes: slices.Concat(schemes(), schemesCert()),
	}
}

// Cannot lists what the engine cannot keep of p, as the plan of a server.
func (e *Engine) Cannot(p *handshake.Params) []handshake.Limit {
	pr, able := &p.Profile, e.Capabilities()
	var limits []handshake.Limit
	lacks := func(what string) {
		limits = append(limits, handshake.Limit{What: what, Why: able.Engine + " does not implement it"})
	}
	if fips140.Enabled() {
		limits = append(limits, handshake.Limit{What: "GODEBUG=fips140", Why: "what " + able.Engine + " composes was not validated: crypto/tls was"})
	}
	if pr.MinVersion < tls.VersionTLS12 {
		lacks(handshake.VersionName(pr.MinVersion))
	}
	for _, list := range []struct {
		of, have []uint16
		name     func(uint16) string
	}{
		{pr.Suites13, able.Suites, handshake.SuiteName}, {pr.Suites12, able.Suites, handshake.SuiteName}, {pr.Groups, able.Groups, handshake.GroupName},
		{pr.Signatures, able.Schemes, handshake.SchemeName},
	} {
		for _, id := range list.of {
			if !slices.Contains(list.have, id) {
				lacks(list.name(id))
			}
		}
	}
	return limits
}

// Refuses says why no handshake of these parameters can come of a hello; nil if one
// may.
func (*Engine) Refuses(p *handshake.ServerParams, h *handshake.ClientHello) *handshake.Error {
	_, e := choose(p, h)
	return e
}

// Client makes handshakes of TLS 1.3 alone. Others are the other engine's, and where it
// cannot keep the plan, nothing is sent.
func (e *Engine) Client(ctx context.Context, conn net.Conn, p *handshake.ClientParams, check handshake.CheckPeer, l *handshake.Ledger) (*handshake.Session, error) {
	if e.Capabilities().Dials(&p.Profile) {
		return e.dial(ctx, conn, p, check, l)
	}
	for _, limit := range e.std.Cannot(&p.Params) {
		return nil, handshake.OurFault("towards destinations " + limit.What + " cannot be kept: " + limit.Why)
	}
	return e.std.Client(ctx, conn, p, check, l)
}

// SetBufferRoom bounds what the record buffers of all sessions together take, in
// bytes, from the next loan on; 128 MiB, which 0 means too, is the most.
func (e *Engine) SetBufferRoom(room int64) { e.buffers.SetRoom(room) }

// RecordBuffers is what they take now, in bytes.
func (e *Engine) RecordBuffers() int64 { return e.buffers.Lent() }

// CachedChains is how many verified chains are remembered.
func (e *Engine) CachedChains() int { return e.chains.Len() }

var _ handshake.Engine = (*Engine)(nil)
