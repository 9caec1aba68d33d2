package ja4

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePattern(t *testing.T) {
	for in, want := range map[string]string{
		"t13d1516h2_8daaf6152771_e5627efa2ab1":  "",
		"t13d1516h2_*_e5627efa2ab1":             "",
		"t12i120700_8daaf6152771_*":             "",
		"*_*_000000000000":                      "",
		"t13d1516-2_*_*":                        "is no first part",
		"*_*_*":                                 "fits every client",
		"t13d1516h2":                            "three parts",
		"t13d1516h2_8daaf6152771_e5627efa2ab1_": "three parts",
		"t13d1516h2_8DAAF6152771_e5627efa2ab1":  "lower-case",
		"t13d1516h2_8daaf615277_e5627efa2ab1":   "12 lower-case",
		"q13d1516h2_8daaf6152771_e5627efa2ab1":  "another protocol",
		"t14d1516h2_8daaf6152771_e5627efa2ab1":  "is no first part",
		"t13x1516h2_*_*":                        "is no first part",
		"t13d15a6h2_*_*":                        "is no first part",
		"t13d1516h2_002f,0035_0005,000a":        "JA4_r",
		"":                                      "three parts",
	} {
		p, err := Parse(in)
		switch {
		case want == "" && (err != nil || p.String() != in):
			t.Errorf("%q: %v, %v", in, p, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || p != Pattern{}):
			t.Errorf("%q: %v, %v; want %q", in, p, err, want)
		}
	}
}

// A set has what one of its patterns fits, a pattern that covers another fits all that it
// fits, and the zero value fits nothing.
func TestPatterns(t *testing.T) {
	part := func(from ...string) *rapid.Generator[string] { return rapid.SampledFrom(from) }
	draw := func(t *rapid.T, label string, any ...string) Pattern {
		return Pattern{
			part(append(any, "t13d0101h2", "t12i010100")...).Draw(t, label), part(append(any, "000000000000", "8daaf6152771")...).Draw(t, label),
			part(append(any, "000000000000", "e5627efa2ab1")...).Draw(t, label),
		}
	}
	fitted := 0
	rapid.Check(t, func(t *rapid.T) {
		set, some := Set{}, false
		flow := draw(t, "flow").String()
		a, b := draw(t, "a", "*"), draw(t, "b", "*")
		for _, p := range []Pattern{a, b} {
			set[p] = struct{}{}
			some = some || p.Fits(flow)
		}
		if set.Has(flow) != some {
			t.Fatalf("%v, %v and %s: the set says %v", a, b, flow, !some)
		}
		if a.Covers(b) && b.Fits(flow) && !a.Fits(flow) || !a.Covers(a) {
			t.Fatalf("%v covers %v, and does not fit %s", a, b, flow)
		}
		if some {
			fitted++
		}
		for _, no := range []string{"", "_", "__", "a_b"} {
			if set.Has(no) || (Pattern{}).Fits(no) || (Pattern{}).Fits(flow) {
				t.Fatalf("%q fits", no)
			}
		}
	})
	if fitted == 0 {
		t.Error("nothing fitted")
	}
}

// Whatever is parsed is written as it was, and fits itself alone where it has no "*".
func FuzzParse(f *testing.F) {
	f.Add("t13d1516h2_8daaf6152771_e5627efa2ab1")
	f.Add("t13d1516h2_*_e5627efa2ab1")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			if p != (Pattern{}) {
				t.Errorf("%q: an error and a pattern", s)
			}
			return
		}
		if p.String() != s || !p.Covers(p) || !strings.Contains(s, anyPart) && (!p.Fits(s) || !(Set{p: {}}).Has(s)) {
			t.Errorf("%q: %v", s, p)
		}
	})
}
