package policy

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHostPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"a.example", "a.example", true},
		{"A.Example", "a.example", true},
		{"a.example", "b.example", false},
		{"a.example", "a.example.org", false},
		{"*.example", "a.example", true},
		{"*.example", "example", false},
		{"*.example", ".example", false},
		{"*.example", "a.b.example", false},
		{"*.b.example", "a.b.example", true},
		{"*.example", "aexample", false},
		{"under_score.example", "under_score.example", true},
		{"localhost", "localhost", true},
		{"localhost", "", false},
	} {
		p, err := parseHostPattern(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
		} else if got := p.matches(tt.name); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.name, got)
		}
	}
	if (hostPattern{}).matches("") || (uriPattern{}).matches("") {
		t.Error("a zero pattern fits nothing")
	}
}

func TestURIPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern, uri string
		want         bool
	}{
		{"spiffe://corp", "spiffe://corp", true},
		{"spiffe://corp", "spiffe://corp/", false},
		{"spiffe://corp/*", "spiffe://corp/a", true},
		{"spiffe://corp/*", "spiffe://corp/", false},
		{"spiffe://corp/*", "spiffe://corp", false},
		{"spiffe://corp/*", "spiffe://corp/a/b", false},
		{"spiffe://corp/**", "spiffe://corp/a/b", true},
		{"spiffe://corp/**", "spiffe://corp/a//b", false},
		{"spiffe://corp/**", "spiffe://corp/a/../b", false},
		{"spiffe://corp/pay/*", "spiffe://corp/payment/a", false},
		{"spiffe://corp/pay/*", "spiffe://CORP/pay/a", false},
		{"https://a.example/*", "https://a.example/b", true},
		{"https://a.example/*", "https://a.example/", false},
		{"https://a.example/*", "https://a.example.evil/b", false},
		{"https://a.example/**", "https://a.example/b/c", true},
		{"https://a.example/**", "https://a.example/b%2fc", false},
		{"https://a.example/**", "https://a.example/b/./c", false},
		{"https://a.example/**", "https://a.example/b#c", false},
		{"urn:uuid:1", "urn:uuid:1", true},
		{"urn:uuid:1", "urn:uuid:12", false},
	} {
		p, err := parseURIPattern(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
		} else if got := p.matches(tt.uri); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.uri, got)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for text, want := range map[string]string{
		"10.20.0.0/16:443": "10.20.0.0/16:443", "10.20.0.9:*": "10.20.0.9:*", "*:443": "0.0.0.0/0:443 [::]/0:443",
		"[fd00:20::]/32:443": "[fd00:20::]/32:443", "[fd00::1]:443": "[fd00::1]:443", "[fd00:0::1]/128:1": "[fd00::1]:1",
		"10.0.0.1/32:65535": "10.0.0.1:65535", "[::]/0:*": "[::]/0:*", "0.0.0.0/0:*": "0.0.0.0/0:*",
	} {
		list, err := parseEndpoints(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got []string
		for _, e := range list {
			got = append(got, e.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// What is accepted is written back to a form that means the same, and no
// pattern takes more than it says.
func FuzzHostPattern(f *testing.F) {
	for _, s := range []string{"a.example", "*.example", "*", "a.*.b", "xn--bcher-kva.example", "_dmarc.x", "A.B", "10.0.0.1", "a\x00b", "*.*"} {
		f.Add(s, "a.example")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := parseHostPattern(pattern)
		if err != nil {
			if p != (hostPattern{}) {
				t.Fatalf("%q: an error and a pattern", pattern)
			}
			return
		}
		again, err := parseHostPattern(p.String())
		if err != nil || again != p {
			t.Fatalf("%q: %v written back is %v, %v", pattern, p, again, err)
		}
		if !strings.EqualFold(p.String(), pattern) || !p.covers(p) {
			t.Fatalf("%q became %v", pattern, p)
		}
		if p.matches(name) && strings.Count(name, ".") != strings.Count(pattern, ".") {
			t.Fatalf("%q takes %q", pattern, name)
		}
		if q, err := parseHostPattern(name); err == nil && p.covers(q) && !q.wild != p.matches(q.name) {
			t.Fatalf("%q covers %q without taking it", pattern, name)
		}
	})
}

func FuzzURIPattern(f *testing.F) {
	for _, s := range []string{"spiffe://corp/*", "spiffe://corp", "https://a.example/x/**", "urn:x", "SPIFFE://x", "spiffe://a/%2f", "https:///*", "x:*"} {
		f.Add(s, "spiffe://corp/a/b")
	}
	f.Fuzz(func(t *testing.T, pattern, uri string) {
		p, err := parseURIPattern(pattern)
		if err != nil {
			if p != (uriPattern{}) {
				t.Fatalf("%q: an error and a pattern", pattern)
			}
			return
		}
		if p.String() != pattern {
			t.Fatalf("%q became %q", pattern, p)
		}
		fixed := strings.TrimRight(pattern, "*")
		if p.matches(uri) {
			rest, ok := strings.CutPrefix(uri, fixed)
			segments := strings.Count(rest, "/") + 1
			if !ok || p.tail == tailNone && rest != "" || p.tail == tailOne && segments != 1 || strings.ContainsAny(rest, "\x00%?#\\ ") || strings.Contains("/"+rest+"/", "/../") {
				t.Fatalf("%q takes %q", pattern, uri)
			}
			if isSPIFFE(pattern) != isSPIFFE(uri) {
				t.Fatalf("%q takes %q of the other kind", pattern, uri)
			}
		}
		if p.tail == tailNone && !p.matches(pattern) {
			t.Fatalf("%q does not take itself", pattern)
		}
	})
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8:443", "[fd00::]/32:443", "*:*", "[::ffff:1.2.3.4]:1", "10.0.0.1", "[fe80::1%eth0]:1", "[]:1", "]:[", "1:2:3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseEndpoints(text)
		if err != nil {
			if list != nil {
				t.Fatalf("%q: an error and endpoints", text)
			}
			return
		}
		for _, e := range list {
			again, err := parseEndpoints(e.String())
			if err != nil || len(again) != 1 || again[0] != e {
				t.Fatalf("%q: %v written back is %v, %v", text, e, again, err)
			}
			if e.prefix.Masked() != e.prefix || e.prefix.Addr().Is4In6() || e.prefix.Addr().Zone() != "" {
				t.Fatalf("%q gave %v", text, e)
			}
		}
	})
}

func FuzzEmailPattern(f *testing.F) {
	for _, s := range []string{"joe@example.org", "*@example.org", `"a@b"@c`, "a@b@c", "@", "*@*"} {
		f.Add(s, "joe@example.org")
	}
	f.Fuzz(func(t *testing.T, pattern, email string) {
		p, err := parseEmailPattern(pattern)
		if err != nil {
			return
		}
		if again, err := parseEmailPattern(p.String()); err != nil || again != p {
			t.Fatalf("%q: %v written back is %v, %v", pattern, p, again, err)
		}
		if p.matches(email) && (strings.Count(email, "@") != 1 || !strings.EqualFold(email[strings.IndexByte(email, '@')+1:], p.domain)) {
			t.Fatalf("%q takes %q", pattern, email)
		}
	})
}

// coveredBy agrees with asking every address, in a world of 256 of them.
func TestCoveredBy(t *testing.T) {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "last")})
		p, _ := a.Prefix(rapid.IntRange(24, 32).Draw(t, "bits"))
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		p, list := prefix.Draw(t, "p"), rapid.SliceOfN(prefix, 0, 8).Draw(t, "list")
		list = append(list, netip.MustParsePrefix("fd00::/8"))
		want := true
		for i := range 256 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			if p.Contains(a) {
				in := false
				for _, q := range list {
					in = in || q.Contains(a)
				}
				want = want && in
			}
		}
		if got := coveredBy(p, list); got != want {
			t.Fatalf("%v by %v: %v", p, list, got)
		}
	})
	v6 := []netip.Prefix{netip.MustParsePrefix("8000::/1"), netip.MustParsePrefix("::/1")}
	if !coveredBy(anyIPv6, v6) || coveredBy(anyIPv6, v6[:1]) || coveredBy(anyIPv4, v6) {
		t.Error("IPv6 halves")
	}
}
