// Package times is arithmetic on the times that stand in certificates, revocation
// lists and OCSP answers. Somebody else wrote them: from the year 0 to the end of
// 9999 (RFC 5280, section 4.1.2.5: 99991231235959Z says that there is no end), and
// with an offset, which RFC 5280 forbids and Go's parsers take, some hours beyond
// both. A time.Duration ends after 292 years, Unix time in nanoseconds in 2262, and
// time.Time has no JSON outside of the years 0 to 9999; here nothing overflows and
// everything has a text.
package times

import (
	"fmt"
	"math"
	"time"
)

// Day is 24 hours.
const Day = 24 * time.Hour

// first and last are the bounds of what RFC 3339 can write without the year 0,
// which no calendar of people has; CEL's timestamps have the same.
var (
	first = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	last  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// UTC is t in UTC, at the nearest from 0001-01-01 to 9999-12-31: every form of
// text has room for it.
func UTC(t time.Time) time.Time {
	switch t = t.UTC(); {
	case t.Before(first):
		return first
	case !t.Before(last.Add(time.Second)):
		return last
	}
	return t
}

// Sub is the time from one moment to another. It ends at the bounds of a
// Duration, some 292 years either way: fit to be compared with a bound that is
// below, not to be shown (Text) and not to be divided (Part).
func Sub(to, from time.Time) time.Duration { return to.Sub(from) }

// Seconds from one moment to another, whole ones.
func Seconds(from, to time.Time) int64 { return to.Unix() - from.Unix() }

// Days from one moment to another; negative where the second is the earlier.
func Days(from, to time.Time) float64 { return float64(Seconds(from, to)) / Day.Seconds() }

// WholeDays are Days rounded down: -1 from the first second on that it is past.
func WholeDays(from, to time.Time) int { return int(math.Floor(Days(from, to))) }

// Part is the moment when num of den parts of the time between two moments are
// over.
func Part(from, to time.Time, num, den int64) time.Time {
	if d := to.Sub(from); d != math.MaxInt64 && d != math.MinInt64 {
		return from.Add(d / time.Duration(den) * time.Duration(num))
	}
	// The seconds of all the years that can be written are below 1<<39.
	return time.Unix(from.Unix()+Seconds(from, to)/den*num, 0)
}

// Text is the time from one moment to another as a person reads it, without its
// sign: minutes below two days, days above.
func Text(from, to time.Time) string {
	d := to.Sub(from)
	if d > -2*Day && d < 2*Day {
		return d.Abs().Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int64(math.Abs(Days(from, to))))
}

// Stamp is a moment as a person reads it: "2026-01-02 15:04:05 UTC".
func Stamp(t time.Time) string { return UTC(t).Format(time.DateTime) + " UTC" }

// Date is the day of a moment: "2026-01-02", in UTC.
func Date(t time.Time) string { return UTC(t).Format(time.DateOnly) }

// RFC3339 is a moment as programs read it: "2026-01-02T15:04:05Z".
func RFC3339(t time.Time) string { return UTC(t).Format(time.RFC3339) }
