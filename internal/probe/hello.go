package probe

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// The extensions that an offer has (IANA "TLS ExtensionType Values").
const (
	extServerName           uint16 = 0
	extStatusRequest        uint16 = 5
	extSupportedGroups      uint16 = 10
	extPointFormats         uint16 = 11
	extSignatureAlgorithms  uint16 = 13
	extALPN                 uint16 = 16
	extExtendedMasterSecret uint16 = 23
	extSessionTicket        uint16 = 35
	extSupportedVersions    uint16 = 43
	extPSKModes             uint16 = 45
	extKeyShare             uint16 = 51
	extRenegotiationInfo    uint16 = 0xff01
)

const (
	suiteRenegotiationSCSV uint16 = 0x00ff // RFC 5746, section 3.3
	suiteFallbackSCSV      uint16 = 0x5600 // RFC 7507, section 2
	grease                 uint16 = 0x0a0a // RFC 8701: known to nobody
)

// offer is one ClientHello: exactly the choices that the server gets.
type offer struct {
	// version is the only version offered. TLS 1.3 and later go into supported_versions,
	// earlier ones into legacy_version.
	version uint16
	suites  []uint16
	groups  []uint16
	// shares are the groups to send a key share for in TLS 1.3, out of shareable. Without
	// any, the server has to answer with a HelloRetryRequest that names the group it
	// prefers (RFC 8446, section 4.2.8).
	shares      []uint16
	name        string // SNI, "" sends none
	alpn        []string
	compression []byte // nil means only null
	noEMS       bool   // leaves extended_master_secret out
}

// hello builds the ClientHello.
func (o *offer) hello() (*handshake.ClientHello, error) {
	h := &handshake.ClientHello{
		LegacyVersion: min(o.version, tls.VersionTLS12), CipherSuites: o.suites,
		CompressionMethods: []byte{0}, HasExtensions: true,
	}
	if o.compression != nil {
		h.CompressionMethods = o.compression
	}
	if _, err := rand.Read(h.Random[:]); err != nil {
		return nil, fmt.Errorf("make a random: %w", err)
	}
	add := func(typ uint16, build func(b *cryptobyte.Builder)) {
		var b cryptobyte.Builder
		build(&b)
		h.Extensions = append(h.Extensions, handshake.Extension{Type: typ, Data: b.BytesOrPanic()})
	}
	if o.name != "" {
		add(extServerName, func(b *cryptobyte.Builder) { // RFC 6066, section 3
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				b.AddUint8(0) // host_name
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(o.name)) })
			})
		})
	}
	add(extStatusRequest, func(b *cryptobyte.Builder) { b.AddBytes([]byte{1, 0, 0, 0, 0}) }) // OCSP, RFC 6066, section 8
	if len(o.groups) > 0 {
		add(extSupportedGroups, func(b *cryptobyte.Builder) { list16(b, o.groups) })
	}
	add(extPointFormats, func(b *cryptobyte.Builder) { b.AddBytes([]byte{1, 0}) }) // uncompressed
	add(extSignatureAlgorithms, func(b *cryptobyte.Builder) { list16(b, allSchemes()) })
	if len(o.alpn) > 0 {
		add(extALPN, func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				for _, p := range o.alpn {
					b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(p)) })
				}
			})
		})
	}
	if !o.noEMS {
		add(extExtendedMasterSecret, func(*cryptobyte.Builder) {})
	}
	add(extSessionTicket, func(*cryptobyte.Builder) {})
	add(extRenegotiationInfo, func(b *cryptobyte.Builder) { b.AddUint8(0) })
	if o.version > tls.VersionTLS12 {
		// The middlebox compatibility of RFC 8446, appendix D.4.
		h.SessionID = make([]byte, 32)
		if _, err := rand.Read(h.SessionID); err != nil {
			return nil, fmt.Errorf("make a session ID: %w", err)
		}
		add(extSupportedVersions, func(b *cryptobyte.Builder) {
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(o.version) })
		})
		add(extPSKModes, func(b *cryptobyte.Builder) { b.AddBytes([]byte{1, 1}) }) // psk_dhe_ke
		var err error
		add(extKeyShare, func(b *cryptobyte.Builder) { err = addShares(b, o.shares) })
		if err != nil {
			return nil, err
		}
	}
	return h, nil
}

// record is the hello as one record on the wire. The largest hello (all CipherSuites) has
// about 1 KiB, so one record is enough.
func (o *offer) record() ([]byte, error) {
	h, err := o.hello()
	if err != nil {
		return nil, err
	}
	msg := h.Marshal()
	// RFC 8446, section 5.1: the first record says TLS 1.0.
	out := []byte{recordHandshake, 3, 1, 0, 0}
	binary.BigEndian.PutUint16(out[3:], uint16(len(msg)))
	return append(out, msg...), nil
}

// shareable are the groups that a key share can be made for.
func shareable() []uint16 {
	return []uint16{
		uint16(tls.X25519), uint16(tls.CurveP256), uint16(tls.CurveP384), uint16(tls.CurveP521),
		uint16(tls.X25519MLKEM768), uint16(tls.SecP256r1MLKEM768), uint16(tls.SecP384r1MLKEM1024), uint16(tls.MLKEM1024),
	}
}

