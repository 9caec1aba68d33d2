package times

import (
	"encoding/json"
	"math"
	"math/big"
	"testing"
	"time"
)

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse("20060102150405Z0700", s) // as crypto/x509 reads a GeneralizedTime
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What a CA may write, beyond both ends too, has a text that is read back and JSON.
func TestEveryTimeHasText(t *testing.T) {
	for in, want := range map[string]string{
		"20260102150405Z": "2026-01-02T15:04:05Z", "99991231235959Z": "9999-12-31T23:59:59Z",
		"99991231235959-0100": "9999-12-31T23:59:59Z", "99991231235959-2359": "9999-12-31T23:59:59Z",
		"00010101000000Z": "0001-01-01T00:00:00Z", "00010101000000+2300": "0001-01-01T00:00:00Z",
		"00000101000000Z": "0001-01-01T00:00:00Z", "00000101000000+0100": "0001-01-01T00:00:00Z",
		"19500101000000Z": "1950-01-01T00:00:00Z", "22620411234717Z": "2262-04-11T23:47:17Z",
	} {
		v := at(t, in)
		if got := RFC3339(v); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
		b, err := json.Marshal(UTC(v))
		if err != nil || string(b) != `"`+want+`"` {
			t.Errorf("%s: JSON %s, %v", in, b, err)
		}
		if got := Stamp(v); got != want[:10]+" "+want[11:19]+" UTC" || Date(v) != want[:10] {
			t.Errorf("%s: %s, %s", in, got, Date(v))
		}
	}
}

func TestDays(t *testing.T) {
	now := at(t, "20260101000000Z")
	for in, want := range map[string]struct {
		days int
		text string
	}{
		"99991231235959Z": {2912442, "2912442 days"}, "99990101000000Z": {2912078, "2912078 days"},
		"24000101000000Z": {136600, "136600 days"}, "20270101000000Z": {365, "365 days"},
		"20260101000000Z": {0, "0s"}, "20260101120000Z": {0, "12h0m0s"}, "20251231235900Z": {-1, "1m0s"},
		"19500101000000Z": {-27759, "27759 days"}, "00010101000000Z": {-739616, "739616 days"},
	} {
		v := at(t, in)
		if got, text := WholeDays(now, v), Text(now, v); got != want.days || text != want.text {
			t.Errorf("%s: %d days, %q; want %+v", in, got, text, want)
		}
	}
	if d := Sub(at(t, "99991231235959Z"), now); d != math.MaxInt64 {
		t.Errorf("%v", d)
	}
	if d := Sub(at(t, "00010101000000Z"), now); d != math.MinInt64 {
		t.Errorf("%v", d)
	}
}

// Part agrees with arithmetic that has no bounds, to what the division rounds off.
func FuzzPart(f *testing.F) {
	f.Add(int64(-62135596800), int64(253402300799), uint8(2), uint8(3))
	f.Add(int64(253402300799), int64(-62135596800), uint8(1), uint8(4))
	f.Add(int64(1767225600), int64(1767229200), uint8(2), uint8(3))
	f.Fuzz(func(t *testing.T, from, to int64, num, den uint8) {
		const most = 400_000_000_000 // seconds: more than any date has
		from, to = from%most, to%most
		if den == 0 || num > den {
			return
		}
		got := Part(time.Unix(from, 0), time.Unix(to, 0), int64(num), int64(den)).Unix()
		want := new(big.Int).Sub(big.NewInt(to), big.NewInt(from))
		want.Mul(want, big.NewInt(int64(num))).Quo(want, big.NewInt(int64(den))).Add(want, big.NewInt(from))
		if d := got - want.Int64(); d < -256 || d > 256 || from <= to && (got < from || got > to) {
			t.Fatalf("%d of %d between %d and %d: %d, want %s", num, den, from, to, got, want)
		}
	})
}
