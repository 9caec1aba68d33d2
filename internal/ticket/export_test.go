package ticket

import (
	"bytes"
	"testing"
	"time"
)

// A ticket of one process is opened by the next, which has its keys; and what is no key is not
// taken.
func TestTicketKeysHandedOver(t *testing.T) {
	now := time.Now()
	old, next := NewKeys(0), NewKeys(0)
	first, err := old.Seal([]byte("first"), []byte("b"), now.Add(-90*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	second, err := old.Seal([]byte("second"), []byte("b"), now)
	if err != nil {
		t.Fatal(err)
	}
	if next.Open(second, []byte("b"), now) != nil {
		t.Fatal("opened without the key")
	}
	keys := old.Export()
	if len(keys) != 2 {
		t.Fatalf("%d keys, want 2", len(keys))
	}
	if err := next.Import(keys); err != nil {
		t.Fatal(err)
	}
	for want, ticket := range map[string][]byte{"first": first, "second": second} {
		if got := next.Open(ticket, []byte("b"), now); string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	sealed, err := next.Seal([]byte("third"), []byte("b"), now)
	if err != nil {
		t.Fatal(err)
	}
	if got := old.Open(sealed, []byte("b"), now); string(got) != "third" {
		t.Error("the way back: a ticket of the next process is not opened by the old one, though the key is the same")
	}
	for _, bad := range [][]ExportedKey{{{Key: make([]byte, 31)}}, {{}}, make([]ExportedKey, maxKeys+1)} {
		if err := next.Import(bad); err == nil {
			t.Errorf("%d keys of %d bytes are taken", len(bad), len(bad[0].Key))
		}
	}
	if got := next.Open(second, []byte("b"), now); !bytes.Equal(got, []byte("second")) {
		t.Error("a refused import has changed the keys")
	}
}

// What a key was read into is cleared, and the copy that stays seals as before.
func TestTicketKeyIsTaken(t *testing.T) {
	key := [32]byte{1, 2, 3}
	k := newKey(&key, time.Time{})
	if key != [32]byte{} {
		t.Errorf("left: %x", key)
	}
	if k.key != [32]byte{1, 2, 3} {
		t.Errorf("kept: %x", k.key)
	}
	exported := []ExportedKey{{Key: bytes.Repeat([]byte{7, 9}, 16)}}
	if err := NewKeys(0).Import(exported); err != nil {
		t.Fatal(err)
	}
	if exported[0].Key[0] != 7 {
		t.Error("Import has cleared what it does not own")
	}
}

// A key that opens nothing any more is cleared: one that is too old, and those in whose place
// others come.
func TestDroppedKeysAreCleared(t *testing.T) {
	k, now := NewKeys(time.Hour), time.Unix(1_800_000_000, 0)
	first := k.current(now)
	second := k.current(now.Add(2 * time.Hour))
	if first.key == [32]byte{} || second == first || first.key == second.key {
		t.Fatal("the first key is gone before its time, or is no random one")
	}
	if k.current(now.Add(2*time.Hour)) != second {
		t.Error("a key is copied")
	}
	third := k.current(now.Add(time.Hour + MaxLifetime))
	if first.key != [32]byte{} {
		t.Error("a key that is too old is not cleared")
	}
	if err := k.Import([]ExportedKey{{Key: bytes.Repeat([]byte{7, 9}, 16), Made: now}}); err != nil {
		t.Fatal(err)
	}
	if second.key != [32]byte{} || third.key != [32]byte{} {
		t.Error("keys that were replaced are not cleared")
	}
}
