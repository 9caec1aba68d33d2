package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The kinds of key exchange, from the one that holds against quantum computers to none.
const (
	kindMLKEM = iota
	kind13
	kindOld
	kindNone
	kinds
)

// kindNames are for people, kindClasses for the page.
func kindNames() [kinds]string {
	return [kinds]string{"TLS with ML-KEM", "TLS 1.3 without", "TLS 1.2 and older", "without TLS"}
}

func kindClasses() [kinds]string { return [kinds]string{"pq", "new", "old", "none"} }

// maxHours bounds the hours that are counted: some three years.
const maxHours = 1 << 15

// timeline counts flows by the hour and the kind of key exchange with the client.
type timeline struct {
	hours map[string]*[kinds]int64 // "2026-11-01T08"
	lost  int64
}

func (t *timeline) add(r *record) {
	version, group := "", ""
	switch {
	case r.ClientLeg != nil:
		version, group = r.ClientLeg.Version, r.ClientLeg.Group
	case r.Seen != nil:
		version, group = r.Seen.Version, r.Seen.Group
	}
	if version == "" || len(r.Time) < len("2026-11-01T08") {
		return
	}
	kind := kindOld
	switch {
	case version == plaintext:
		kind = kindNone
	case strings.Contains(group, "MLKEM"):
		kind = kindMLKEM
	case version == "TLS 1.3":
		kind = kind13
	}
	hour := r.Time[:len("2026-11-01T08")]
	h := t.hours[hour]
	if h == nil {
		if len(t.hours) >= maxHours {
			t.lost++
			return
		}
		if t.hours == nil {
			t.hours = map[string]*[kinds]int64{}
		}
		h = new([kinds]int64)
		t.hours[strings.Clone(hour)] = h
	}
	h[kind]++
}

// timePlot is the plot of a timeline: bars of parts, in a height of 120.
type timePlot struct {
	Width      int
	Unit       string
	From, To   string
	Most       int64
	Bars       []timeBar
	Legend     []timePart
	unitLength int
}

type timeBar struct {
	X     int
	Parts []timePart
}

type timePart struct {
	Class, Title string
	Y, W, H      float64
	N            int64
}

// mostBars is how many bars can be told apart; more hours become days, more days months.
const mostBars = 240

func (t *timeline) plot() timePlot {
	p := timePlot{Unit: "hour", unitLength: len("2026-11-01T08")}
	sums := t.sums(p.unitLength)
	for _, u := range []struct {
		name   string
		length int
	}{{"day", len("2026-11-01")}, {"month", len("2026-11")}} {
		if len(sums) > mostBars {
			p.Unit, p.unitLength = u.name, u.length
			sums = t.sums(u.length)
		}
	}
	keys := slices.Sorted(maps.Keys(sums))
	keys = keys[max(0, len(keys)-mostBars):]
	if len(keys) == 0 {
		return p
	}
	var all [kinds]int64
	for _, k := range keys {
		sum := int64(0)
		for i, n := range sums[k] {
			sum += n
			all[i] += n
		}
		p.Most = max(p.Most, sum)
	}
	p.From, p.To, p.Width = words(keys[0]), words(keys[len(keys)-1]), 10*len(keys)
	names, classes := kindNames(), kindClasses()
	for i, k := range keys {
		bar := timeBar{X: 10 * i}
		y := 125.0
		for j, n := range sums[k] {
			if n == 0 {
				continue
			}
			h := 120 * float64(n) / float64(p.Most)
			y -= h
			bar.Parts = append(bar.Parts, timePart{Class: classes[j], Title: fmt.Sprintf("%s: %s, %d", words(k), names[j], n), Y: y, W: 9, H: h})
		}
		p.Bars = append(p.Bars, bar)
	}
	for i, n := range all {
		p.Legend = append(p.Legend, timePart{Class: classes[i], Title: names[i], N: n})
	}
	return p
}

// sums adds up the hours whose names begin alike.
func (t *timeline) sums(length int) map[string]*[kinds]int64 {
	out := map[string]*[kinds]int64{}
	for hour, h := range t.hours {
		s := out[hour[:length]]
		if s == nil {
			s = new([kinds]int64)
			out[hour[:length]] = s
		}
		for i, n := range h {
			s[i] += n
		}
	}
	return out
}

// words is a time for people.
func words(key string) string {
	if day, hour, ok := strings.Cut(key, "T"); ok {
		return day + " " + hour + ":00"
	}
	return key
}
