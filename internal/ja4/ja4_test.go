package ja4

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
)

// ids reads "002f,0035".
func ids(t testing.TB, s string) []uint16 {
	t.Helper()
	var out []uint16
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) {
		n, err := strconv.ParseUint(f, 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, uint16(n))
	}
	return out
}

func hello(t testing.TB, suites, extensions, schemes, versions string, alpn ...string) *handshake.ClientHello {
	h := &handshake.ClientHello{
		LegacyVersion: 0x0303, CipherSuites: ids(t, suites), SignatureSchemes: ids(t, schemes),
		SupportedVersions: ids(t, versions), ALPN: alpn,
	}
	for _, e := range ids(t, extensions) {
		h.Extensions = append(h.Extensions, handshake.Extension{Type: e})
	}
	return h
}

// The vector is the one that FoxIO publishes with the definition: Chrome's hello, here in
// another order and with GREASE, which do not count.
func TestPublishedVector(t *testing.T) {
	const (
		suites     = "2a2a,1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
		extensions = "5a5a,001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015,1a1a"
		schemes    = "0403,0804,0401,0503,0805,0501,0806,0601"
	)
	const want = "t13d1516h2_8daaf6152771_e5627efa2ab1"
	if got := Of(hello(t, suites, extensions, schemes, "fafa,0304,0303", "h2", "http/1.1")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if !is(want) {
		t.Errorf("%s has not the form", want)
	}
}

func TestFirstPart(t *testing.T) {
	for _, c := range []struct {
		name string
		h    *handshake.ClientHello
		want string
	}{
		{"nothing at all", hello(t, "", "", "", ""), "t12i000000_" + none + "_" + none},
		{"no name", hello(t, "1301", "002b", "", "0304"), "t13i010100"},
		{"the hello's own version without the extension", hello(t, "1301", "000a", "", "0304"), "t12i010100"},
		{"nothing but GREASE offered", hello(t, "1301", "002b", "", "0a0a"), "t00i010100"},
		{"one byte", hello(t, "1301", "0010", "", "", "x"), "t12i0101xx"},
		{"a byte that is no letter", hello(t, "1301", "0010", "", "", "\xab"), "t12i0101ab"},
		{"two of them", hello(t, "1301", "0010", "", "", "\xab\xcd"), "t12i0101ad"},
		{"the last of two", hello(t, "1301", "0010", "", "", "0\xab"), "t12i01013b"},
		{"in the middle", hello(t, "1301", "0010", "", "", "0\xab\xcd1"), "t12i010101"},
		{"more than two digits", hello(t, strings.Repeat("1301,", 120), "", "", ""), "t12i990000"},
	} {
		if got := Of(c.h); !strings.HasPrefix(got, c.want) || !is(got) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestIs(t *testing.T) {
	for _, s := range []string{
		"", "t13d1516h2", "t13d1516h2_8daaf6152771_e5627efa2ab", "t13d1516h2_8daaf6152771_e5627efa2ab1x",
		"x13d1516h2_8daaf6152771_e5627efa2ab1", "t13d1516h2_8daaf6152771_E5627efa2ab1", "t13d1516h2_8daaf6152771-e5627efa2ab1", "t13d1516h*_8daaf6152771_e5627efa2ab1",
	} {
		if is(s) {
			t.Errorf("%q has the form of a fingerprint", s)
		}
	}
}

// Whatever a client sends: its fingerprint has the form, and the order of suites and
// extensions is not in it.
func FuzzOf(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, msg []byte) {
		h, err := handshake.ParseClientHello(msg)
		if err != nil {
			return
		}
		got := Of(h)
		if !is(got) {
			t.Fatalf("%q has not the form", got)
		}
		if p, err := Parse(got); err != nil || !p.Fits(got) {
			t.Fatalf("%q is no pattern: %v", got, err)
		}
		if again := Of(h.Compact()); again != got {
			t.Fatalf("%s, and %s of the compact hello", got, again)
		}
		for i, j := 0, len(h.CipherSuites)-1; i < j; i, j = i+1, j-1 {
			h.CipherSuites[i], h.CipherSuites[j] = h.CipherSuites[j], h.CipherSuites[i]
		}
		for i, j := 0, len(h.Extensions)-1; i < j; i, j = i+1, j-1 {
			h.Extensions[i], h.Extensions[j] = h.Extensions[j], h.Extensions[i]
		}
		if again := Of(h); again != got {
			t.Fatalf("%s, and %s in another order", got, again)
		}
	})
}

// is says whether a text has the form of a fingerprint: of a client over TCP ("t"), QUIC
// ("q") or DTLS ("d").
func is(s string) bool {
	if len(s) != 36 || s[10] != '_' || s[23] != '_' || !strings.ContainsRune("tqd", rune(s[0])) {
		return false
	}
	for i, c := range []byte(s) {
		digit, lower := c >= '0' && c <= '9', c >= 'a' && c <= 'z'
		switch {
		case i == 10, i == 23, digit, i < 10 && (lower || c >= 'A' && c <= 'Z'), i > 10 && c >= 'a' && c <= 'f':
		default:
			return false
		}
	}
	return true
}
