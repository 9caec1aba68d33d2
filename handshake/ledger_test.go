package handshake

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// story is a ledger without times, sizes and facts.
func story(l *Ledger) []string {
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
	f := fixtures()
	retry := clientConfig(tls.VersionTLS13, f.client.TLS())
	retry.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}
	tests := []struct {
		name   string
		params func(*ServerParams)
		config *tls.Config
		want   []string
	}{
		{"TLS 1.2", nil, clientConfig(tls.VersionTLS12, f.client.TLS()), []string{
			"1 peer ClientHello",
			"2 us ServerHello", "2 us Certificate", "2 us ServerKeyExchange", "2 us CertificateRequest", "2 us ServerHelloDone",
			"3 peer (accepted)",
			"5 peer Certificate", "4 peer ClientKeyExchange", "6 us (chain verified)", "5 peer CertificateVerify",
			"7 peer ChangeCipherSpec", "7 peer Finished", "8 us ChangeCipherSpec", "8 us Finished",
			"6 us (possession of the key proven)", "9 us (TLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, X25519)",
		}},
		{"TLS 1.3", nil, clientConfig(tls.VersionTLS13, f.client.TLS()), []string{
			"1 peer ClientHello",
			"2 us ServerHello", "4 peer (key shares in the hellos)",
			"2 us EncryptedExtensions", "2 us CertificateRequest", "2 us Certificate", "2 us CertificateVerify", "8 us Finished",
			"3 peer (accepted)",
			"5 peer Certificate", "6 us (chain verified)", "5 peer CertificateVerify", "7 peer Finished",
			"6 us (possession of the key proven)", "9 us (TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768)",
		}},
		{"HelloRetryRequest", func(p *ServerParams) { p.Profile.Groups = []uint16{uint16(tls.CurveP384)} }, retry, []string{
			"1 peer ClientHello", "2 us HelloRetryRequest", "1 peer ClientHello",
			"2 us ServerHello", "4 peer (key shares in the hellos)",
			"2 us EncryptedExtensions", "2 us CertificateRequest", "2 us Certificate", "2 us CertificateVerify", "8 us Finished",
			"3 peer (accepted)",
			"5 peer Certificate", "6 us (chain verified)", "5 peer CertificateVerify", "7 peer Finished",
			"6 us (possession of the key proven)", "9 us (TLS 1.3, TLS_AES_128_GCM_SHA256, secp384r1)",
		}},
		{"optional, none shown", func(p *ServerParams) { p.ClientAuth = ClientAuthOptional }, clientConfig(tls.VersionTLS13), []string{
			"1 peer ClientHello",
			"2 us ServerHello", "4 peer (key shares in the hellos)",
			"2 us EncryptedExtensions", "2 us CertificateRequest", "2 us Certificate", "2 us CertificateVerify", "8 us Finished",
			"3 peer (accepted)",
			"5 peer Certificate", "7 peer Finished",
			"6 us (no certificate shown, and none required)", "9 us (TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768)",
		}},
		{"not asked, TLS 1.2", func(p *ServerParams) { p.ClientAuth = ClientAuthNone }, clientConfig(tls.VersionTLS12), []string{
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
			p := serverParams()
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
	f := fixtures()
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
		config := serverConfig(version, f.gateway)
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, f.ca.Pool()
		_, _, l, _ := dialed(t, clientParams(func(p *ClientParams) {
			p.Certificates = []tls.Certificate{f.client.TLS()}
			p.Profile.Suites12 = p.Profile.Suites12[:1]
		}), config)
		if diff := cmp.Diff(want[version], story(l)); diff != "" {
			t.Errorf("%s: ledger (-want +got):\n%s", VersionName(version), diff)
		}
	}
}

// What the record wants to know stands in the facts.
func TestLedgerFacts(t *testing.T) {
	config := clientConfig(tls.VersionTLS13, fixtures().client.TLS())
	o, _, _ := withGo(t, serverParams(), config)
	facts := map[string]string{}
	for _, e := range o.l.Entries() {
		if e.From == SidePeer || facts[e.Message] == "" {
			facts[e.Message] = e.Facts
		}
	}
	for message, want := range map[string]string{
		MsgClientHello:        "sni gateway.test",
		"ServerHello":         "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768, session ID 32 bytes",
		MsgCertificate:        "1 certificate: CN=alice",
		MsgCertificateRequest: "1 acceptable CA name",
		MsgCertificateVerify:  "ecdsa_secp256r1_sha256",
	} {
		if !strings.Contains(facts[message], want) {
			t.Errorf("%s says %q, want %q", message, facts[message], want)
		}
	}
	if names := o.l.CANames(); len(names) != 1 || names[0] != "CN=Staff CA,O=sslgate test" {
		t.Errorf("CA names %q", names)
	}
	o, _, _ = withGo(t, serverParams(func(p *ServerParams) { p.ClientAuth = ClientAuthOptional }), clientConfig(tls.VersionTLS12))
	found := false
	for _, e := range o.l.Entries() {
		found = found || e.Message == MsgCertificate && e.From == SidePeer && e.Facts == `"no certificate" warning`
	}
	if !found {
		t.Error(`no "no certificate" warning`)
	}
}

func TestLedgerBounds(t *testing.T) {
	l := NewLedger(time.Now())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				l.Note(Entry{Message: "X", Facts: strings.Repeat("é", 1000)})
				_, _, _ = l.Entries(), l.Reached(), l.Lost()
			}
		})
	}
	wg.Wait()
	l.NoteAlert(StepClientHello, SidePeer, AlertUnknownCA)
	if n := len(l.Entries()); n != MaxEntries || l.Lost() != 201-MaxEntries {
		t.Errorf("%d entries, %d lost", n, l.Lost())
	}
	if l.AlertReceived() != AlertUnknownCA || l.AlertSent() != AlertNone {
		t.Errorf("alerts: %s, %s", l.AlertReceived(), l.AlertSent())
	}
	if f := l.Entries()[0].Facts; len(f) > MaxFacts || !strings.HasSuffix(f, "...") {
		t.Errorf("facts of %d bytes", len(f))
	}
}

func TestReached(t *testing.T) {
	l := NewLedger(time.Now())
	if l.Reached() != StepNone {
		t.Error("an empty ledger reached something")
	}
	l.Complete(StepServerFinished, StepClientHello)
	if l.Reached() != StepClientHello {
		t.Errorf("reached %s with step 8 early", l.Reached())
	}
	l.Complete(StepServerHello, StepServerVerified, StepKeyExchange, StepClientCertificate, StepClientFinished)
	l.Decide(StepClientVerified, "")
	if l.Reached() != StepServerFinished {
		t.Errorf("reached %s", l.Reached())
	}
}
