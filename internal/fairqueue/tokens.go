package fairqueue

import (
	"math"
	"time"

	"github.com/sslgate/sslgate/internal/work"
)

// tokens is what lies in a bucket, in billionths of an ordinary handshake: whole
// numbers, so that a bucket has its token at one certain nanosecond, whoever
// looks and however often somebody looked before.
type tokens int64

// token is what a handshake pays to begin.
const token tokens = 1e9

// Bounds that keep sums in range, far above all that is configured or that a turn
// can cost: what is paid at once, and how much comes back in a second.
const (
	maxTokens    = float64(math.MaxInt64 / 8)
	maxPerSecond = 1e7
)

// tokensOf is a number of ordinary handshakes as tokens.
func tokensOf(handshakes float64) tokens {
	return tokens(min(max(handshakes*float64(token), -maxTokens), maxTokens))
}

// until is how long it takes until a bucket that gains rate tokens a second holds
// want, at least. It is 0 if it does.
func (t tokens) until(want tokens, rate int) time.Duration {
	if t >= want {
		return 0
	}
	// A token is a billion, a second is a billion nanoseconds: rate a nanosecond.
	return time.Duration((want - t + tokens(rate) - 1) / tokens(rate))
}

// full is what a bucket holds at most: the tokens of a second.
func (q *Queue) full() tokens { return tokens(q.limits.PerSecond) * token }

// tokens brings a bucket up to date.
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

// ordinary is work as a number of ordinary handshakes.
func ordinary(u work.Units) float64 { return float64(u) / float64(work.Ordinary) }
