package report

import (
	"bytes"
	"strings"
	"testing"
)

// A report says how many records are in none of its files, though later ones are.
func TestMissingRecords(t *testing.T) {
	all := numbered(t, 10)
	v, r := read(t, file(t, "audit.jsonl", bytes.Join(all[6:], nil)), file(t, "audit.jsonl.1", bytes.Join(all[1:4], nil)))
	if rd := v.Read(nil, r); rd.Missing != 2 || rd.Flows != 7 || rd.Again != 0 {
		t.Errorf("%+v", rd)
	}
	if text := texts(t, v); !strings.Contains(text, "missing  2 records") {
		t.Error(text)
	}
}
