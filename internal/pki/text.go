package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/escape"
)

// quote makes a name from a certificate or file safe for a terminal.
func quote(s string) string { return escape.String(s, 0) }

// subject is the subject as text, or the first alternative name if the subject is empty,
// safe for a terminal.
func subject(c *x509.Certificate) string {
	if s := certname.Subject(c); s != "" {
		return s
	}
	if names := sans(c.Extensions); len(names) > 0 {
		return shownName(names[0])
	}
	return "(no subject)"
}

// shownName is a name of sans, escaped; a directoryName is escaped as a subject is.
func shownName(name string) string {
	if strings.HasPrefix(name, "dirname:") {
		return escape.Shown(name, certname.MaxShown)
	}
	return quote(name)
}

// sans lists the subject alternative names of a certificate or a request with their kind,
// as OpenSSL does: "DNS:a.example". They are not escaped.
func sans(extensions []pkix.Extension) []string {
	var out []string
	for _, n := range certname.Alt(extensions) {
		switch n.Kind {
		case "dns", "ip", "uri":
			n.Kind = strings.ToUpper(n.Kind)
		}
		out = append(out, n.String())
	}
	return out
}

func sanList(dns, ips, emails, uris []string) []string {
	var out []string
	for _, g := range []struct {
		kind  string
		names []string
	}{{"DNS:", dns}, {"IP:", ips}, {"email:", emails}, {"URI:", uris}} {
		for _, n := range g.names {
			out = append(out, g.kind+n)
		}
	}
	return out
}

func stringsOf[T fmt.Stringer](in []T) []string {
	var out []string
	for _, v := range in {
		out = append(out, v.String())
	}
	return out
}

// spkiHex is the lower-case hex SHA-256 of a SubjectPublicKeyInfo.
func spkiHex(raw []byte) string {
	h := sha256.Sum256(raw)
	return hex.EncodeToString(h[:])
}

// ShellQuote quotes a word so that a POSIX shell reads it back unchanged, for commands
// that are shown to be typed.
func ShellQuote(s string) string {
	plain := s != ""
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("/._-+:=@%,", r):
		default:
			plain = false
		}
	}
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
