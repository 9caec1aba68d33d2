package stdtls

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// story is a ledger without times, sizes and facts.
func story(l *handshake.Ledger) []string {
	var out []string
	for _, e := range l.Entries() {
		what := e.Message
		if what == "" {
			what = "(" + strings.SplitN(e.Facts, ":", 2)[0] + ")"
		}
		out = append(out, fmt.Sprintf("%d %s %s", e.Step, e.From, what))
	}
	return out
}

// The order of messages with their steps, as RFC 5246, section 7.3, and RFC
// 8446, section 2, have it.
func TestLedgerOfServer(t *testing.T) {
	f := handshaketest.Fixtures()
	retry := clientConfig(tls.VersionTLS13, f.Client.TLS())
	retry.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}
	tests := []struct {
		name   string
		params func(*handshake.ServerParams)
		config *tls.Config
		want   []string
	}{
		{"TLS 1.2", nil, clientConfig(tls.VersionTLS12, f.Client.TLS()), []string{
			"1 peer ClientHello",
			"2 us ServerHello", "2 us Certificate", "2 us ServerKeyExchange", "2 us CertificateRequest", "2 us ServerHelloDone",
			"3 peer (accepted)",
			"5 peer Certificate", "4 peer ClientKeyExchange", "6 us (chain verified)", "5 peer CertificateVerify",
			"7 peer ChangeCipherSpec", "7 peer Finished", "8 us ChangeCipherSpec", "8 us Finished",
			"6 us (possession of the key proven)", "9 us (TLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, X25519)",
		}},
		{"TLS 1.3", nil, clientConfig(tls.VersionTLS13, f.Client.TLS()), []string{
			"1 peer ClientHello",
			"2 us ServerHello", "4 peer (key shares in the hellos)",
			"2 us EncryptedExtensions", "2 us CertificateRequest", "2 us Certificate", "2 us CertificateVerify", "8 us Finished",
			"3 peer (accepted)",
			"5 peer Certificate", "6 us (chain verified)", "5 peer CertificateVerify", "7 peer Finished",
			"6 us (possession of the key proven)", "9 us (TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768)",
		}},
		{"HelloRetryRequest", func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.CurveP384)} }, retry, []string{
			"1 peer ClientHello", "2 us HelloRetryRequest", "1 peer ClientHello",
			"2 us ServerHello", "4 peer (key shares in the hellos)",
			"2 us EncryptedExtensions", "2 us CertificateRequest", "2 us Certificate", "2 us CertificateVerify", "8 us Finished",
			"3 peer (accepted)",
			"5 peer Certificate", "6 us (chain verified)", "5 peer CertificateVerify", "7 peer Finished",
			"6 us (possession of the key proven)", "9 us (TLS 1.3, TLS_AES_128_GCM_SHA256, secp384r1)",
		}},
		{"optional, none shown", func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional }, clientConfig(tls.VersionTLS13), []string{
			"1 peer ClientHello",
			"2 us ServerHello", "4 peer (key shares in the hellos)",
			"2 us EncryptedExtensions", "2 us CertificateRequest", "2 us Certificate", "2 us CertificateVerify", "8 us Finished",
			"3 peer (accepted)",
			"5 peer Certificate", "7 peer Finished",
			"6 us (no certificate shown, and none required)", "9 us (TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768)",
		}},
		{"not asked, TLS 1.2", func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }, clientConfig(tls.VersionTLS12), []string{
			"1 peer ClientHello",
			"2 us ServerHello", "2 us Certificate", "2 us ServerKeyExchange", "2 us ServerHelloDone",
			"3 peer (accepted)", "4 peer ClientKeyExchange",
			"7 peer ChangeCipherSpec", "7 peer Finished", "8 us ChangeCipherSpec", "8 us Finished",
			"6 us (no certificate asked for)", "9 us (TLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, X25519)",
		}},
		{"refused, TLS 1.3", nil, clientConfig(tls.VersionTLS13), []string{
			"1 peer ClientHello",
			"2 us ServerHello", "4 peer (key shares in the hellos)",
			"2 us EncryptedExtensions", "2 us CertificateRequest", "2 us Certificate", "2 us CertificateVerify", "8 us Finished",
			"3 peer (accepted)",
			"5 peer Certificate", "5 us Alert",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := handshaketest.ServerParams()
			if tt.params != nil {
				tt.params(p)
			}
			// Whatever the processor is good at, the golden suite is AES-128.
			tt.config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
			o, _, _ := withGo(t, p, tt.config)
			if diff := cmp.Diff(tt.want, story(o.l)); diff != "" {
				t.Errorf("ledger (-want +got):\n%s", diff)
			}
			last := time.Duration(0)
			for _, e := range o.l.Entries() {
				if e.At < last {
					t.Errorf("%s at %s, after %s", e.Message, e.At, last)
				}
				last = e.At
				if e.Message != "" && e.Size == 0 {
					t.Errorf("%s has no size", e.Message)
				}
			}
		})
	}
}

