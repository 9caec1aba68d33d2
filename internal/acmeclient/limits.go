package acmeclient

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
)

// RetryAfter is an error of a CA that wants to be left alone for a while.
type RetryAfter struct {
	error
	For time.Duration // 0: it does not say how long
}

// Unwrap is what the CA says.
func (e *RetryAfter) Unwrap() error { return e.error }

// rateLimited ends the type of the problem (RFC 8555, section 6.7).
const rateLimited = ":ratelimited"

// limits says whether an error is of a CA that wants to be left alone, and for how long: 0 where it
// does not say. It says so by a problem document, by status 429 (RFC 6585, section 4), or by 503
// with a Retry-After (RFC 9110, section 10.2.3).
func limits(err error, now time.Time) (wait time.Duration, ok bool) {
	var refused *acme.Error
	if !errors.As(err, &refused) {
		return 0, false
	}
	wait = retryAfter(refused.Header, now)
	switch {
	case strings.HasSuffix(strings.ToLower(refused.ProblemType), rateLimited), refused.StatusCode == http.StatusTooManyRequests:
		return wait, true
	case refused.StatusCode == http.StatusServiceUnavailable && wait > 0:
		return wait, true
	}
	return 0, false
}

// retryAfter is the wait of a Retry-After, in seconds or until a date; 0 where there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		return time.Duration(min(max(n, 0), int64(MaxRest/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(t.Sub(now), 0), MaxRest)
	}
	return 0
}

// backoff is how long to wait before a request is repeated for the nth time; 0: no more. A nonce
// that was refused is exchanged for another one at once (RFC 8555, section 6.5). One that wants
// to be left alone is not asked again for this order.
func backoff(n int, _ *http.Request, res *http.Response) time.Duration {
	switch {
	case n > retries:
		return 0
	case res == nil:
	case res.StatusCode == http.StatusBadRequest:
		return time.Millisecond
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "":
		return 0
	}
	return time.Duration(n) * time.Second
}
