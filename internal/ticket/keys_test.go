package ticket

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestTicketKeysRotate(t *testing.T) {
	k, now, binding := NewKeys(time.Minute), time.Now(), []byte("b")
	seal := func(at time.Time) []byte { return testpki.Must(k.Seal([]byte("state"), binding, at)) }
	old := seal(now)
	for i := range 200 {
		now = now.Add(30 * time.Minute)
		ticket := seal(now)
		if string(k.Open(ticket, binding, now)) != "state" || k.Open(ticket, []byte("c"), now) != nil {
			t.Fatal("does not open, or under another binding")
		}
		if want := i < 49; (k.Open(old, binding, now) != nil) != want {
			t.Errorf("after %d half hours the first opens: %v", i+1, !want)
		}
		if len(k.keys) > maxKeys {
			t.Fatalf("%d keys", len(k.keys))
		}
	}
	if bytes.Equal(old[:8], seal(now)[:8]) {
		t.Error("the key is still the first")
	}
}

// A clock that was far ahead and is set back, or jumps to and fro, leaves no key that seals
// for longer than its hour; one that is set back by seconds changes nothing.
func TestTicketKeysAndTheClock(t *testing.T) {
	day := func(year int) time.Time { return time.Date(year, time.March, 1, 12, 0, 0, 0, time.UTC) }
	k, binding := NewKeys(0), []byte("b")
	key := func(at time.Time) string { return string(testpki.Must(k.Seal(nil, binding, at))[:8]) }
	for _, c := range []struct {
		what string
		at   time.Time
		same bool // the key of before seals
	}{
		{"the beginning", day(2026), false},
		{"a second back", day(2026).Add(-time.Second), true},
		{"an hour on", day(2026).Add(time.Hour), false},
		{"to the end of all dates", day(9999), false},
		{"a minute on", day(9999).Add(time.Minute), true},
		{"back to today", day(2026).Add(2 * time.Hour), false},
		{"half an hour on", day(2026).Add(150 * time.Minute), true},
		{"an hour on", day(2026).Add(3 * time.Hour), false},
		{"a quarter of an hour back", day(2026).Add(165 * time.Minute), false},
		{"to before all dates", day(-1), false},
		{"to the year 1", time.Time{}, false},
		{"further than a Duration", day(2400), false},
		{"and back", day(1970), false},
	} {
		before := ""
		if len(k.keys) > 0 {
			before = string(k.keys[0].id[:])
		}
		if now := key(c.at); (now == before) != c.same {
			t.Errorf("%s: the same key seals: %v", c.what, now == before)
		}
		for _, kept := range k.keys {
			if kept.made.After(c.at.Add(clockSlack)) || kept.made.Before(c.at.Add(-time.Hour-MaxLifetime)) {
				t.Errorf("%s: a key of %s is kept", c.what, kept.made)
			}
		}
	}
}

// Two gateways with the same file open each other's tickets.
func TestParseTicketKeys(t *testing.T) {
	a, b := strings.Repeat("01", 31)+"aa", strings.Repeat("02", 31)+"bb"
	first := testpki.Must(ParseKeys([]byte("# shared\n\n" + a + "\r\n")))
	second := testpki.Must(ParseKeys([]byte(b + "\n" + a)))
	now := time.Now()
	ticket := testpki.Must(first.Seal([]byte("state"), nil, now))
	if ids := second.IDs(); len(ids) != 2 || ids[1] != first.IDs()[0] || ids[1] != hex.EncodeToString(ticket[:8]) || ids[0] == ids[1] {
		t.Errorf("IDs %q and %q, of a ticket %x", first.IDs(), ids, ticket[:8])
	}
	if string(second.Open(ticket, nil, now.Add(100*time.Hour))) != "state" {
		t.Error("the second does not open the first's")
	}
	if first.Open(testpki.Must(second.Seal([]byte("state"), nil, now)), nil, now) != nil {
		t.Error("the first opens with a key it does not have")
	}
	for _, bad := range []string{"", "# none\n", a[1:], a + "00", "zz" + a[2:], a + "\n" + a, strings.Repeat("00", 32), strings.Repeat(a+"\n", 30)} {
		if k, err := ParseKeys([]byte(bad)); err == nil || k != nil || len(a) > 8 && strings.Contains(err.Error(), a[:16]) {
			t.Errorf("%q: %v, %v", bad, k, err)
		}
	}
}

// Nothing opens but what was sealed under the same binding, unchanged.
func FuzzTicket(f *testing.F) {
	k, now, binding := NewKeys(0), time.Unix(1e9, 0), []byte("binding")
	good := testpki.Must(k.Seal([]byte("state"), binding, now))
	f.Add(good[:40], uint16(0), byte(1))
	f.Add(good, uint16(9), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		if k.Open(b, binding, now) != nil && !bytes.Equal(b, good) {
			t.Errorf("opens: % x", b)
		}
		changed := bytes.Clone(good)
		changed[int(at)%len(changed)] ^= flip
		if (k.Open(changed, binding, now) != nil) != (flip == 0) || len(b) > 0 && k.Open(append(changed, b...), binding, now) != nil {
			t.Errorf("byte %d changed by %#x", at, flip)
		}
	})
}

// Neither a key nor a state shows its secret to whatever prints it by mistake.
func TestSecretsAreNotPrinted(t *testing.T) {
	k, state := NewKeys(0), example()
	if _, err := k.Seal([]byte("state"), nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	keys := k.Export()
	for name, c := range map[string]struct {
		value  any
		secret []byte
	}{
		"a state": {state, state.Secret}, "not a pointer": {*state, state.Secret}, "in a struct": {struct{ S State }{*state}, state.Secret},
		"a key": {keys[0], keys[0].Key}, "a pointer to one": {&keys[0], keys[0].Key}, "a list of them": {keys, keys[0].Key}, "those that seal": {k, keys[0].Key},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U"} {
			text := fmt.Sprintf(verb, c.value)
			for _, shape := range []string{string(c.secret), hex.EncodeToString(c.secret), strings.ToUpper(hex.EncodeToString(c.secret)), strings.Trim(fmt.Sprintf(verb, c.secret), "[]\""), strings.Trim(fmt.Sprint(c.secret), "[]")} {
				if strings.Contains(text, shape) {
					t.Errorf("%s: %s shows it: %s", name, verb, text)
				}
			}
		}
	}
}
