// Package policytest asks a policy about flows that do not exist. It makes the facts of a flow
// from words, for `sslgate explain`, and runs the test files beside a policy, for `sslgate test`.
package policytest

import (
	"crypto/tls"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/policy"
)

// Hello describes what a client offers in step 1. The zero value is the offer of a usual
// present-day client, without a server name.
type Hello struct {
	SNI  string   // "" for none
	ALPN []string // nil for none
	// Versions, by name. Default TLS 1.2 and 1.3.
	Versions []string
	// Suites, by name. Default those of the profile intermediate, and all of TLS 1.3.
	Suites []string
	// Groups, by name. Default those of the profile intermediate.
	Groups []string
}

// Extension numbers (IANA, TLS ExtensionType Values).
const (
	extServerName        = 0
	extGroups            = 10
	extPointFormats      = 11
	extSignatureSchemes  = 13
	extALPN              = 16
	extMasterSecret      = 23
	extSupportedVersions = 43
	extKeyShare          = 51
	extRenegotiation     = 0xff01
)

// ClientHello encodes the hello and parses it again with the parser for real clients, so that a
// name is read in the same way as there. The error is the refusal that a real client would get,
// or it names an unknown word.
func (h Hello) ClientHello() (*handshake.ClientHello, error) {
	versions, suites, groups, err := h.numbers()
	if err != nil {
		return nil, err
	}
	is13 := slices.Contains(versions, tls.VersionTLS13)
	c := handshake.ClientHello{
		LegacyVersion: min(slices.Max(versions), tls.VersionTLS12), SessionID: make([]byte, 32),
		CipherSuites: suites, CompressionMethods: []byte{0}, HasExtensions: true,
	}
	add := func(typ uint16, data []byte, err error) {
		if err == nil {
			c.Extensions = append(c.Extensions, handshake.Extension{Type: typ, Data: data})
		}
	}
	build := func(f func(b *cryptobyte.Builder)) ([]byte, error) {
		var b cryptobyte.Builder
		f(&b)
		return b.Bytes()
	}
	if h.SNI != "" {
		data, err := build(func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				b.AddUint8(0)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(h.SNI)) })
			})
		})
		if err != nil {
			return nil, fmt.Errorf("server name: %w", err)
		}
		add(extServerName, data, nil)
	}
	if h.ALPN != nil {
		data, err := build(func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				for _, p := range h.ALPN {
					b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(p)) })
				}
			})
		})
		if err != nil {
			return nil, fmt.Errorf("application protocols: %w", err)
		}
		add(extALPN, data, nil)
	}
	data, err := build(list16(groups))
	add(extGroups, data, err)
	add(extPointFormats, []byte{1, 0}, nil)
	data, err = build(list16(schemes()))
	add(extSignatureSchemes, data, err)
	add(extMasterSecret, nil, nil)
	add(extRenegotiation, []byte{0}, nil)
	if is13 {
		data, err = build(func(b *cryptobyte.Builder) {
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) {
				for _, v := range versions {
					b.AddUint16(v)
				}
			})
		})
		add(extSupportedVersions, data, err)
		// An empty list of shares: so a client lets the server choose (RFC 8446, section
		// 4.2.8).
		add(extKeyShare, []byte{0, 0}, nil)
	}
	return handshake.ParseClientHello(c.Marshal())
}

func list16(ids []uint16) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, id := range ids {
				b.AddUint16(id)
			}
		})
	}
}

// numbers resolves the names. Versions are sorted, highest first.
func (h Hello) numbers() (versions, suites, groups []uint16, err error) {
	able := engines.New().Capabilities() // a name is known if a configuration can use it
	usual, _ := handshake.NamedProfile(policy.DefaultProfile)
	resolve := func(names []string, by func(string) (uint16, error), otherwise []uint16) []uint16 {
		if names == nil {
			return otherwise
		}
		var out []uint16
		for _, name := range names {
			id, e := by(name)
			if e != nil && err == nil {
				err = e
			}
			out = append(out, id)
		}
		return out
	}
	versions = resolve(h.Versions, able.VersionByName, []uint16{tls.VersionTLS13, tls.VersionTLS12})
	slices.Sort(versions)
	slices.Reverse(versions)
	all13 := []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
	suites = resolve(h.Suites, able.SuiteByName, slices.Concat(all13, usual.Suites12))
	groups = resolve(h.Groups, able.GroupByName, usual.Groups)
	if err == nil && (len(versions) == 0 || len(suites) == 0 || len(groups) == 0) {
		err = fmt.Errorf("a hello needs at least one version, CipherSuite and group")
	}
	return versions, suites, groups, err
}

func schemes() []uint16 {
	return []uint16{
		uint16(tls.ECDSAWithP256AndSHA256), uint16(tls.ECDSAWithP384AndSHA384), uint16(tls.ECDSAWithP521AndSHA512), uint16(tls.Ed25519),
		uint16(tls.PSSWithSHA256), uint16(tls.PSSWithSHA384), uint16(tls.PSSWithSHA512), uint16(tls.PKCS1WithSHA256),
	}
}

// Agreed is what a handshake of this hello with a profile would most likely agree on: the
// highest common version, then the profile's first common entries. In TLS 1.3, crypto/tls
// chooses the CipherSuite itself.
func Agreed(h *handshake.ClientHello, p handshake.Profile, alpn []string) *handshake.State {
	s := &handshake.State{ServerName: h.ServerName}
	for v := p.MaxVersion; v >= p.MinVersion && s.Version == 0; v-- {
		if slices.Contains(h.SupportedVersions, v) {
			s.Version = v
		}
	}
	suites := p.Suites12
	if s.Version == tls.VersionTLS13 {
		if suites = p.Suites13; suites == nil {
			suites = []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
		}
	}
	s.Suite = first(suites, h.CipherSuites)
	s.Group = first(p.Groups, h.Groups)
	for _, a := range alpn {
		if s.ALPN == "" && slices.Contains(h.ALPN, a) {
			s.ALPN = a
		}
	}
	return s
}

func first(ours, theirs []uint16) uint16 {
	for _, id := range ours {
		if slices.Contains(theirs, id) {
			return id
		}
	}
	return 0
}
