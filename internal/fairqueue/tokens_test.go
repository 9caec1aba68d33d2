package fairqueue

import (
	"testing"
	"time"
)

// A bucket has its token at one exact nanosecond, and not before, however often it is
// read meanwhile.
func TestTokenAtOneNanosecond(t *testing.T) {
	for _, perSecond := range []int{1, 3, 7, 250, 999_983, maxPerSecond} {
		for _, debt := range []float64{0.001, 0.3, 1, 4.75, 61} {
			now := time.Unix(1e9, 0)
			q := New(Limits{PerSecond: perSecond}, func() time.Time { return now })
			c := q.client(clientOf(1))
			q.pay(c, float64(perSecond)+debt)
			wait := c.tokens.until(token, perSecond)
			if want := time.Duration((1 + debt) / float64(perSecond) * float64(time.Second)); wait < want-time.Microsecond || wait > want+time.Microsecond {
				t.Errorf("%d a second, a debt of %v: the token comes after %v, want %v", perSecond, debt, wait, want)
			}
			step := max(wait/97, 1)
			for range 96 {
				now = now.Add(step)
				q.tokens(c)
			}
			now = time.Unix(1e9, 0).Add(wait - 1)
			if got := q.tokens(c); got >= token {
				t.Errorf("%d a second, a debt of %v: a nanosecond before its time the bucket has %d", perSecond, debt, got)
			}
			if now = now.Add(1); q.tokens(c) < token {
				t.Errorf("%d a second, a debt of %v: at its time the bucket has %d", perSecond, debt, q.tokens(c))
			}
		}
	}
}

// Sums stay in range whatever is paid, and a bucket is never fuller than full.
func TestTokensStayInRange(t *testing.T) {
	now := time.Unix(1e9, 0)
	q := New(Limits{PerSecond: 1 << 62}, func() time.Time { return now })
	c := q.client(clientOf(1))
	for range 20 {
		q.pay(c, 1e300)
	}
	if c.tokens >= 0 || c.tokens != -tokens(maxTokens) {
		t.Errorf("after more than all was paid the bucket has %d", c.tokens)
	}
	for range 20 {
		q.pay(c, -1e300)
	}
	now = now.Add(200 * 365 * 24 * time.Hour)
	if got := q.tokens(c); got != q.full() {
		t.Errorf("a bucket that got back more than all has %d, want %d", got, q.full())
	}
}
