package wire_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

type message interface{ Marshal() ([]byte, error) }

// versions is the parsers of TLS 1.3 and those of TLS 1.2, by the message's type.
var versions = []map[uint8][]func([]byte) (message, error){parsers, parsers12}

var parsers12 = map[uint8][]func([]byte) (message, error){
	handshake.TypeServerHello:        {as(wire.ParseServerHello12)},
	handshake.TypeCertificate:        {as(wire.ParseCertificate12)},
	handshake.TypeCertificateStatus:  {as(wire.ParseCertificateStatus)},
	handshake.TypeServerKeyExchange:  {as(wire.ParseServerKeyExchange)},
	handshake.TypeCertificateRequest: {as(wire.ParseCertificateRequest12)},
	handshake.TypeServerHelloDone:    {as(wire.ParseServerHelloDone)},
	handshake.TypeClientKeyExchange:  {as(wire.ParseClientKeyExchange)},
	handshake.TypeNewSessionTicket:   {as(wire.ParseNewSessionTicket12)},
	handshake.TypeFinished:           {as(func(b []byte) (*wire.Finished, error) { return wire.ParseFinished(b, wire.FinishedSize12) })},
}

var parsers = map[uint8][]func([]byte) (message, error){
	handshake.TypeServerHello:         {as(wire.ParseServerHello)},
	handshake.TypeEncryptedExtensions: {as(wire.ParseEncryptedExtensions)},
	handshake.TypeCertificateRequest:  {as(wire.ParseCertificateRequest)},
	handshake.TypeCertificate:         {as(wire.ParseCertificate)},
	handshake.TypeCertificateVerify:   {as(wire.ParseCertificateVerify)},
	handshake.TypeFinished: {
		as(func(b []byte) (*wire.Finished, error) { return wire.ParseFinished(b, 32) }),
		as(func(b []byte) (*wire.Finished, error) { return wire.ParseFinished(b, 48) }),
	},
	handshake.TypeNewSessionTicket: {as(wire.ParseNewSessionTicket)},
	handshake.TypeKeyUpdate:        {as(wire.ParseKeyUpdate)},
}

func as[M message](parse func([]byte) (M, error)) func([]byte) (message, error) {
	return func(b []byte) (message, error) { return parse(b) }
}

// checkParse is the property of every parser: an *Error with an alert and no value,
// or a value that marshals back. It returns the alert, AlertNone for a value.
func checkParse(t *testing.T, parse func([]byte) (message, error), msg []byte) handshake.Alert {
	t.Helper()
	m, err := parse(bytes.Clone(msg))
	if err != nil {
		if !reflect.ValueOf(m).IsNil() {
			t.Errorf("a value beside the error %v", err)
		}
		return alertOf(t, err)
	}
	got, err := m.Marshal()
	if err != nil || !bytes.Equal(got, msg) {
		t.Errorf("marshals to\n%x, was\n%x (%v)", got, msg, err)
	}
	return handshake.AlertNone
}

func alertOf(t *testing.T, err error) handshake.Alert {
	t.Helper()
	if err == nil {
		return handshake.AlertNone
	}
	var e *wire.Error
	if !errors.As(err, &e) || e.Message == "" || e.Detail == "" || e.Alert == handshake.AlertNone {
		t.Errorf("not an *Error with message, detail and alert: %v", err)
		return handshake.AlertNone
	}
	return e.Alert
}

