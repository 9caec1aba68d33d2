package wire

import (
	"bytes"
	"slices"

	"github.com/sslgate/sslgate/handshake"
)

// CheckSecond judges the ClientHello that answers a HelloRetryRequest (RFC 8446,
// section 4.1.2). It must be the first one again but for:
//
//   - key_share, if the request names a group: one share, of that group
//   - early_data, which must be gone
//   - cookie, if the request has one: the same bytes
//   - pre_shared_key: other ages and binders; identities may be gone, in the order of
//     before
//   - padding (RFC 7685) of any length
//   - the content of encrypted_client_hello, which is encrypted anew (RFC 9849,
//     section 6.1.5)
//
// The order of extensions means nothing (section 4.2) and is not compared.
func CheckSecond(first, second *handshake.ClientHello, retry *ServerHello) error {
	switch {
	case first.LegacyVersion != second.LegacyVersion:
		return changed("legacy_version")
	case first.Random != second.Random:
		return changed("random")
	case !bytes.Equal(first.SessionID, second.SessionID):
		return changed("legacy_session_id")
	case !slices.Equal(first.CipherSuites, second.CipherSuites):
		return changed("cipher_suites")
	case !bytes.Equal(first.CompressionMethods, second.CompressionMethods):
		return changed("legacy_compression_methods")
	}
	if err := sameExtensions(first, second, retry); err != nil {
		return err
	}
	if err := retriedShare(second, retry); err != nil {
		return err
	}
	cookie, err := Cookie(second)
	if err != nil {
		return err
	}
	if retry.Cookie != nil && cookie == nil {
		return bad(handshake.MsgClientHello, handshake.AlertMissingExtension, "no cookie after HelloRetryRequest")
	}
	if retry.Cookie != nil && !bytes.Equal(cookie, retry.Cookie) {
		return changed("cookie")
	}
	return fewerPSKs(first, second)
}

func changed(what string) error {
	return bad(handshake.MsgClientHello, handshake.AlertIllegalParameter, "after HelloRetryRequest %s is another one", what)
}

// sameExtensions compares those that may not change, and whether those that may are
// there. Each hello has at most 128.
func sameExtensions(first, second *handshake.ClientHello, retry *ServerHello) error {
	const name = handshake.MsgClientHello
	for _, e := range first.Extensions {
		data, still := find(second.Extensions, e.Type)
		switch e.Type {
		case extPadding, handshake.ExtPreSharedKey:
			continue
		case handshake.ExtEarlyData:
			if still {
				return bad(name, handshake.AlertIllegalParameter, "early_data after HelloRetryRequest")
			}
			continue
		case handshake.ExtCookie:
			if retry.Cookie != nil {
				continue
			}
		case handshake.ExtKeyShare:
			if retry.KeyShare.Group != 0 {
				continue
			}
		case handshake.ExtECH:
			if still {
				continue
			}
		}
		if !still || !bytes.Equal(data, e.Data) {
			return bad(name, handshake.AlertIllegalParameter, "after HelloRetryRequest extension %d is another one", e.Type)
		}
	}
	for _, e := range second.Extensions {
		if _, before := find(first.Extensions, e.Type); before || e.Type == extPadding || e.Type == handshake.ExtCookie && retry.Cookie != nil {
			continue
		}
		return bad(name, handshake.AlertIllegalParameter, "extension %d is new after HelloRetryRequest", e.Type)
	}
	return nil
}

// retriedShare: RFC 8446, section 4.2.8.
func retriedShare(second *handshake.ClientHello, retry *ServerHello) error {
	if retry.KeyShare.Group == 0 {
		return nil
	}
	shares, err := KeyShares(second)
	if err != nil {
		return err
	}
	if len(shares) != 1 || shares[0].Group != retry.KeyShare.Group {
		return bad(handshake.MsgClientHello, handshake.AlertIllegalParameter, "not the one key share of %s that HelloRetryRequest asked for", handshake.GroupName(retry.KeyShare.Group))
	}
	return nil
}

// fewerPSKs: identities are those of before, in their order, or fewer.
func fewerPSKs(first, second *handshake.ClientHello) error {
	after, err := ReadPSKs(second)
	if err != nil || after == nil {
		return err
	}
	before, err := ReadPSKs(first)
	if err != nil {
		return err
	}
	if before == nil {
		return changed("pre_shared_key")
	}
	rest := before.Identities
	for _, id := range after.Identities {
		i := slices.IndexFunc(rest, func(other PSKIdentity) bool { return bytes.Equal(other.Identity, id.Identity) })
		if i < 0 {
			return changed("an identity of pre_shared_key")
		}
		rest = rest[i+1:]
	}
	return nil
}
