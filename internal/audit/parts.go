package audit

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/times"
)

// maxNames bounds how many subject alternative names of one certificate are written. A
// certificate may carry thousands, but a record should stay below a few KiB.
const maxNames = 32

// stringArray are texts of a peer.
type stringArray []string

func (a stringArray) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	appendSome(enc, a, func(s string) string { return escape.String(s, 0) })
	return nil
}

// shownArray are texts of a peer that were escaped already.
type shownArray []string

func (a shownArray) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	appendSome(enc, a, func(s string) string { return s })
	return nil
}

func appendSome(enc zapcore.ArrayEncoder, all []string, show func(string) string) {
	for i, s := range all {
		if i == maxNames {
			enc.AppendString(fmt.Sprintf("... %d more", len(all)-maxNames))
			break
		}
		enc.AppendString(show(s))
	}
}

// plaintext is a leg without TLS. It is an object as every leg, so that one field has one
// type wherever records are indexed.
type plaintext struct{}

func (plaintext) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("version", "plaintext")
	return nil
}

type leg struct{ s *handshake.State }

func (l leg) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("version", handshake.VersionName(l.s.Version))
	enc.AddString("suite", handshake.SuiteName(l.s.Suite))
	if l.s.Group != 0 {
		enc.AddString("group", handshake.GroupName(l.s.Group))
	}
	if l.s.ALPN != "" {
		enc.AddString("alpn", escape.String(l.s.ALPN, 0))
	}
	if l.s.ServerName != "" {
		enc.AddString("server_name", escape.String(l.s.ServerName, 0))
	}
	if l.s.HelloRetry {
		enc.AddBool("hello_retry", true)
	}
	if l.s.Resumed {
		enc.AddBool("resumed", true)
	}
	return nil
}

type peer struct{ p *handshake.Peer }

func (p peer) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	// proven first: whoever reads the rest must know whether it is a claim.
	enc.AddBool("proven", p.p.Proven)
	if err := addCertificate(enc, p.p.Leaf()); err != nil {
		return err
	}
	if p.p.Authority != "" {
		enc.AddString("authority", p.p.Authority)
	}
	if p.p.SignatureScheme != 0 {
		enc.AddString("signature", handshake.SchemeName(p.p.SignatureScheme))
	}
	return nil
}

// addCertificate writes what the record says of a certificate.
func addCertificate(enc zapcore.ObjectEncoder, c *x509.Certificate) error {
	enc.AddString("subject", certname.Subject(c))
	enc.AddString("issuer", certname.Issuer(c))
	if c.SerialNumber != nil {
		enc.AddString("serial", escape.String(c.SerialNumber.Text(16), 0))
	}
	if names := certname.AltTexts(c.Extensions, escape.Text); len(names) > 0 {
		if err := enc.AddArray("sans", shownArray(names)); err != nil {
			return err
		}
	}
	spki := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	enc.AddString("spki", hex.EncodeToString(spki[:]))
	enc.AddString("key", keykind.NameOf(c.PublicKey))
	enc.AddString("not_before", times.RFC3339(c.NotBefore))
	enc.AddString("not_after", times.RFC3339(c.NotAfter))
	return nil
}

// Revocation is what was known of the revocation of a client's certificate.
type Revocation struct {
	Status string // good, revoked, unknown
	Mode   string // hard, soft
	Source string // crl, staple, ocsp; "" if none
	Until  time.Time
	Detail string
}

// MarshalLogObject writes the fields that docs/audit.md lists.
func (r *Revocation) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("status", r.Status)
	enc.AddString("mode", r.Mode)
	if r.Source != "" {
		enc.AddString("source", r.Source)
	}
	if !r.Until.IsZero() {
		enc.AddString("until", times.RFC3339(r.Until))
	}
	if r.Detail != "" {
		enc.AddString("detail", escape.String(r.Detail, 0))
	}
	return nil
}

type entries []handshake.Entry

func (a entries) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for _, e := range a {
		if err := enc.AppendObject(entry(e)); err != nil {
			return err
		}
	}
	return nil
}

type entry handshake.Entry

func (e entry) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddUint8("step", uint8(e.Step))
	enc.AddString("from", e.From.String())
	if e.Message != "" {
		enc.AddString("message", escape.String(e.Message, 0))
	}
	enc.AddInt64("at_us", e.At.Microseconds())
	if e.Size > 0 {
		enc.AddInt("size", e.Size)
	}
	if e.Facts != "" {
		enc.AddString("facts", escape.String(e.Facts, 0))
	}
	if e.Alert != handshake.AlertNone {
		enc.AddString("alert", e.Alert.String())
	}
	return nil
}

// Would is a refusal that was observed and not enforced (mode: observe).
type Would struct {
	Rule   string // "" for the default
	Reason reason.Code
	Detail string
	Alert  handshake.Alert
}

// marshal writes the would fields; nil writes none.
func (w *Would) marshal(str func(key, v string)) {
	if w == nil {
		return
	}
	str("would", "deny")
	str("would_rule", w.Rule)
	str("would_reason", string(w.Reason))
	str("would_detail", w.Detail)
	str("would_alert", w.Alert.String())
}

// Shadow is what a shadow policy decides about a flow if that differs from the enforced
// policy.
type Shadow struct {
	Policy string // digest of the shadow policy
	Kind   string // which way it differs, a word of policy.DifferenceKind
	Action string
	Rule   string // "" for the default
	Reason reason.Code
	Detail string
}

// MarshalLogObject writes the fields that docs/audit.md lists.
func (s *Shadow) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("kind", s.Kind)
	enc.AddString("policy", s.Policy)
	enc.AddString("action", s.Action)
	for _, f := range [][2]string{{"rule", s.Rule}, {"reason", string(s.Reason)}, {"detail", s.Detail}} {
		if f[1] != "" {
			enc.AddString(f[0], escape.String(f[1], 0))
		}
	}
	return nil
}
