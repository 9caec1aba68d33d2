package handshake_test

import (
	"crypto/tls"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

func TestResolvers(t *testing.T) {
	type resolver = func(string) (uint16, error)
	for _, c := range []struct {
		resolve resolver
		name    string
		id      uint16
		err     string
	}{
		{able().SuiteByName, "ECDHE-ECDSA-AES128-GCM-SHA256", 0xc02b, ""},
		{able().SuiteByName, "tls_ecdhe_ecdsa_with_aes_128_gcm_sha256", 0xc02b, ""},
		{able().SuiteByName, "TLS_CHACHA20_POLY1305_SHA256", 0x1303, ""},
		{able().SuiteByName, "ECDHE-ECDSA-AES128-GCM-SHA265", 0, `unknown CipherSuite "ECDHE-ECDSA-AES128-GCM-SHA265" (did you mean "ECDHE-ECDSA-AES128-GCM-SHA256"?)`},
		{able().SuiteByName, "DHE-RSA-AES128-GCM-SHA256", 0, "CipherSuite TLS_DHE_RSA_WITH_AES_128_GCM_SHA256 is not implemented by Go's crypto/tls"},
		{able().SuiteByName, "TLS_FALLBACK_SCSV", 0, "CipherSuite TLS_FALLBACK_SCSV is not implemented by Go's crypto/tls"},
		{able().SuiteByName, "", 0, `unknown CipherSuite ""`},
		{able().GroupByName, "X25519MLKEM768", 0x11ec, ""},
		{able().GroupByName, "SecP256r1MLKEM768", 0x11eb, ""},
		{able().GroupByName, "SecP384r1MLKEM1024", 0x11ed, ""},
		{able().GroupByName, "x25519", 0x1d, ""},
		{able().GroupByName, "P-256", 0x17, ""},
		{able().GroupByName, "prime256v1", 0x17, ""},
		{able().GroupByName, "secp384r1", 0x18, ""},
		{able().GroupByName, "P-521", 0x19, ""},
		{able().GroupByName, "X25591", 0, `unknown group "X25591" (did you mean "X25519"?)`},
		{able().GroupByName, "X448", 0, "group X448 is not implemented by Go's crypto/tls"},
		{able().GroupByName, "MLKEM768", 0, "group MLKEM768 is not implemented by Go's crypto/tls"},
		{able().VersionByName, "1.2", 0x0303, ""},
		{able().VersionByName, "TLSv1.3", 0x0304, ""},
		{able().VersionByName, "tls 1.1", 0x0302, ""},
		{able().VersionByName, "TLSv1", 0x0301, ""},
		{able().VersionByName, "1.4", 0, `unknown TLS version "1.4" (did you mean "1.0"?)`},
		{able().VersionByName, "SSLv3", 0, "TLS version SSL 3.0 is not implemented by Go's crypto/tls"},
		{able().SchemeByName, "ecdsa_secp256r1_sha256", 0x0403, ""},
		{able().SchemeByName, "ed448", 0, "signature scheme ed448 is not implemented by Go's crypto/tls"},
		{able().SchemeByName, "rsa_pss_rsae_sha257", 0, `unknown signature scheme "rsa_pss_rsae_sha257" (did you mean "rsa_pss_rsae_sha256"?)`},
	} {
		id, err := c.resolve(c.name)
		if msg := ""; id != c.id || (err != nil && err.Error() != c.err) || (err == nil && c.err != msg) {
			t.Errorf("%q: %#04x, %v; want %#04x, %s", c.name, id, err, c.id, c.err)
		}
	}
}

// The lists that crypto/tls has no function for are still what it offers.
func TestImplementedIsWhatCryptoTLSOffers(t *testing.T) {
	h, err := handshake.ParseClientHello(handshaketest.RecordedHello(t, &tls.Config{InsecureSkipVerify: true})[handshake.RecordHeader:]) //nolint:gosec // only its hello is read
	if err != nil {
		t.Fatal(err)
	}
	sorted := func(ids []uint16) []uint16 { return slices.Sorted(slices.Values(ids)) }
	// MLKEM1024 alone is offered only where it is asked for.
	if !slices.Equal(sorted(append(h.Groups, uint16(tls.MLKEM1024))), sorted(able().Groups)) {
		t.Errorf("groups %x", h.Groups)
	}
	for _, s := range h.SignatureSchemes {
		if !slices.Contains(able().Schemes, s) {
			t.Errorf("%s is offered, but taken as not implemented", handshake.SchemeName(s))
		}
	}
	for _, s := range handshake.Suites13() {
		if !slices.Contains(h.CipherSuites, s) {
			t.Errorf("%s is not offered", handshake.SuiteName(s))
		}
	}
}
