package audit

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// Numbers that are missing between those that are there are counted, of each process by itself,
// in whatever order its records come.
func TestMissingNumbers(t *testing.T) {
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
		var s Series
		for _, o := range c.records {
			s.Add(o.id, o.seq, "")
		}
		if got := s.Missing(); got != c.want || s.Full() {
			t.Errorf("%s: %d are missing, want %d", name, got, c.want)
		}
	}
}

// What finds no place is said, and is never taken for what was read before.
func TestSeriesAreBounded(t *testing.T) {
	var s Series
	for i := range maxSeries + 3 {
		if s.Add(fmt.Sprintf("%x-1", i), 1, ""); s.Full() != (i >= maxSeries) {
			t.Fatalf("after %d processes: full is %v", i+1, s.Full())
		}
	}
	s = Series{}
	for i := range uint64(maxPages + 3) {
		if s.Add("a-1", 1+i*onPage, ""); s.Full() != (i >= maxPages) {
			t.Fatalf("after %d pages: full is %v", i+1, s.Full())
		}
	}
	if s.Add("a-1", 1+(maxPages+1)*onPage, "") || s.Again() != 0 {
		t.Error("a record that found no place was read before")
	}
}

// However records are spread over files, in whatever order these are given and however often:
// each counts once, those of two processes with one name are told apart, and what is in none
// is missing.
func TestRecordsReadTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type one struct {
			id, time string
			seq      uint64
		}
		var given []one
		there := map[string]map[uint64]bool{"a": {}, "b": {}}
		for range rapid.IntRange(1, 60).Draw(t, "records") {
			process := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "process")
			seq := rapid.Uint64Range(1, 30).Draw(t, "number") * rapid.SampledFrom([]uint64{1, 1, onPage}).Draw(t, "page")
			given = append(given, one{fmt.Sprintf("%s-%x", process, seq), fmt.Sprint("at ", seq), seq})
			there[process][seq] = true
		}
		var s Series
		once := 0
		for _, o := range given {
			if !s.Add(o.id, o.seq, o.time) {
				once++
			}
		}
		missing := int64(0)
		for _, numbers := range there {
			first, last := uint64(math.MaxUint64), uint64(0)
			for n := range numbers {
				first, last = min(first, n), max(last, n)
			}
			if len(numbers) > 0 {
				missing += int64(last-first+1) - int64(len(numbers))
			}
		}
		if want := len(there["a"]) + len(there["b"]); once != want || s.Again() != int64(len(given)-want) || s.Missing() != missing {
			t.Fatalf("%d count, want %d; %d again; %d missing, want %d", once, want, s.Again(), s.Missing(), missing)
		}
		// Of another process: as a rule it is told apart, and each is taken for one it is not
		// once in 65536.
		taken := 0
		for i := range 64 {
			if s.Add(given[0].id, given[0].seq, fmt.Sprint("another time ", i)) {
				taken++
			}
		}
		if taken > 4 {
			t.Fatalf("%d of 64 other records were taken for one", taken)
		}
	})
}
