package policy

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

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
