package escape

import (
	"strings"
	"testing"
	"unicode"
)

func TestString(t *testing.T) {
	for _, c := range []struct {
		in, want string
		max      int
	}{
		{"shop.example", "shop.example", 0},
		{"Müller & Söhne", "Müller & Söhne", 0},
		{"a\x1b[31mb\nc", `a\x1b[31mb\nc`, 0},
		{"pay\u202elapyap", `pay\u202elapyap`, 0},
		{"\xff\x00", `\xff\x00`, 0},
		{`C:\x`, `C:\\x`, 0},
		{"abcdef", "abc...", 3},
		{"ab\x00cd", "ab...", 3},
	} {
		if got := String(c.in, c.max); got != c.want {
			t.Errorf("String(%q, %d) = %q, want %q", c.in, c.max, got, c.want)
		}
	}
}

// A distinguished name keeps its escapes, and hides nothing behind them.
func TestShown(t *testing.T) {
	for in, want := range map[string]string{`CN=a\,b`: `CN=a\,b`, "CN=a\\00\x1b": `CN=a\00\x1b`, `CN=\\`: `CN=\\`} {
		if got := Shown(in, 0); got != want {
			t.Errorf("Shown(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzString(f *testing.F) {
	f.Add("a\x1b[0m\u2066\xfe", 10)
	f.Fuzz(func(t *testing.T, s string, max int) {
		got := String(s, max)
		bound := max
		if bound <= 0 {
			bound = MaxString
		}
		if len(got) > bound+3 {
			t.Fatalf("%d bytes, bound %d", len(got), bound)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Fatalf("unprintable at %d in %q", i, got)
		}
	})
}
