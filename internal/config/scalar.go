package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Std returns the value as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes the duration as the configuration does.
func (d Duration) String() string { return time.Duration(d).String() }

// String writes the size with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Contains says whether a port is captured.
func (p Ports) Contains(port uint16) bool {
	for _, q := range p.List {
		if q == port {
			return true
		}
	}
	return p.All && port != 0
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

func parseDuration(text string) (Duration, error) {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, fmt.Errorf("a duration needs a unit: write %ss, %sms or %sm", text, text, text)
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s is no duration: write it as 10s, 500ms, 10m or 1h30m", quote(text))
	case d <= 0:
		return 0, fmt.Errorf("a duration must be more than 0, not %s", text)
	}
	return Duration(d), nil
}

func parseSize(text string) (Size, error) {
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit := strings.TrimSpace(text[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is no size: write it as 64KiB, 1MiB or a plain number of bytes", quote(text))
	}
	factor := int64(0)
	if unit == "" || unit == "B" {
		factor = 1
	}
	for _, u := range sizeUnits {
		if unit == u.name {
			factor = u.bytes
		}
	}
	switch {
	case factor == 0:
		return 0, fmt.Errorf("unknown unit %s: write KiB, MiB, GiB or a plain number of bytes", quote(unit))
	case n < 0 || strings.HasPrefix(digits, "-"):
		return 0, fmt.Errorf("a size must not be negative, as %s is", text)
	case n > math.MaxInt64/factor:
		return 0, fmt.Errorf("%s is too large", text)
	}
	return Size(n * factor), nil
}

// integer is a whole number as YAML 1.2.2 writes it (section 10.3.2), without
// the leading zeros that other programs read as octal.
var integer = regexp.MustCompile(`^-?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)$`)

func parseInt(text string) (int64, error) {
	if !integer.MatchString(text) {
		if strings.HasPrefix(text, "0") || strings.Contains(text, "_") {
			return 0, fmt.Errorf("wants a whole number without leading zeros or underscores, not %s", text)
		}
		return 0, fmt.Errorf("wants a whole number, not %s", text)
	}
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is too large", text)
	}
	return n, nil
}

// quote shows a piece of the file in a message, at most 60 bytes of it.
func quote(text string) string {
	if len(text) > 60 {
		return strconv.QuoteToGraphic(strings.ToValidUTF8(text[:60], "")) + "..."
	}
	return strconv.QuoteToGraphic(text)
}
