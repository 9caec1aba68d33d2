package pattern

import (
	"strings"
	"testing"
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
		p, err := ParseHost(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
		} else if got := p.Matches(tt.name); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.name, got)
		}
	}
	if (Host{}).Matches("") || (URI{}).Matches("") {
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
		p, err := ParseURI(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
		} else if got := p.Matches(tt.uri); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.uri, got)
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
		p, err := ParseHost(pattern)
		if err != nil {
			if p != (Host{}) {
				t.Fatalf("%q: an error and a pattern", pattern)
			}
			return
		}
		again, err := ParseHost(p.String())
		if err != nil || again != p {
			t.Fatalf("%q: %v written back is %v, %v", pattern, p, again, err)
		}
		if !strings.EqualFold(p.String(), pattern) || !p.Covers(p) {
			t.Fatalf("%q became %v", pattern, p)
		}
		if p.Matches(name) && strings.Count(name, ".") != strings.Count(pattern, ".") {
			t.Fatalf("%q takes %q", pattern, name)
		}
		if q, err := ParseHost(name); err == nil && p.Covers(q) && !q.Wild != p.Matches(q.Name) {
			t.Fatalf("%q covers %q without taking it", pattern, name)
		}
	})
}

func FuzzURIPattern(f *testing.F) {
	for _, s := range []string{"spiffe://corp/*", "spiffe://corp", "https://a.example/x/**", "urn:x", "SPIFFE://x", "spiffe://a/%2f", "https:///*", "x:*"} {
		f.Add(s, "spiffe://corp/a/b")
	}
	f.Fuzz(func(t *testing.T, pattern, uri string) {
		p, err := ParseURI(pattern)
		if err != nil {
			if p != (URI{}) {
				t.Fatalf("%q: an error and a pattern", pattern)
			}
			return
		}
		if p.String() != pattern {
			t.Fatalf("%q became %q", pattern, p)
		}
		fixed := strings.TrimRight(pattern, "*")
		if p.Matches(uri) {
			rest, ok := strings.CutPrefix(uri, fixed)
			segments := strings.Count(rest, "/") + 1
			if !ok || p.Tail == TailNone && rest != "" || p.Tail == TailOne && segments != 1 || strings.ContainsAny(rest, "\x00%?#\\ ") || strings.Contains("/"+rest+"/", "/../") {
				t.Fatalf("%q takes %q", pattern, uri)
			}
			if IsSPIFFE(pattern) != IsSPIFFE(uri) {
				t.Fatalf("%q takes %q of the other kind", pattern, uri)
			}
		}
		if p.Tail == TailNone && !p.Matches(pattern) {
			t.Fatalf("%q does not take itself", pattern)
		}
	})
}

func FuzzEmailPattern(f *testing.F) {
	for _, s := range []string{"joe@example.org", "*@example.org", `"a@b"@c`, "a@b@c", "@", "*@*"} {
		f.Add(s, "joe@example.org")
	}
	f.Fuzz(func(t *testing.T, pattern, email string) {
		p, err := ParseEmail(pattern)
		if err != nil {
			return
		}
		if again, err := ParseEmail(p.String()); err != nil || again != p {
			t.Fatalf("%q: %v written back is %v, %v", pattern, p, again, err)
		}
		if p.Matches(email) && (strings.Count(email, "@") != 1 || !strings.EqualFold(email[strings.IndexByte(email, '@')+1:], p.Domain)) {
			t.Fatalf("%q takes %q", pattern, email)
		}
	})
}
