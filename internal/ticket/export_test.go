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