// keyShare makes a public value for one of shareable, and discards the private one. The
// order within a hybrid is that of RFC 10024, section 4.
func keyShare(group uint16) ([]byte, error) {
	public := func(c ecdh.Curve) []byte {
		k, err := c.GenerateKey(rand.Reader)
		if err != nil {
			return nil
		}
		return k.PublicKey().Bytes()
	}
	kem768 := func() []byte {
		k, err := mlkem.GenerateKey768()
		if err != nil {
			return nil
		}
		return k.EncapsulationKey().Bytes()
	}
	var parts [][]byte
	switch tls.CurveID(group) {
	case tls.X25519:
		parts = [][]byte{public(ecdh.X25519())}
	case tls.CurveP256:
		parts = [][]byte{public(ecdh.P256())}
	case tls.CurveP384:
		parts = [][]byte{public(ecdh.P384())}
	case tls.CurveP521:
		parts = [][]byte{public(ecdh.P521())}
	case tls.X25519MLKEM768:
		parts = [][]byte{kem768(), public(ecdh.X25519())}
	case tls.SecP256r1MLKEM768:
		parts = [][]byte{public(ecdh.P256()), kem768()}
	case tls.SecP384r1MLKEM1024, tls.MLKEM1024:
		k, err := mlkem.GenerateKey1024()
		if err != nil {
			return nil, err
		}
		if parts = [][]byte{k.EncapsulationKey().Bytes()}; group == uint16(tls.SecP384r1MLKEM1024) {
			parts = [][]byte{public(ecdh.P384()), parts[0]}
		}
	}
	for _, p := range parts {
		if p == nil {
			return nil, errors.New("no randomness")
		}
	}
	return slices.Concat(parts...), nil
}

func addShares(b *cryptobyte.Builder, groups []uint16) error {
	var failed error
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, g := range groups {
			share, err := keyShare(g)
			if err != nil {
				failed = fmt.Errorf("make a key share: %w", err)
				return
			}
			b.AddUint16(g)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(share) })
		}
	})
	return failed
}

func list16(b *cryptobyte.Builder, ids []uint16) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, id := range ids {
			b.AddUint16(id)
		}
	})
}

// suites13 are those of RFC 8446, appendix B.4.
func suites13() []uint16 { return []uint16{0x1301, 0x1302, 0x1303, 0x1304, 0x1305} }

// suites12 are the CipherSuites of SSL 3.0 to TLS 1.2 that a server can choose without a
// shared secret or a name and password: those with PSK, SRP, Kerberos or ECCPWD are left
// out. The better ones come first, so that a server that follows the client's order
// chooses well.
func suites12() []uint16 {
	var out []uint16
	for id := 1; id <= 0xffff; id++ {
		s := uint16(id)
		name := handshake.SuiteName(s)
		if !strings.Contains(name, "_WITH_") { // TLS 1.3, signalling values, unknown numbers
			continue
		}
		if !slices.ContainsFunc([]string{"PSK", "_SRP_", "_KRB5_", "_ECCPWD_"}, func(w string) bool { return strings.Contains(name, w) }) {
			out = append(out, s)
		}
	}
	worths := make(map[uint16]int, len(out))
	for _, s := range out {
		worths[s] = worth(s)
	}
	slices.SortStableFunc(out, func(a, b uint16) int { return worths[b] - worths[a] })
	return out
}

// worth ranks CipherSuites of TLS 1.2: forward secrecy first, then authenticated
// encryption; those that protect nothing come last.
func worth(id uint16) int {
	n, name := 0, handshake.SuiteName(id)
	for _, w := range []struct {
		word string
		add  int
	}{
		{"_ECDHE_", 8}, {"_DHE_", 6}, {"_GCM_", 4}, {"_CHACHA20_", 4}, {"_CCM", 3}, {"_NULL_", -30}, {"_anon_", -30},
		{"EXPORT", -20}, {"_RC4_", -15}, {"_DES_", -15}, {"_RC2_", -15},
	} {
		if strings.Contains(name, w.word) {
			n += w.add
		}
	}
	return n
}

// allGroups are the key exchange groups offered: the hybrids first, then curves, then
// finite fields (RFC 7919). Groups of draft versions are left out.
func allGroups() []uint16 {
	return []uint16{
		0x11ec, 0x11eb, 0x11ed, 0x0202, 0x0201, 0x0200, 0x001d, 0x0017, 0x001e, 0x0018, 0x0019, 0x001f, 0x0020, 0x0021, 0x001a, 0x001b, 0x001c, 0x0029,
		0x0016, 0x0015, 0x0014, 0x0013, 0x000e, 0x000d, 0x000c, 0x000b, 0x000a, 0x0009, 0x0100, 0x0101, 0x0102, 0x0103, 0x0104,
	}
}

// allSchemes are the signature algorithms offered: all that may sign a handshake, SHA-1
// included, so that the server never fails for lack of one.
func allSchemes() []uint16 {
	return []uint16{
		0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x081a, 0x081b, 0x081c, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b,
		0x0401, 0x0501, 0x0601, 0x0303, 0x0301, 0x0402, 0x0203, 0x0201, 0x0202, 0x0904, 0x0905, 0x0906,
	}
}