// The destination's leg is told in the same words, with the sides turned.
func TestLedgerOfClient(t *testing.T) {
	f := handshaketest.Fixtures()
	want := map[uint16][]string{
		tls.VersionTLS12: {
			"1 us ClientHello",
			"2 peer ServerHello", "2 peer Certificate", "2 peer ServerKeyExchange", "3 us (chain verified)",
			"2 peer CertificateRequest", "5 us (asked for a certificate)", "2 peer ServerHelloDone",
			"5 us Certificate", "4 us ClientKeyExchange", "5 us CertificateVerify",
			"7 us ChangeCipherSpec", "7 us Finished", "8 peer ChangeCipherSpec", "8 peer Finished",
			"9 us (TLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, X25519)",
		},
		tls.VersionTLS13: {
			"1 us ClientHello",
			"2 peer ServerHello", "4 us (key shares in the hellos)",
			"2 peer EncryptedExtensions", "2 peer CertificateRequest", "2 peer Certificate",
			"3 us (chain verified)", "2 peer CertificateVerify", "8 peer Finished",
			"5 us (asked for a certificate)", "5 us Certificate", "5 us CertificateVerify", "7 us Finished",
			"9 us (TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768)",
		},
	}
	for _, version := range bothVersions {
		config := serverConfig(version, f.Gateway)
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, f.CA.Pool()
		_, _, l, _ := dialed(t, clientParams(func(p *handshake.ClientParams) {
			p.Certificates = []tls.Certificate{f.Client.TLS()}
			p.Profile.Suites12 = p.Profile.Suites12[:1]
		}), config)
		if diff := cmp.Diff(want[version], story(l)); diff != "" {
			t.Errorf("%s: ledger (-want +got):\n%s", handshake.VersionName(version), diff)
		}
	}
}

// What the record wants to know stands in the facts.
func TestLedgerFacts(t *testing.T) {
	config := clientConfig(tls.VersionTLS13, handshaketest.Fixtures().Client.TLS())
	o, _, _ := withGo(t, handshaketest.ServerParams(), config)
	facts := map[string]string{}
	for _, e := range o.l.Entries() {
		if e.From == handshake.SidePeer || facts[e.Message] == "" {
			facts[e.Message] = e.Facts
		}
	}
	for message, want := range map[string]string{
		handshake.MsgClientHello:        "sni gateway.test",
		"ServerHello":                   "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768, session ID 32 bytes",
		handshake.MsgCertificate:        "1 certificate: CN=alice",
		handshake.MsgCertificateRequest: "1 acceptable CA name",
		handshake.MsgCertificateVerify:  "ecdsa_secp256r1_sha256",
	} {
		if !strings.Contains(facts[message], want) {
			t.Errorf("%s says %q, want %q", message, facts[message], want)
		}
	}
	if names := o.l.CANames(); len(names) != 1 || names[0] != "CN=Staff CA,O=sslgate test" {
		t.Errorf("CA names %q", names)
	}
	o, _, _ = withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional }), clientConfig(tls.VersionTLS12))
	found := false
	for _, e := range o.l.Entries() {
		found = found || e.Message == handshake.MsgCertificate && e.From == handshake.SidePeer && e.Facts == `"no certificate" warning`
	}
	if !found {
		t.Error(`no "no certificate" warning`)
	}
}
