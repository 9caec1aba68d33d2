package report

import (
	"fmt"
	"math"
	"testing"

	"github.com/sslgate/sslgate/internal/audit"
)

// Numbers that are missing between those that are there are counted, of each process by itself,
// in whatever order its records come.
func TestMissingRecords(t *testing.T) {
	type one struct {
		id  string
		seq uint64
	}
	for name, c := range map[string]struct {
		records []one
		want    int64
	}{
		"none":                          {nil, 0},
		"all":                           {[]one{{"a-1", 1}, {"a-2", 2}, {"a-9", 3}}, 0},
		"out of order":                  {[]one{{"a-1", 3}, {"a-2", 1}, {"a-9", 2}}, 0},
		"two in the middle":             {[]one{{"a-1", 1}, {"a-2", 4}}, 2},
		"the first files are gone":      {[]one{{"a-1", 101}, {"a-2", 103}}, 1},
		"two processes":                 {[]one{{"a-1", 1}, {"b-1", 1}, {"a-2", 2}, {"b-2", 3}}, 1},
		"twice":                         {[]one{{"a-1", 1}, {"a-1", 1}, {"a-2", 2}}, 0},
		"of a version without numbers":  {[]one{{"a-1", 0}, {"a-5", 0}}, 0},
		"an id that is none":            {[]one{{"a", 1}, {"a", 5}, {"0123456789abcdef0-1", 1}, {"0123456789abcdef0-1", 9}}, 0},
		"a number that nobody wrote":    {[]one{{"a-1", 1}, {"a-2", math.MaxUint64}}, math.MaxInt64},
		"two numbers that nobody wrote": {[]one{{"a-1", 1}, {"a-2", math.MaxUint64}, {"b-1", 1}, {"b-2", math.MaxUint64}}, math.MaxInt64},
	} {
		v := New()
		for _, o := range c.records {
			if err := v.Add(written(t, func(r *audit.Record) { r.ID, r.Seq = o.id, o.seq })); err != nil {
				t.Fatal(err)
			}
		}
		if got := v.Read(nil, &Reader{}).Missing; got != c.want {
			t.Errorf("%s: %d are missing, want %d", name, got, c.want)
		}
	}
	v := New()
	for i := range maxSeries + 3 {
		v.series.add(&record{ID: fmt.Sprintf("%x-1", i), Seq: 1})
	}
	if full := v.Read(nil, &Reader{}).Full; len(full) != 1 || full[0] != "processes" {
		t.Errorf("tables that are full: %q", full)
	}
}
