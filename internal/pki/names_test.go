package pki

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseNames(t *testing.T) {
	for in, want := range map[string]string{
		"app.example.org":       "DNS:app.example.org",
		"APP.Example.org":       "DNS:app.example.org",
		"*.example.org":         "DNS:*.example.org",
		"localhost":             "DNS:localhost",
		"_srv.example.org":      "DNS:_srv.example.org",
		"192.0.2.1":             "IP:192.0.2.1",
		"::ffff:192.0.2.1":      "IP:192.0.2.1",
		"2001:DB8::1":           "IP:2001:db8::1",
		"a@example.org":         "email:a@example.org",
		"spiffe://corp/pay/v1":  "URI:spiffe://corp/pay/v1",
		"spiffe://corp":         "URI:spiffe://corp",
		"https://example.org/x": "URI:https://example.org/x",
		"urn:uuid:f81d4fae":     "URI:urn:uuid:f81d4fae",
		"dns:10":                "DNS:10",
		"IP:192.0.2.1":          "IP:192.0.2.1",
		"uri:tag:a":             "URI:tag:a",
	} {
		n, err := ParseNames([]string{in})
		if err != nil || len(n.Strings()) != 1 || n.Strings()[0] != want || n.Empty() {
			t.Errorf("%q: %v, %v; want %q", in, n.Strings(), err, want)
		}
	}
	long := strings.Repeat("a", 64)
	for in, want := range map[string]string{
		"": "is empty", "a..b": "empty label", ".a": "empty label", "a.b.": "no dot at the end",
		"*": "of at least three", "*.org": "of at least three", "a.*.org": "of at least three", "a*.example.org": "of at least three",
		"-a.b": "hyphen", "a-.b": "hyphen", "a b": "cannot stand", "münchen.de": "xn--", long + ".b": "at most 63",
		strings.Repeat("a.", 127) + "a": "at most 253", "a/b": "cannot stand", "a\x00b": "cannot stand", "999.0.2.1/8": "cannot stand",
		"ip:300.1.1.1": "no IP address", "fe80::1%eth0": "no IP address", "a@": "no e-mail", "A <a@b.c>": "no e-mail", "ä@b.c": "rfc822Name",
		"spiffe://Corp/x": "trust domain", "spiffe://corp:1/x": "trust domain", "spiffe://u@corp/x": "trust domain",
		"spiffe:///x": "no absolute URI", "spiffe://corp/": "path segment", "spiffe://corp/a/../b": "path segment",
		"spiffe://corp/a?b": "path segment", "spiffe://corp/a%41": "path segment", "spiffe://corp?x": "trust domain",
		"spiffe://corp/" + strings.Repeat("a", 2048): "at most 2048", "https://a b": "percent-encode", "uri:/x": "no absolute URI", "SPIFFE://Corp": "trust domain",
	} {
		n, err := ParseNames([]string{"ok.example.org", in})
		var u *UsageError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), want) || !n.Empty() {
			t.Errorf("%q: %v, %v; want a UsageError with %q", in, n.Strings(), err, want)
		}
	}
}

func TestParseNamesTogether(t *testing.T) {
	n, err := ParseNames([]string{"a.b", "A.B", "dns:a.b", "192.0.2.1", "ip:192.0.2.1", "x@y.z", "x@y.z", "urn:a:b", "urn:a:b"})
	if want := []string{"DNS:a.b", "IP:192.0.2.1", "email:x@y.z", "URI:urn:a:b"}; err != nil || !reflect.DeepEqual(n.Strings(), want) {
		t.Errorf("repeats: %v, %v; want %v", n.Strings(), err, want)
	}
	_, err = ParseNames([]string{"spiffe://a/b", "spiffe://a/c"})
	wantErr(t, err, "at most one SPIFFE ID")
}

// What ParseNames accepts, it writes in a form that it reads as the same.
func FuzzParseNames(f *testing.F) {
	for _, s := range []string{"app.example.org", "*.a.b", "::1", "a@b.c", "spiffe://corp/pay", "urn:x:y", "dns:ip:1", "uri:http://[::1]/%41?q#f", "http://a/%zz", "ip:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNames([]string{s})
		if err != nil {
			if !n.Empty() {
				t.Fatal("names and an error")
			}
			return
		}
		again, err := ParseNames(n.Strings())
		if err != nil || !reflect.DeepEqual(n.Strings(), again.Strings()) {
			t.Fatalf("%q: %v, then %v, %v", s, n.Strings(), again.Strings(), err)
		}
	})
}

func TestSlug(t *testing.T) {
	for in, want := range map[string]string{
		"app.example.org": "app.example.org", "corp/pay": "corp_pay", "../../etc/passwd": "etc_passwd", "--x": "x",
		".hidden": "hidden", "2001:db8::1": "2001_db8__1", "Ä\x1b": "", "a\x1bb": "a_b", "A@b": "a@b",
		strings.Repeat("x", 300): strings.Repeat("x", 100),
	} {
		if got := slug(in); got != want {
			t.Errorf("slug(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"pki/a+1.pem": "pki/a+1.pem", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := ShellQuote(in); got != want {
			t.Errorf("ShellQuote(%q) = %s, want %s", in, got, want)
		}
	}
}
