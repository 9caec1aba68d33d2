package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// A second block in a file that a configuration names, in any state that
// people have it in, is read or refused with file and line: of roots, of
// intermediates, of a chain, of a revocation list.
func TestMessyPEMInEveryPlace(t *testing.T) {
	dir := t.TempDir()
	writePKI(t, dir)
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	indent := func(s, with string) string {
		return with + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n"+with) + "\n"
	}
	messes := map[string]struct {
		make func(first, second string) string
		read bool
	}{
		"plain":          {func(a, b string) string { return a + b }, true},
		"boms":           {func(a, b string) string { return "\ufeff" + a + "\ufeff" + b }, true},
		"indented":       {func(a, b string) string { return a + indent(b, "  ") }, true},
		"indented first": {func(a, b string) string { return indent(a, "  ") + b }, true},
		"one line":       {func(a, b string) string { return strings.TrimSuffix(a, "\n") + b }, true},
		"line ends": {func(a, b string) string {
			return strings.ReplaceAll(a, "\n", "\r\n") + strings.ReplaceAll(b, "\n", "\r")
		}, true},
		"comments": {func(a, b string) string { return "subject=CN = x\n" + a + "\n# the next\n" + b }, true},
		"quoted":   {func(a, b string) string { return a + indent(b, "> ") }, false},
		"utf-16": {func(a, b string) string {
			for _, u := range utf16.Encode([]rune("\ufeff" + b)) {
				a += string([]byte{byte(u), byte(u >> 8)})
			}
			return a
		}, false},
		"dashes":     {func(a, b string) string { return a + strings.Replace(b, "-----", "----", 1) }, false},
		"not closed": {func(a, b string) string { return a + b[:len(b)/2] }, false},
		"no begin":   {func(a, b string) string { return a + strings.SplitAfterN(b, "\n", 2)[1] }, false},
		"other label": {func(a, b string) string {
			return a + strings.ReplaceAll(strings.ReplaceAll(b, "CERTIFICATE", "PKCS7"), "X509 CRL", "PKCS7")
		}, false},
		"der behind": {func(a, b string) string { return a + "\x30\x82\x01\x00\x02\x01" }, false},
	}
	for place, c := range map[string]struct{ first, second, section string }{
		"roots":         {"staff-ca.pem", "services-ca.pem", "authorities: {a: {roots: F}}"},
		"intermediates": {"staff-inter.pem", "staff-inter.pem", "authorities: {a: {roots: staff-ca.pem, intermediates: F, revocation: soft, crl: [staff.crl]}}"},
		"crl":           {"staff.crl", "staff.crl", "authorities: {a: {roots: staff-ca.pem, crl: [F]}}"},
		"certificate":   {"pay.pem", "services-ca.pem", "identities: {i: {certificate: F, key: pay.key}}"},
		"key":           {"pay.key", "services-ca.pem", "identities: {i: {certificate: pay.pem, key: F}}"},
	} {
		for name, mess := range messes {
			text := mess.make(read(c.first), read(c.second))
			if err := os.WriteFile(filepath.Join(dir, "F"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "sslgate.yaml")
			config := "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\npolicy: {rules: []}\n" + c.section + "\n"
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			rt, found := Check(file, stdtls.New())
			if !mess.read {
				if got := Findings(found).Error(); rt != nil || !strings.Contains(got, "/F: ") || !strings.Contains(got, "line ") {
					t.Errorf("%s, %s: not refused with file and line: %s", place, name, got)
				}
				continue
			}
			if rt == nil {
				t.Errorf("%s, %s: %v", place, name, Findings(found))
				continue
			}
			if place == "roots" && len(rt.Revocation[0].Roots) != 2 {
				t.Errorf("%s, %s: %d roots", place, name, len(rt.Revocation[0].Roots))
			}
		}
	}
}
