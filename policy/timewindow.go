package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// window is a compiled time selector: days of the week and a stretch of the
// day, on the clock of a zone.
type window struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes since midnight; to is not part of it. from > to goes past midnight
	zone     *time.Location
	text     string // as a person reads it
}

const dayMinutes = 24 * 60

// contains says whether a moment lies in the window. What goes past midnight
// belongs to the day it began on. It is the wall clock of the zone that counts,
// so an hour that a change of the clock leaves out is never met, and one that
// it repeats is met twice. It does not allocate.
func (w *window) contains(now time.Time) bool {
	if now.IsZero() {
		return false
	}
	local := now.In(w.zone)
	minute := local.Hour()*60 + local.Minute()
	day := local.Weekday()
	if w.from < w.to {
		return w.days[day] && minute >= w.from && minute < w.to
	}
	return minute >= w.from && w.days[day] || minute < w.to && w.days[(day+6)%7]
}

// covers says whether what lies in o lies in w. It answers no where it is not
// plain to see.
func (w *window) covers(o *window) bool {
	switch {
	case w == nil:
		return true
	case o == nil || w.zone.String() != o.zone.String() || w.from >= w.to || o.from >= o.to:
		return o != nil && w.text == o.text
	}
	for d := range w.days {
		if o.days[d] && !w.days[d] {
			return false
		}
	}
	return w.from <= o.from && o.to <= w.to
}

// within says whether all of w lies in o: the other way round of covers.
func (w *window) within(o *window) bool { return w != nil && o.covers(w) }

// meets says whether some moment can lie in both. It answers yes where that is not
// plain to see.
func (w *window) meets(o *window) bool {
	switch {
	case w == nil || o == nil || w.zone.String() != o.zone.String() || w.from >= w.to || o.from >= o.to:
		return true
	case w.to <= o.from || o.to <= w.from:
		return false
	}
	for d := range w.days {
		if w.days[d] && o.days[d] {
			return true
		}
	}
	return false
}

// String is the window as it was written, with its defaults.
func (w *window) String() string {
	if w == nil {
		return ""
	}
	return w.text
}

// timeWindow compiles a time selector; nil is any time.
func (c *compiler) timeWindow(at scope, spec *TimeSpec) *window {
	if spec == nil {
		return nil
	}
	at = at.in("time")
	w := &window{to: dayMinutes, zone: time.UTC}
	if spec.Days == nil && spec.From == "" && spec.To == "" {
		at.errorf("", `this says no time: name "days", or "from" and "to"`)
		return w
	}
	w.readDays(at, spec.Days)
	if (spec.From == "") != (spec.To == "") {
		at.errorf("", `"from" and "to" belong together: write both, or neither for the whole day`)
	}
	var err error
	if spec.From != "" {
		if w.from, err = parseClock(spec.From); err != nil {
			at.errorf("from", "%q: %v", spec.From, err)
		} else if w.from == dayMinutes {
			at.errorf("from", "the day's first minute is 00:00")
		}
	}
	if spec.To != "" {
		if w.to, err = parseClock(spec.To); err != nil {
			at.errorf("to", "%q: %v", spec.To, err)
		} else if w.to == w.from {
			at.errorf("to", `the window ends when it begins; leave "from" and "to" out for the whole day`)
		}
	}
	if spec.Zone != "" {
		c.zone(at, w, spec.Zone)
	}
	days := "every day"
	if spec.Days != nil {
		days = strings.Join(spec.Days, ", ")
	}
	w.text = fmt.Sprintf("%s %02d:%02d-%02d:%02d %s", days, w.from/60, w.from%60, w.to/60, w.to%60, w.zone)
	return w
}

func (c *compiler) zone(at scope, w *window, name string) {
	if name == "UTC" {
		return
	}
	if c.env.Zone == nil {
		at.errorf("zone", "no time zone but UTC is known here")
		return
	}
	zone, err := c.env.Zone(name)
	if err != nil || zone == nil {
		at.errorf("zone", `%q is no time zone of the IANA database, such as "Europe/Berlin"`, name)
		return
	}
	w.zone = zone
}

func (w *window) readDays(at scope, days []string) {
	if days == nil {
		for d := range w.days {
			w.days[d] = true
		}
		return
	}
	if len(days) == 0 {
		at.errorf("days", "the list is empty; it needs at least one entry")
	}
	for i, s := range days {
		first, last, err := parseDays(s)
		if err != nil {
			at.errorf(fmt.Sprintf("days[%d]", i), "%q: %v", s, err)
			continue
		}
		for d := first; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == last {
				break
			}
		}
	}
}

// parseDays reads "mon" or "mon-fri"; "sat-mon" goes past the week's end.
func parseDays(s string) (first, last int, err error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	names := []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	first, last = -1, -1
	for i, name := range names {
		if from == name {
			first = i
		}
		if to == name {
			last = i
		}
	}
	if first < 0 || last < 0 {
		return 0, 0, errors.New(`a day is mon, tue, wed, thu, fri, sat or sun, or a range such as "mon-fri"`)
	}
	return first, last, nil
}

// parseClock reads "08:00"; "24:00" is the day's end.
func parseClock(s string) (int, error) {
	bad := errors.New(`a time of the day is written "08:00", from 00:00 to 24:00`)
	if len(s) != 5 || s[2] != ':' {
		return 0, bad
	}
	var n [2]int
	for i, part := range []string{s[:2], s[3:]} {
		for _, c := range []byte(part) {
			if c < '0' || c > '9' {
				return 0, bad
			}
			n[i] = n[i]*10 + int(c-'0')
		}
	}
	if minutes := n[0]*60 + n[1]; n[1] < 60 && minutes <= dayMinutes {
		return minutes, nil
	}
	return 0, bad
}
