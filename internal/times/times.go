// Package times calculates with the times in certificates, revocation lists and OCSP
// answers. Others wrote them: from the year 0 to the end of 9999 (RFC 5280, section
// 4.1.2.5: 99991231235959Z means that there is no end), and some hours beyond with an
// offset, which RFC 5280 forbids and Go's parsers accept. A time.Duration ends after 292
// years, Unix time in nanoseconds in 2262, and time.Time has no JSON outside of the years
// 0 to 9999. In this package nothing overflows, and every time has a text.
package times

import (
	"fmt"
	"math"
	"time"
)

// Day is 24 hours.
const Day = 24 * time.Hour

// first and last bound the times that RFC 3339 can write, without the year 0, which
// people's calendars do not have. CEL's timestamps have the same bounds.
var (
	first = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	last  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// UTC is t in UTC, limited to 0001-01-01 to 9999-12-31, so that every form of text can
// show it.
func UTC(t time.Time) time.Time {
	switch t = t.UTC(); {
	case t.Before(first):
		return first
	case !t.Before(last.Add(time.Second)):
		return last
	}
	return t
}

// Sub is the time from one moment to another, limited to the bounds of a Duration, some
// 292 years either way. Compare it with bounds below that; to show a time use Text, to
// divide one use Part.
func Sub(to, from time.Time) time.Duration { return to.Sub(from) }

// Seconds is the number of whole seconds from one moment to another.
func Seconds(from, to time.Time) int64 { return to.Unix() - from.Unix() }

// Days is the number of days from one moment to another; negative if the second is
// earlier.
func Days(from, to time.Time) float64 { return float64(Seconds(from, to)) / Day.Seconds() }

// WholeDays is Days rounded down: -1 from the first second after the moment has passed.
func WholeDays(from, to time.Time) int { return int(math.Floor(Days(from, to))) }

// Part is the moment when num/den of the time between two moments have passed.
func Part(from, to time.Time, num, den int64) time.Time {
	if d := to.Sub(from); d != math.MaxInt64 && d != math.MinInt64 {
		return from.Add(d / time.Duration(den) * time.Duration(num))
	}
	// The seconds of all years that can be written are below 1<<39, so this does not
	// overflow.
	return time.Unix(from.Unix()+Seconds(from, to)/den*num, 0)
}

// Text is the time from one moment to another for people, without its sign: minutes below
// two days, days above.
func Text(from, to time.Time) string {
	d := to.Sub(from)
	if d > -2*Day && d < 2*Day {
		return d.Abs().Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int64(math.Abs(Days(from, to))))
}

// Stamp is a moment for people: "2026-01-02 15:04:05 UTC".
func Stamp(t time.Time) string { return UTC(t).Format(time.DateTime) + " UTC" }

// Date is the day of a moment in UTC: "2026-01-02".
func Date(t time.Time) string { return UTC(t).Format(time.DateOnly) }

// RFC3339 is a moment for programs: "2026-01-02T15:04:05Z".
func RFC3339(t time.Time) string { return UTC(t).Format(time.RFC3339) }
