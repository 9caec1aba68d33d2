package handshake_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

func seedHellos(f *testing.F) [][]byte {
	var out [][]byte
	for _, c := range clientConfigs() {
		out = append(out, handshaketest.RecordedHello(f, c)[handshake.RecordHeader:])
	}
	return append(out,
		handshaketest.GoodHello().Bytes(), handshaketest.Hello12().Bytes(),
		handshaketest.GoodHello().With(handshake.ExtECH, []byte{0, 0, 1, 0, 1, 7, 0, 1, 9, 0, 1, 8}).Bytes(),
		handshaketest.GoodHello().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, handshaketest.PSKData(2, 2)).Bytes(),
		handshaketest.Hello12().With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 2)).Bytes(), handshaketest.Hello12().With(handshake.ExtECH, []byte{2}).Bytes(),
		handshaketest.Hello12().With(handshake.ExtKeyShare, handshaketest.KeyShares(29, 29)).Bytes(), handshaketest.Hello12().With(handshake.ExtEarlyData, nil).Bytes(),
		[]byte{0x80, 0x2e, 1, 0, 2, 0, 3, 0, 0, 0, 16}, // SSLv2
		[]byte{1, 0, 0, 0},
		nil,
	)
}

// Either an error and no hello, or a hello that marshals to the input and that
// crypto/tls reads in the same way.
func FuzzParseClientHello(f *testing.F) {
	for _, msg := range seedHellos(f) {
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		h, err := handshake.ParseClientHello(msg)
		if err != nil {
			if h != nil {
				t.Error("a hello beside the error")
			}
			var e *handshake.Error
			if !errors.As(err, &e) || e.Step != handshake.StepClientHello || e.Reason == "" || e.Wanted == handshake.AlertNone {
				t.Errorf("not an *Error of step 1 with reason and alert: %v", err)
			}
			return
		}
		if got := h.Marshal(); !bytes.Equal(got, msg) {
			t.Errorf("marshals to\n%x, was\n%x", got, msg)
		}
		for _, r := range h.Summary() {
			if r < ' ' || r > '~' {
				t.Errorf("the summary has the rune %U: %q", r, h.Summary())
			}
		}
		if what := overCap(h); what != "" {
			t.Error(what)
		}
		compareWithCryptoTLS(t, h)
	})
}

func compareWithCryptoTLS(t *testing.T, h *handshake.ClientHello) {
	info, err := readByCryptoTLS(h.Raw)
	if h.SNITrailingDot {
		if err == nil {
			t.Error("crypto/tls reads a name with a trailing dot: SNITrailingDot need not be refused any more")
		}
		return
	}
	if h.Fault13 != nil {
		return // whether crypto/tls can read it or not, it is asked for no handshake
	}
	if err != nil {
		t.Fatalf("crypto/tls cannot read it: %v", err)
	}
	sent := h.SNISent
	if info.ServerName != sent {
		t.Errorf("crypto/tls reads the name %q, not %q", info.ServerName, sent)
	}
	if !slices.Equal(info.CipherSuites, h.CipherSuites) {
		t.Errorf("CipherSuites %v, not %v", info.CipherSuites, h.CipherSuites)
	}
	if !slices.Equal(info.SupportedProtos, h.ALPN) {
		t.Errorf("ALPN %q, not %q", info.SupportedProtos, h.ALPN)
	}
	if !slices.EqualFunc(info.SupportedCurves, h.Groups, func(a tls.CurveID, b uint16) bool { return uint16(a) == b }) {
		t.Errorf("groups %v, not %v", info.SupportedCurves, h.Groups)
	}
	if !slices.EqualFunc(info.SignatureSchemes, h.SignatureSchemes, func(a tls.SignatureScheme, b uint16) bool { return uint16(a) == b }) {
		t.Errorf("signature algorithms %v, not %v", info.SignatureSchemes, h.SignatureSchemes)
	}
	if !slices.EqualFunc(info.Extensions, h.Extensions, func(a uint16, b handshake.Extension) bool { return a == b.Type }) {
		t.Errorf("extensions %v", info.Extensions)
	}
	if h.LegacyVersion <= tls.VersionTLS12 && !slices.Equal(info.SupportedVersions, h.SupportedVersions) {
		t.Errorf("versions %v, not %v", info.SupportedVersions, h.SupportedVersions)
	}
}

var errSeen = errors.New("seen")

// readByCryptoTLS says what crypto/tls reads in a hello; an error if it cannot.
func readByCryptoTLS(msg []byte) (*tls.ClientHelloInfo, error) {
	var info *tls.ClientHelloInfo
	//nolint:gosec // it ends in the callback, whatever the version
	srv := tls.Server(&handshaketest.ScriptedConn{In: handshaketest.InRecords(msg, handshake.MaxPlaintext)}, &tls.Config{
		GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
			info = i
			return nil, errSeen
		},
	})
	if err := srv.Handshake(); !errors.Is(err, errSeen) {
		return nil, err
	}
	return info, nil
}
