package audit

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
)

// What is written is read: every field, and nothing else.
func TestParse(t *testing.T) {
	line, want := write(t, fullRecord(t))
	p, err := Parse([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(- written, + read):\n%s", d)
	}
	if e := p.DestinationLedger[0].Entry(); e.Alert != 48 || e.From != handshake.SideUs || p.Ledger[0].Entry().From != handshake.SidePeer {
		t.Errorf("%+v", e)
	}
}

func TestParseBad(t *testing.T) {
	for text, want := range map[string]string{
		"{":            "column 1: unexpected end of JSON input",
		`{"step":"x"}`: "column 11: field step is no int",
		"[]":           "column 1: the line is no object",
		"":             "column 0: unexpected end of JSON input",
	} {
		p, err := Parse([]byte(text))
		if err == nil || err.Error() != want || p != nil {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestParseAlert(t *testing.T) {
	for text, want := range map[string]handshake.Alert{
		"unknown_ca(48)": 48, "alert(200)": 200, "": handshake.AlertNone, "x": handshake.AlertNone, "x(300)": handshake.AlertNone, "x(-1)": handshake.AlertNone, "(": handshake.AlertNone,
	} {
		if got := ParseAlert(text); got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}

// Whatever stands in a line: an error and nothing, or a record that stays the
// same when it is written again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"7","step":6,"peer":{"proven":false,"subject":"CN=pay"},"ledger":[{"step":1,"from":"peer","at_us":625}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if p != nil {
				t.Error("an error and a record")
			}
			return
		}
		once, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := json.Marshal(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s becomes %s (%v)", once, twice, err)
		}
	})
}
