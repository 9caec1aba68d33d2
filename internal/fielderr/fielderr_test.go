package fielderr

import (
	"errors"
	"testing"
)

func TestListKeepsPlaces(t *testing.T) {
	var inner, outer List
	inner.Addf("sni[0]", "bad")
	inner.Warnf("", "odd")
	outer.Add("rules[2]", inner.Err())
	outer.Add("policy", errors.New("plain"))
	got := All(outer.Err())
	if len(got) != 3 || got[0].Path != "rules[2].sni[0]" || got[1].Path != "rules[2]" || !got[1].Warning || got[2].Path != "policy" {
		t.Fatalf("got %v", got)
	}
	if !outer.Failed() {
		t.Error("a list with errors has not failed")
	}
	var warn List
	warn.Warnf("a", "b")
	if warn.Failed() {
		t.Error("warnings alone count as failure")
	}
	if (&List{}).Err() != nil {
		t.Error("an empty list is an error")
	}
}

func TestSuggest(t *testing.T) {
	words := []string{"terminate", "bypass", "deny"}
	for word, want := range map[string]string{
		"bypas": ` (did you mean "bypass"?)`, "Deny": ` (did you mean "deny"?)`, "accept": "", "x": "",
	} {
		if got := Suggest(word, words); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", word, got, want)
		}
	}
}
