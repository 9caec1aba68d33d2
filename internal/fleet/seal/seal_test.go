package seal

import (
	"crypto"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// keys are private keys with their public ones.
func keys(t testing.TB, kind string, n int) (private []crypto.Signer, public []*PublicKey) {
	t.Helper()
	for range n {
		key, err := NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		pub, err := Public(key)
		if err != nil {
			t.Fatal(err)
		}
		private, public = append(private, key), append(public, pub)
	}
	return private, public
}

func roleOf(k int, pubs ...*PublicKey) Role {
	r := Role{Threshold: k}
	for _, p := range pubs {
		r.Keys = append(r.Keys, p.ID())
	}
	slices.Sort(r.Keys)
	return r
}

func signed(t testing.TB, r *Root, by ...crypto.Signer) []byte {
	t.Helper()
	e, err := r.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range by {
		if err := e.Sign(key); err != nil {
			t.Fatal(err)
		}
	}
	text, err := e.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func wants(t *testing.T, what string, err error, why Reason) {
	t.Helper()
	if err == nil || ReasonOf(err) != why {
		t.Errorf("%s: %v, not %s", what, err, why)
	}
}

// TUF's rules for roots: the next one is signed by the keys of the one before it and by its own.
func TestRootsFollow(t *testing.T) {
	for _, kind := range Kinds() {
		priv, pub := keys(t, kind, 5)
		policy := roleOf(1, pub[4])
		make1 := func(version int64, fleet string, k int, who ...*PublicKey) *Root {
			return NewRoot(fleet, version, append(slices.Clone(who), pub[4]), map[string]Role{RoleRoot: roleOf(k, who...), RolePolicy: policy})
		}
		one, err := Pinned(signed(t, make1(1, "acme", 2, pub[0], pub[1], pub[2]), priv[0], priv[2]))
		if err != nil {
			t.Fatal(err)
		}
		two := make1(2, "acme", 2, pub[2], pub[3])
		if _, err := one.Next(signed(t, two, priv[0], priv[2], priv[3])); err != nil {
			t.Errorf("signed under both: %v", err)
		}
		_, err = one.Next(signed(t, two, priv[2], priv[3]))
		wants(t, "by the new keys alone", err, Unsigned)
		_, err = one.Next(signed(t, two, priv[0], priv[1]))
		wants(t, "by the old keys alone", err, Unsigned)
		_, err = one.Next(signed(t, make1(3, "acme", 1, pub[0]), priv[0], priv[1]))
		wants(t, "one left out", err, WrongRoot)
		_, err = one.Next(signed(t, make1(2, "other", 1, pub[0]), priv[0], priv[1]))
		wants(t, "of another fleet", err, WrongFleet)
		_, err = Pinned(signed(t, two, priv[2]))
		wants(t, "a pinned one with too few", err, Unsigned)
	}
}

// One key is one, however often and under whatever name it stands there.
func TestDistinctKeysCount(t *testing.T) {
	priv, pub := keys(t, Ed25519, 3)
	r := NewRoot("acme", 1, pub, map[string]Role{RoleRoot: roleOf(1, pub[0]), RolePolicy: roleOf(2, pub...)})
	root, err := Pinned(signed(t, r, priv[0]))
	if err != nil {
		t.Fatal(err)
	}
	e := NewEnvelope(TypePolicy, []byte("policy"))
	if err := e.Sign(priv[0]); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the same signature again and again
		e.Signatures = append(e.Signatures, e.Signatures[0])
	}
	_, err = root.Open(RolePolicy, TypePolicy, e)
	wants(t, "one key four times", err, Unsigned)
	e.Signatures[1].KeyID = pub[1].ID() // one key's signature in another's name
	_, err = root.Open(RolePolicy, TypePolicy, e)
	wants(t, "in another's name", err, Unsigned)
	if err := e.Sign(priv[2]); err != nil {
		t.Fatal(err)
	}
	if body, err := root.Open(RolePolicy, TypePolicy, e); err != nil || string(body) != "policy" {
		t.Errorf("two keys: %q, %v", body, err)
	}

	// A root that lists one key twice is none.
	body, err := Canonical(NewRoot("acme", 1, pub, map[string]Role{RoleRoot: roleOf(1, pub[0]), RolePolicy: {Keys: []string{pub[0].ID(), pub[0].ID()}, Threshold: 2}}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parseRoot(body)
	wants(t, "one key twice in a role", err, Unreadable)
	other := NewRoot("acme", 1, pub, r.Roles)
	other.Keys = maps.Clone(r.Keys)
	other.Keys[pub[1].ID()] = r.Keys[pub[0].ID()]
	if body, err = Canonical(other); err != nil {
		t.Fatal(err)
	}
	_, err = parseRoot(body)
	wants(t, "one key under two IDs", err, Unreadable)
}

// What one role has signed is nothing for another, and a byte more or less is nothing at all.
func TestEnvelopeIsBound(t *testing.T) {
	priv, pub := keys(t, MLDSA65, 2)
	root, err := Pinned(signed(t, NewRoot("acme", 1, pub, map[string]Role{RoleRoot: roleOf(1, pub[0]), RolePolicy: roleOf(1, pub[1])}), priv[0]))
	if err != nil {
		t.Fatal(err)
	}
	e := NewEnvelope(TypeRoot, []byte("x"))
	if err := e.Sign(priv[1]); err != nil {
		t.Fatal(err)
	}
	_, err = root.Open(RolePolicy, TypePolicy, e)
	wants(t, "another type", err, WrongType)
	e.PayloadType = TypePolicy
	_, err = root.Open(RolePolicy, TypePolicy, e)
	wants(t, "the type changed", err, Unsigned)
	if err := e.Sign(priv[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Open(RolePolicy, TypePolicy, e); err != nil {
		t.Error(err)
	}
	_, err = root.Open(RoleRevoke, TypePolicy, e)
	wants(t, "a role that nobody has", err, Unsigned)
	e.body = []byte("y")
	_, err = root.Open(RolePolicy, TypePolicy, e)
	wants(t, "another body", err, Unsigned)
}

// Another implementation of DSSE reads our envelopes and signs the same bytes.
func TestEnvelopeIsDSSE(t *testing.T) {
	priv, pub := keys(t, Ed25519, 1)
	ours := NewEnvelope(TypePolicy, []byte(`{"a":1}`))
	if err := ours.Sign(priv[0]); err != nil {
		t.Fatal(err)
	}
	text, err := ours.Text()
	if err != nil {
		t.Fatal(err)
	}
	var theirs dsse.Envelope
	if err := json.Unmarshal(text, &theirs); err != nil {
		t.Fatal(err)
	}
	body, err := theirs.DecodeB64Payload()
	if err != nil || string(body) != `{"a":1}` || string(dsse.PAE(theirs.PayloadType, body)) != string(ours.message()) {
		t.Errorf("%q, %v", body, err)
	}
	again, err := json.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnvelope(again)
	if err != nil || len(e.signers(map[string]*PublicKey{pub[0].ID(): pub[0]})) != 1 {
		t.Errorf("theirs is not read: %v", err)
	}
}

// Only one form is read.
func TestOneForm(t *testing.T) {
	good, err := NewEnvelope(TypePolicy, []byte("body")).Text()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseEnvelope(good); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"a name twice":       {`"payload":`, `"payload": "", "payload":`},
		"an unknown name":    {`"payload":`, `"more": 1, "payload":`},
		"another case":       {`"payload":`, `"Payload":`},
		"another spelling":   {`"payload":`, `"\u0070ayload":`},
		"something behind":   {"\n}\n", "\n} {}\n"},
		"base64 with a line": {"Ym9keQ==", `Ym9k\neQ==`},
		"other base64":       {"Ym9keQ==", "Ym9keR=="},
		"no signatures":      {`"signatures": []`, `"signatures": {}`},
		"cut":                {"}\n", ""},
	} {
		text := strings.Replace(string(good), change[0], change[1], 1)
		if text == string(good) {
			t.Fatalf("%s: nothing was changed", what)
		}
		_, err := ParseEnvelope([]byte(text))
		wants(t, what, err, Unreadable)
	}
	_, err = ParseEnvelope(make([]byte, MaxEnvelope+1))
	wants(t, "a large one", err, TooLarge)
	many := NewEnvelope(TypePolicy, nil)
	many.Signatures = make([]Signature, MaxSignatures+1)
	text, err := many.Text()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ParseEnvelope(text)
	wants(t, "many signatures", err, TooLarge)
}

// What is read is written again as it was, but for white space.
func FuzzEnvelope(f *testing.F) {
	priv, _ := keys(f, Ed25519, 1)
	e := NewEnvelope(TypePolicy, []byte("body"))
	if err := e.Sign(priv[0]); err != nil {
		f.Fatal(err)
	}
	text, err := e.Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"payloadType":"","payload":"","signatures":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseEnvelope(text)
		if err != nil {
			if r := ReasonOf(err); r != Unreadable && r != TooLarge {
				t.Errorf("%v", err)
			}
			return
		}
		short, err := Canonical(e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseEnvelope(short)
		if err != nil || string(again.body) != string(e.body) || string(again.message()) != string(e.message()) {
			t.Errorf("%q: %v", short, err)
		}
	})
}

// A root that is read has one form, and every key in it the ID that it stands under.
func FuzzRoot(f *testing.F) {
	_, pub := keys(f, Ed25519, 2)
	body, err := Canonical(NewRoot("acme", 1, pub, map[string]Role{RoleRoot: roleOf(1, pub[0]), RolePolicy: roleOf(2, pub...)}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRoot(body)
		if err != nil {
			return
		}
		again, err := Canonical(r)
		if err != nil || string(again) != string(body) {
			t.Errorf("%q is written as %q: %v", body, again, err)
		}
		for id := range r.Keys {
			if r.keys[id].ID() != id {
				t.Errorf("%s is %s", id, r.keys[id].ID())
			}
		}
	})
}

// The list of reasons is whole, and each is a word for a label.
func TestReasons(t *testing.T) {
	seen := map[Reason]bool{}
	for _, r := range Reasons() {
		if seen[r] || strings.Trim(string(r), "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("%q", r)
		}
		seen[r] = true
	}
	inside := errors.New("inside")
	if err := Refuse(OlderEpoch, "%w", inside); ReasonOf(err) != OlderEpoch || err.Error() != "older_epoch: inside" || !errors.Is(err, inside) {
		t.Error(err)
	}
}
