package audit

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/ja4"
)

// maxOffered bounds each list of a hello in a record: more than any client in use offers,
// and 640 bytes.
const maxOffered = 128

// offered is what a client hello offers, in the record: numbers of IANA's registries as four
// hexadecimal digits each, in the client's order, GREASE included. Names would take several
// times as much.
type offered struct{ h *handshake.ClientHello }

func (o offered) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	h := o.h
	enc.AddString("ja4", ja4.Of(h))
	cut := false
	for _, l := range []struct {
		key string
		ids []uint16
	}{
		{"versions", h.SupportedVersions}, {"suites", h.CipherSuites}, {"groups", h.Groups}, {"key_shares", h.KeyShares},
		{"signatures", h.SignatureSchemes}, {"signatures_cert", h.SignatureSchemesCert}, {"extensions", types(h.Extensions)},
	} {
		if len(l.ids) > maxOffered {
			l.ids, cut = l.ids[:maxOffered], true
		}
		if len(l.ids) > 0 {
			enc.AddString(l.key, numbersOf(l.ids))
		}
	}
	if o.odd() || cut {
		enc.AddBool("partly", true)
	}
	return nil
}

// odd says that the hello has something that may decide and that a record has not: the
// exact spelling of its server name, or a damaged extension.
func (o offered) odd() bool {
	h := o.h
	long := func(p string) bool { return len(p) > escape.MaxString/len(`\x00`) } // may be cut where it is escaped
	return h.Fault13 != nil || h.SNITrailingDot || h.SNIPresent && (h.SNIInvalid || h.ServerName == "") ||
		len(h.ALPN) > maxNames || slices.ContainsFunc(h.ALPN, long) ||
		h.LegacyVersion > 0x0303 && !slices.Contains(types(h.Extensions), handshake.ExtSupportedVersions)
}

func types(all []handshake.Extension) []uint16 {
	out := make([]uint16, len(all))
	for i, e := range all {
		out[i] = e.Type
	}
	return out
}

func numbersOf(ids []uint16) string {
	b := make([]byte, 0, 5*len(ids))
	for i, id := range ids {
		if i > 0 {
			b = append(b, ' ')
		}
		b = hex.AppendEncode(b, []byte{byte(id >> 8), byte(id)})
	}
	return string(b)
}

// ParsedHello is what a client offered: lists of numbers, each of four hexadecimal digits,
// with spaces between them.
type ParsedHello struct {
	JA4            string `json:"ja4,omitempty"`
	Versions       string `json:"versions,omitempty"`
	Suites         string `json:"suites,omitempty"`
	Groups         string `json:"groups,omitempty"`
	KeyShares      string `json:"key_shares,omitempty"`
	Signatures     string `json:"signatures,omitempty"`
	SignaturesCert string `json:"signatures_cert,omitempty"`
	Extensions     string `json:"extensions,omitempty"`
	// Partly says that the hello had more than stands here: a decision by it may differ.
	Partly bool `json:"partly,omitempty"`
}

// Numbers reads a list of numbers. The error is about a list that no record has.
func Numbers(s string) ([]uint16, error) {
	if s == "" {
		return nil, nil
	}
	if len(s) > 5*maxOffered {
		return nil, fmt.Errorf("more than %d numbers", maxOffered)
	}
	out := make([]uint16, 0, len(s)/5+1)
	for f := range strings.SplitSeq(s, " ") {
		var b [2]byte
		if n, err := hex.Decode(b[:], []byte(f[:min(len(f), 4)])); err != nil || n != 2 || len(f) != 4 {
			return nil, fmt.Errorf("%q is no number of four hexadecimal digits", escape.String(f, 16))
		}
		out = append(out, uint16(b[0])<<8|uint16(b[1]))
	}
	return out, nil
}

// ClientHello is the hello of the record as far as decisions need it: of its extensions the
// numbers alone. It is nil where the record has none. sni and alpn are those of the record.
func (p *ParsedHello) ClientHello(sni string, alpn []string) (*handshake.ClientHello, error) {
	if p == nil {
		return nil, nil
	}
	h := &handshake.ClientHello{LegacyVersion: 0x0303, CompressionMethods: []byte{0}, ServerName: escape.Original(sni), ALPN: alpn}
	var extensions []uint16
	for _, l := range []struct {
		key, text string
		into      *[]uint16
	}{
		{"versions", p.Versions, &h.SupportedVersions}, {"suites", p.Suites, &h.CipherSuites}, {"groups", p.Groups, &h.Groups},
		{"key_shares", p.KeyShares, &h.KeyShares}, {"signatures", p.Signatures, &h.SignatureSchemes},
		{"signatures_cert", p.SignaturesCert, &h.SignatureSchemesCert}, {"extensions", p.Extensions, &extensions},
	} {
		var err error
		if *l.into, err = Numbers(l.text); err != nil {
			return nil, fmt.Errorf("hello.%s: %w", l.key, err)
		}
	}
	h.HasExtensions = extensions != nil
	for _, e := range extensions {
		h.Extensions = append(h.Extensions, handshake.Extension{Type: e})
	}
	has := func(typ uint16) bool { return slices.Contains(extensions, typ) }
	if !has(handshake.ExtSupportedVersions) && len(h.SupportedVersions) > 0 {
		h.LegacyVersion = slices.Max(h.SupportedVersions) // of which they were derived
	}
	h.SNIPresent = has(handshake.ExtServerName)
	h.SNIInvalid = h.SNIPresent && h.ServerName == ""
	h.SNISent = h.ServerName
	h.ExtendedMasterSecret = has(handshake.ExtExtendedMasterSecret)
	h.SecureRenegotiation = has(handshake.ExtRenegotiationInfo) || slices.Contains(h.CipherSuites, 0x00ff)
	h.StatusRequest, h.EarlyData = has(handshake.ExtStatusRequest), has(handshake.ExtEarlyData)
	h.PreSharedKey, h.SessionTicket = has(handshake.ExtPreSharedKey), has(handshake.ExtSessionTicket)
	h.ECH = has(handshake.ExtECH)
	if has(handshake.ExtPointFormats) {
		h.PointFormats = []byte{0}
	}
	return h, nil
}
