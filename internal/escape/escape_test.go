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

// What was escaped is read back as it was, byte for byte.
func TestOriginal(t *testing.T) {
	for _, in := range []string{"", "h2", "\x0a\x0a", "\x1a\x1a", "\xfa\xfa", "a\\x0a", `\`, "\"'", "pay\u202e", "\ufffd", "\xff\xfe\x00", "\U000e0001x", "Müller", "\a\b\f\n\r\t\v\x7f"} {
		if got := Original(String(in, 0)); got != in {
			t.Errorf("%q is %q in a record, and %q again", in, String(in, 0), got)
		}
	}
	for _, none := range []string{`\`, `a\q`, `\x`, `\400`} { // no text of String
		if got := Original(none); got != none {
			t.Errorf("%q becomes %q", none, got)
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
		if len(got) <= bound && !strings.HasSuffix(got, "...") && Original(got) != s {
			t.Fatalf("%q becomes %q and %q again", s, got, Original(got))
		}
		if len(got) > bound+3 {
			t.Fatalf("%d bytes, bound %d", len(got), bound)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Fatalf("unprintable at %d in %q", i, got)
		}
	})
}
