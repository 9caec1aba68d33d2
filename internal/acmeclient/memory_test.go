package acmeclient

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// What is remembered of an order outlives the process, is open to nobody else, and counts for that
// order alone. What cannot be used is an error, not a reason to order at once.
func TestMemoryOfAnOrder(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	order := func(dir string) *Order {
		return &Order{Directory: "https://ca.example/dir", Names: []string{"b.example", "a.example"}, File: filepath.Join(dir, "acme", "pay.pem")}
	}
	dir := t.TempDir()
	o := order(dir)
	if m, err := o.Recall(now); err != nil || !reflect.DeepEqual(m, Memory{}) {
		t.Errorf("before the first order: %+v, %v", m, err)
	}
	release, err := o.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := order(dir).Lock(); !errors.Is(err, ErrElsewhere) {
		t.Errorf("a second one has the lock: %v", err)
	}
	want := Memory{Due: now.Add(time.Hour), Wait: 50 * time.Minute, Limited: time.Hour, Ordered: now.Add(-time.Hour), Said: "limited\x1b[31m"}
	if err := o.Remember(want); err != nil {
		t.Fatal(err)
	}
	release()
	if release, err = order(dir).Lock(); err != nil {
		t.Fatalf("after the release: %v", err)
	}
	release()
	got, err := order(dir).Recall(now)
	want.Of, want.Said = o.Sum(), `limited\x1b[31m`
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v: %v", got, want, err)
	}
	file := filepath.Join(dir, "acme", "pay.order", memoryName)
	for _, path := range []string{file, filepath.Dir(file)} {
		if info := testpki.Must(os.Stat(path)); info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
	}
	for what, change := range map[string]func(*Order){
		"a name more":     func(o *Order) { o.Names = append(o.Names, "c.example") },
		"another CA":      func(o *Order) { o.Directory += "2" },
		"another account": func(o *Order) { o.External.ID = "7" },
	} {
		other := order(dir)
		change(other)
		if m, err := other.Recall(now); err != nil || !m.Due.IsZero() {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
	}
	turned := order(dir)
	turned.Names = []string{"a.example", "b.example"}
	if m, err := turned.Recall(now); err != nil || m.Due.IsZero() {
		t.Errorf("the same names in another order: %+v, %v", m, err)
	}
	good := string(testpki.Must(os.ReadFile(file)))
	for what, text := range map[string]string{
		"empty":                "",
		"nonsense":             "nonsense",
		"half":                 good[:len(good)/2],
		"of nothing":           "{}",
		"due in years":         strings.Replace(good, "2026-06-01T13", "2036-06-01T13", 1),
		"ordered in years":     strings.Replace(good, "2026-06-01T11", "2036-06-01T11", 1),
		"a wait that is none":  strings.Replace(good, `"wait":3`, `"wait":-3`, 1),
		"a wait of years":      strings.Replace(good, `"limited":3`, `"limited":99993`, 1),
		"larger than it may":   good + strings.Repeat(" ", maxMemory),
		"a date that is none":  strings.Replace(good, "2026-06-01T13", "tomorrow", 1),
		"a link to nowhere":    "",
		"a directory in there": "",
	} {
		if err := os.RemoveAll(file); err != nil {
			t.Fatal(err)
		}
		switch what {
		case "a link to nowhere":
			err = os.Symlink(file, file)
		case "a directory in there":
			err = os.Mkdir(file, 0o700)
		default:
			err = os.WriteFile(file, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if text == good {
			t.Errorf("%s: nothing was changed", what)
		}
		if m, err := o.Recall(now); err == nil || !reflect.DeepEqual(m, Memory{}) {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
	}
}