// handmade are messages as an engine builds them.
func handmade() map[string]message {
	return map[string]message{
		"ServerHello":          &wire.ServerHello{Random: [32]byte{1, 2}, SessionID: make([]byte, 32), Suite: 0x1302, KeyShare: wire.KeyShare{Group: 29, Key: make([]byte, 32)}},
		"ServerHello, resumed": &wire.ServerHello{Suite: 0x1301, PSK: true, SelectedIdentity: 1, KeyShare: wire.KeyShare{Group: 0x11ec, Key: make([]byte, 1120)}},
		"ServerHello, PSK":     &wire.ServerHello{Suite: 0x1301, PSK: true},
		"HelloRetryRequest":    &wire.ServerHello{Retry: true, SessionID: []byte{1}, Suite: 0x1303, KeyShare: wire.KeyShare{Group: 24}},
		"retry with a cookie":  &wire.ServerHello{Retry: true, Suite: 0x1303, Cookie: []byte{7}},
		"EncryptedExtensions":  &wire.EncryptedExtensions{ServerName: true, ALPN: "h2", Groups: []uint16{29, 23}, EarlyData: true},
		"none":                 &wire.EncryptedExtensions{},
		"CertificateRequest":   &wire.CertificateRequest{Signatures: []uint16{0x0403, 0x0906}, SignaturesCert: []uint16{0x0401}, Authorities: wire.Names(nil).Add([]byte{0x30, 0}).Add([]byte{0x30, 1, 5}), StatusRequest: true},
		"one signature scheme": &wire.CertificateRequest{Signatures: []uint16{0x0403}},
		"Certificate":          &wire.Certificate{Entries: []wire.CertificateEntry{{DER: []byte{0x30, 0}, Staple: []byte{0x30, 3, 10, 1, 0}}, {DER: []byte{0x30, 1, 1}}}},
		"no certificate":       &wire.Certificate{},
		"CertificateVerify":    &wire.CertificateVerify{Scheme: 0x0906, Signature: make([]byte, 4627)},
		"Finished":             &wire.Finished{VerifyData: make([]byte, 32)},
		"Finished, SHA-384":    &wire.Finished{VerifyData: make([]byte, 48)},
		"NewSessionTicket":     &wire.NewSessionTicket{Lifetime: 7200, AgeAdd: 0xdeadbeef, Nonce: []byte{0}, Ticket: make([]byte, 900)},
		"early data":           &wire.NewSessionTicket{Ticket: []byte{1}, Extensions: []handshake.Extension{{Type: handshake.ExtEarlyData, Data: []byte{0, 0, 64, 0}}, {Type: 0x4a4a, Data: []byte{}}}},
		"KeyUpdate":            &wire.KeyUpdate{},
		"KeyUpdate, asked":     &wire.KeyUpdate{Requested: true},
	}
}

func handmade12() map[string]message {
	return map[string]message{
		"ServerHello":         &wire.ServerHello12{Random: [32]byte{1, 2}, SessionID: []byte{1}, Suite: 0xc02b, HasExtensions: true, ServerName: true, StatusRequest: true, PointFormats: true, ALPN: "h2", ExtendedMasterSecret: true, SessionTicket: true, SecureRenegotiation: true},
		"a bare ServerHello":  &wire.ServerHello12{Suite: 0xc02b},
		"with an empty block": &wire.ServerHello12{Suite: 0xc02b, HasExtensions: true},
		"Certificate":         &wire.Certificate12{Certificates: [][]byte{{0x30, 0}, {0x30, 1, 1}}},
		"no certificate":      &wire.Certificate12{},
		"CertificateStatus":   &wire.CertificateStatus{Response: []byte{0x30, 3, 10, 1, 0}},
		"ServerKeyExchange":   &wire.ServerKeyExchange{Group: 29, Public: make([]byte, 32), Scheme: 0x0403, Signature: make([]byte, 71)},
		"CertificateRequest":  &wire.CertificateRequest12{Types: []byte{wire.CertTypeRSASign, wire.CertTypeECDSASign}, Signatures: []uint16{0x0403, 0x0401}, Authorities: wire.Names(nil).Add([]byte{0x30, 0})},
		"any CA":              &wire.CertificateRequest12{Types: []byte{wire.CertTypeECDSASign}, Signatures: []uint16{0x0403}},
		"ServerHelloDone":     &wire.ServerHelloDone{},
		"ClientKeyExchange":   &wire.ClientKeyExchange{Public: make([]byte, 65)},
		"NewSessionTicket":    &wire.NewSessionTicket12{Lifetime: 7200, Ticket: make([]byte, 900)},
		"no ticket after all": &wire.NewSessionTicket12{},
		"Finished":            &wire.Finished{VerifyData: make([]byte, wire.FinishedSize12)},
	}
}

// hello parses a hello that a test has built.
func hello(t testing.TB, h *handshaketest.Hello) *handshake.ClientHello {
	t.Helper()
	parsed, err := handshake.ParseClientHello(h.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
