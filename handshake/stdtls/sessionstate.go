package stdtls

import (
	"crypto/tls"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/ticket"
)

// crypto/tls gives and takes sessions in an encoding of its own. These two
// functions are the way from it to ticket.State and back. They know the encoding of
// a server's session without early data (crypto/tls/ticket.go); what is anything
// else, or has a field that a later Go adds, is refused, and then sessions are not
// resumed.
//
//	version 2 | type 1 (1: server) | suite 2 | made 8 | secret <1> | extra <3> |
//	extended_master_secret 1 | early_data 1 | CertificateEntry list <3>, the first
//	with its extensions <2> | verified chains <3> | group 2, in TLS 1.2 alone
//
// <n> is a vector with a length of n bytes in front.

// readSession reads the encoding into s: version, suite, secret, chain, staple and when
// it was made. The rest of s stays as it is.
func readSession(s *ticket.State, encoded []byte) bool {
	b := cryptobyte.String(encoded)
	var kind, ems, early uint8
	var made uint64
	var secret, extra, certs, verified cryptobyte.String
	if !b.ReadUint16(&s.Version) || !b.ReadUint8(&kind) || kind != 1 || !b.ReadUint16(&s.Suite) || !b.ReadUint64(&made) ||
		!b.ReadUint8LengthPrefixed(&secret) || !b.ReadUint24LengthPrefixed(&extra) || !extra.Empty() ||
		!b.ReadUint8(&ems) || ems > 1 || !b.ReadUint8(&early) || early != 0 ||
		!b.ReadUint24LengthPrefixed(&certs) || !b.ReadUint24LengthPrefixed(&verified) || !verified.Empty() {
		return false
	}
	s.Made, s.Secret, s.ExtendedMasterSecret, s.Chain, s.Staple = time.Unix(int64(made), 0), secret, ems == 1, nil, nil
	if s.Version < tls.VersionTLS13 && !b.ReadUint16(&s.Group) || !b.Empty() {
		return false
	}
	for !certs.Empty() {
		var der, extensions cryptobyte.String
		if !certs.ReadUint24LengthPrefixed(&der) || !certs.ReadUint16LengthPrefixed(&extensions) {
			return false
		}
		s.Chain = append(s.Chain, der)
		for !extensions.Empty() {
			var id uint16
			var body, staple cryptobyte.String
			if !extensions.ReadUint16(&id) || !extensions.ReadUint16LengthPrefixed(&body) {
				return false
			}
			if id != handshake.ExtStatusRequest {
				continue // certificate timestamps: nothing is decided by them
			}
			if !body.Skip(1) || !body.ReadUint24LengthPrefixed(&staple) || !body.Empty() || len(s.Chain) != 1 {
				return false
			}
			s.Staple = staple
		}
	}
	return true
}

// writeSession is the encoding of a state.
func writeSession(s *ticket.State) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, s.Room()))
	flag := func(set bool) {
		var v uint8
		if set {
			v = 1
		}
		b.AddUint8(v)
	}
	b.AddUint16(s.Version)
	b.AddUint8(1)
	b.AddUint16(s.Suite)
	b.AddUint64(uint64(s.Made.Unix()))
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Secret) })
	b.AddUint24(0)
	flag(s.ExtendedMasterSecret)
	flag(false)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		for i, der := range s.Chain {
			b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(der) })
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				if i > 0 || len(s.Staple) == 0 {
					return
				}
				b.AddUint16(handshake.ExtStatusRequest)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
					b.AddUint8(1) // ocsp (RFC 6066, section 8)
					b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Staple) })
				})
			})
		}
	})
	b.AddUint24(0)
	if s.Version < tls.VersionTLS13 {
		b.AddUint16(s.Group)
	}
	return b.Bytes()
}
