// Package ticket is the layout of what a session ticket holds: one encoder and one
// parser, for every engine, process and gateway that is to open it. docs/tickets.md
// describes it, and what a ticket is bound to. Keys seal it.
package ticket

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// State is what a session ticket holds: all that is needed to resume the
// session, whatever engine or process made it, and nothing of how the engine did.
// docs/tickets.md has its layout and what a ticket is bound to.
type State struct {
	// Session names the session in records. Random; the same in every ticket of
	// one full handshake.
	Session [8]byte
	// Born is when the full handshake was, Made when this ticket was, Until the
	// earliest end of the client's verified chain. In whole seconds.
	Born, Made, Until time.Time

	Version uint16 // tls.VersionTLS12 or tls.VersionTLS13
	Suite   uint16 // never 0
	Group   uint16 // of the key exchange of the full handshake, 0 for RSA key transport
	Scheme  uint16 // of the client's proof of possession; 0 if and only if Chain is empty
	// ExtendedMasterSecret is RFC 7627's, of TLS 1.2.
	ExtendedMasterSecret bool
	// Secret is the PSK of the ticket in TLS 1.3 (RFC 8446, section 4.6.1), the
	// master secret in TLS 1.2 (RFC 5246, section 8.1), in bytes.
	Secret []byte `json:"-"`
	// Chain is what the client showed, leaf first, in DER; empty if it showed none.
	Chain [][]byte
	// Staple is the OCSP response that the client showed with it, in DER; empty if none.
	Staple []byte
}

// MaxState is the largest state, in bytes: a chain of six ML-DSA-87 certificates
// fits, of 7,500 bytes each, and a ClientHello, whose extensions have at most 65,535,
// has 16 KiB left for everything else.
const MaxState = 48 << 10

const maxSecret = 64 // of a hash in use: 32 or 48

// Version is the first byte of a state, and part of the name that a ticket is
// sealed under. It changes with the layout and with what the name is made of.
// Versions 1 and 2 were those of crypto/tls's own encoding.
const Version = 4

// hasEMS is the one flag of a state.
const hasEMS = 1

var errState = errors.New("ticket: not the state of a ticket")

// Marshal is the state in bytes. The error is of a state that Parse
// would refuse.
func (s *State) Marshal() ([]byte, error) {
	if !s.valid() {
		return nil, errState
	}
	var flags uint8
	if s.ExtendedMasterSecret {
		flags = hasEMS
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, s.Room()))
	b.AddUint8(Version)
	b.AddUint8(flags)
	b.AddUint16(s.Version)
	b.AddUint16(s.Suite)
	b.AddUint16(s.Group)
	b.AddUint16(s.Scheme)
	b.AddBytes(s.Session[:])
	for _, t := range []time.Time{s.Born, s.Made, s.Until} {
		b.AddUint64(uint64(t.Unix()))
	}
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Secret) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, der := range s.Chain {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(der) })
		}
	})
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Staple) })
	out, err := b.Bytes()
	if err != nil || len(out) > MaxState {
		return nil, errState // a chain too large for its field, or for a ticket
	}
	return out, nil
}

// Parse reads what Marshal has made, and nothing else: another version,
// a bit or a byte too many is an error. The state does not refer to data.
func Parse(data []byte) (*State, error) {
	if len(data) > MaxState {
		return nil, errState
	}
	own := bytes.Clone(data)
	s, ok := parse(own)
	if !ok {
		clear(own) // nobody gets the secret that may be in it
		return nil, errState
	}
	return s, nil
}

// parse is Parse of bytes that the state keeps.
func parse(data []byte) (*State, bool) {
	b := cryptobyte.String(data)
	var version, flags uint8
	var secret, chain, staple cryptobyte.String
	var born, made, until uint64
	s := &State{}
	if !b.ReadUint8(&version) || version != Version || !b.ReadUint8(&flags) || flags&^hasEMS != 0 ||
		!b.ReadUint16(&s.Version) || !b.ReadUint16(&s.Suite) || !b.ReadUint16(&s.Group) || !b.ReadUint16(&s.Scheme) ||
		!b.CopyBytes(s.Session[:]) || !b.ReadUint64(&born) || !b.ReadUint64(&made) || !b.ReadUint64(&until) ||
		!b.ReadUint8LengthPrefixed(&secret) || !b.ReadUint16LengthPrefixed(&chain) || !b.ReadUint16LengthPrefixed(&staple) || !b.Empty() {
		return nil, false
	}
	s.ExtendedMasterSecret = flags&hasEMS != 0
	s.Born, s.Made, s.Until = time.Unix(int64(born), 0), time.Unix(int64(made), 0), time.Unix(int64(until), 0)
	s.Secret, s.Staple = secret, staple
	for !chain.Empty() {
		var der cryptobyte.String
		if !chain.ReadUint16LengthPrefixed(&der) {
			return nil, false
		}
		s.Chain = append(s.Chain, der)
	}
	return s, s.valid()
}

// valid says whether the fields agree with each other.
func (s *State) valid() bool {
	for _, der := range s.Chain {
		if len(der) == 0 {
			return false
		}
	}
	return (s.Version == tls.VersionTLS12 || s.Version == tls.VersionTLS13) && s.Suite != 0 &&
		len(s.Secret) > 0 && len(s.Secret) <= maxSecret &&
		(len(s.Chain) == 0) == (s.Scheme == 0) && (len(s.Staple) == 0 || len(s.Chain) > 0)
}

// Room is enough for the state in either encoding, so that no copy of the secret is
// left where a buffer grew.
func (s *State) Room() int {
	n := 256 + len(s.Secret) + len(s.Staple)
	for _, der := range s.Chain {
		n += len(der) + 8
	}
	return n
}

// Leaf is the SHA-256 of the client's certificate, zero if it showed none.
func (s *State) Leaf() [32]byte {
	if len(s.Chain) == 0 {
		return [32]byte{}
	}
	return sha256.Sum256(s.Chain[0])
}

// Format names the session in records, and keeps its secret out of whatever prints one by
// mistake, with any verb.
func (s State) Format(to fmt.State, _ rune) {
	_, _ = io.WriteString(to, hex.EncodeToString(s.Session[:]))
}
