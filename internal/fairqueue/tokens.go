package fairqueue

import (
	"math"
	"time"

	"github.com/sslgate/sslgate/internal/work"
)

// tokens is the content of a bucket, in billionths of an ordinary handshake. They are
// whole numbers, so that a bucket has its token at one exact nanosecond, however often it
// was updated before.
type tokens int64

// token is the price for beginning a handshake.
const token tokens = 1e9

// Bounds that keep sums in range: maxTokens of what is paid at once, maxPerSecond of what
// comes back in a second. Both are far above every configuration and every cost of a
// turn.
const (
	maxTokens    = float64(math.MaxInt64 / 8)
	maxPerSecond = 1e7
)

// tokensOf converts a number of ordinary handshakes to tokens.
func tokensOf(handshakes float64) tokens {
	return tokens(min(max(handshakes*float64(token), -maxTokens), maxTokens))
}

// until is the time until a bucket that gains rate ordinary handshakes a second holds at
// least want; 0 if it does already.
func (t tokens) until(want tokens, rate int) time.Duration {
	if t >= want {
		return 0
	}
	// A token is 1e9 units and a second 1e9 nanoseconds, so the bucket gains rate units a
	// nanosecond.
	return time.Duration((want - t + tokens(rate) - 1) / tokens(rate))
}

// full is the most that a bucket holds: the tokens of a second.
func (q *Queue) full() tokens { return tokens(q.limits.PerSecond) * token }

// tokens updates a bucket to the present time and returns its content.
func (q *Queue) tokens(c *client) tokens {
	now, full := q.now(), q.full()
	if d := now.Sub(c.at); d > 0 {
		if d < c.tokens.until(full, q.limits.PerSecond) {
			c.tokens += tokens(d) * tokens(q.limits.PerSecond)
		} else {
			c.tokens = full
		}
		c.at = now
	}
	c.tokens = min(c.tokens, full)
	return c.tokens
}

// ordinary converts work to a number of ordinary handshakes.
func ordinary(u work.Units) float64 { return float64(u) / float64(work.Ordinary) }
