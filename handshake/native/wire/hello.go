package wire

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// PSK modes (RFC 8446, section 4.2.9).
const (
	ModePSK    = 0 // psk_ke: no forward secrecy
	ModePSKDHE = 1 // psk_dhe_ke
)

// KeyShares are the key shares of a hello, in order (RFC 8446, section 4.2.8): one
// for a group at most. nil where the extension is absent; an empty list asks for
// a HelloRetryRequest.
func KeyShares(h *handshake.ClientHello) ([]KeyShare, error) {
	const name = handshake.MsgClientHello
	data, ok := find(h.Extensions, handshake.ExtKeyShare)
	if !ok {
		return nil, nil
	}
	s := cryptobyte.String(data)
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || !s.Empty() {
		return nil, undecodable(name, "key_share")
	}
	shares := []KeyShare{}
	for !list.Empty() {
		var share KeyShare
		var key cryptobyte.String
		if !list.ReadUint16(&share.Group) || !list.ReadUint16LengthPrefixed(&key) || key.Empty() {
			return nil, undecodable(name, "key_share")
		}
		share.Key = key
		for _, other := range shares { // few: ParseClientHello has a cap
			if other.Group == share.Group {
				return nil, bad(name, handshake.AlertIllegalParameter, "two key shares of %s", handshake.GroupName(share.Group))
			}
		}
		shares = append(shares, share)
	}
	return shares, nil
}

// PSKIdentity is an identity of a pre_shared_key extension (RFC 8446, section 4.2.11).
type PSKIdentity struct {
	Identity      []byte // a ticket of ours, or of somebody else
	ObfuscatedAge uint32 // milliseconds, with ticket_age_add added
}

// OfferedPSKs is the pre_shared_key extension of a hello.
type OfferedPSKs struct {
	Identities []PSKIdentity
	Binders    [][]byte // one for each identity, of 32 to 255 bytes
	// Truncated is the hello up to and including the identities: what the binders
	// are computed over (section 4.2.11.2).
	Truncated []byte
}

// ReadPSKs reads the pre_shared_key extension of a hello, which must be its last; nil
// where it is absent.
func ReadPSKs(h *handshake.ClientHello) (*OfferedPSKs, error) {
	const name = handshake.MsgClientHello
	data, ok := find(h.Extensions, handshake.ExtPreSharedKey)
	if !ok {
		return nil, nil
	}
	if h.Extensions[len(h.Extensions)-1].Type != handshake.ExtPreSharedKey {
		return nil, bad(name, handshake.AlertIllegalParameter, "pre_shared_key is not the last extension")
	}
	s := cryptobyte.String(data)
	var identities, binders cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&identities) || !s.ReadUint16LengthPrefixed(&binders) || !s.Empty() || identities.Empty() || binders.Empty() {
		return nil, undecodable(name, "pre_shared_key")
	}
	p := &OfferedPSKs{Truncated: h.Raw[:len(h.Raw)-2-len(binders)]}
	for !identities.Empty() {
		var id PSKIdentity
		var identity cryptobyte.String
		if !identities.ReadUint16LengthPrefixed(&identity) || identity.Empty() || !identities.ReadUint32(&id.ObfuscatedAge) {
			return nil, undecodable(name, "an identity of pre_shared_key")
		}
		id.Identity = identity
		p.Identities = append(p.Identities, id)
	}
	for !binders.Empty() {
		var binder cryptobyte.String
		if !binders.ReadUint8LengthPrefixed(&binder) || len(binder) < 32 {
			return nil, undecodable(name, "a binder of pre_shared_key")
		}
		if len(p.Binders) == len(p.Identities) {
			return nil, bad(name, handshake.AlertIllegalParameter, "pre_shared_key has more binders than identities")
		}
		p.Binders = append(p.Binders, binder)
	}
	if len(p.Binders) != len(p.Identities) {
		return nil, bad(name, handshake.AlertIllegalParameter, "pre_shared_key has fewer binders than identities")
	}
	return p, nil
}

// PSKModes are the modes of psk_key_exchange_modes, unknown ones included (RFC 8446,
// section 4.2.9); nil where it is absent.
func PSKModes(h *handshake.ClientHello) ([]byte, error) {
	data, ok := find(h.Extensions, handshake.ExtPSKModes)
	if !ok {
		return nil, nil
	}
	s := cryptobyte.String(data)
	var modes cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&modes) || !s.Empty() || modes.Empty() {
		return nil, undecodable(handshake.MsgClientHello, "psk_key_exchange_modes")
	}
	return modes, nil
}

// Cookie is what a hello gives back of a HelloRetryRequest (RFC 8446, section 4.2.2);
// nil where it is absent.
func Cookie(h *handshake.ClientHello) ([]byte, error) {
	data, ok := find(h.Extensions, handshake.ExtCookie)
	if !ok {
		return nil, nil
	}
	s := cryptobyte.String(data)
	var cookie cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&cookie) || !s.Empty() || cookie.Empty() {
		return nil, undecodable(handshake.MsgClientHello, "cookie")
	}
	return cookie, nil
}
