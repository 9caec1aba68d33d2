package revocation

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/internal/readfile"
)

// Bounds of one responder.
const (
	// maxCached answers: about 400 bytes each, 6 MB.
	maxCached = 16384
	// maxIssuers is how many issuers are kept for asking again: one for each CA below a
	// root.
	maxIssuers = 256
	// maxQuestions is how many questions are asked at once; further flows wait for their
	// turn.
	maxQuestions = 32
	// failedFor is how long a failure is remembered, so that a responder that is down
	// delays one flow by the timeout and not every flow.
	failedFor = 5 * time.Second
)

// errLater is returned while a failure is remembered.
var errLater = errors.New("the responder failed a moment ago")

// errGone means that the flow that asked ended before the answer came.
var errGone = errors.New("the question was given up")

// responder asks one OCSP responder and caches its answers.
type responder struct {
	cfg      OCSP
	client   *http.Client
	counters *counters
	slots    chan struct{}

	renewing atomic.Bool // a renew is under way

	mu      sync.Mutex
	cache   map[[32]byte]*cached
	issuers map[[32]byte]*x509.Certificate
	// downUntil is set by a failure of the responder itself, not by a useless answer
	// about one certificate.
	downUntil time.Time
	failure   error // of the last question; nil: it was answered
}

// cached is one certificate's answer. Guarded by responder.mu.
type cached struct {
	number   serial
	issuer   *x509.Certificate
	status   Status // Unknown: there was no answer yet
	until    time.Time
	renew    time.Time // when to ask anew
	err      error     // of the last question
	errUntil time.Time
	used     bool          // since the last question
	asking   chan struct{} // closed when the question under way is answered; nil: none is under way
}

func newResponder(cfg OCSP, client *http.Client, n *counters) *responder {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultOCSPTimeout
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = DefaultOCSPMaxAge
	}
	return &responder{
		cfg: cfg, client: client, counters: n, slots: make(chan struct{}, maxQuestions),
		cache: map[[32]byte]*cached{}, issuers: map[[32]byte]*x509.Certificate{},
	}
}

func cacheKey(number serial, issuer *x509.Certificate) [32]byte {
	h := sha256.New()
	h.Write(number[:])
	h.Write(issuer.RawSubjectPublicKeyInfo)
	h.Write(issuer.RawSubject)
	return [32]byte(h.Sum(nil))
}

// known is the status in the cache, without asking; a revocation is never stale. The
// entry then counts as used.
func (r *responder) known(number serial, issuer *x509.Certificate) Status {
	key := cacheKey(number, issuer)
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.cache[key]
	if e == nil {
		return Unknown
	}
	e.used = true
	return e.status
}

// ask returns the certificate's status: from the cache while that is young enough, else
// by asking. Two flows never ask about the same certificate at once.
func (r *responder) ask(ctx context.Context, q question, now time.Time) (_ Status, until time.Time, _ error) {
	key := cacheKey(q.number, q.issuer)
	for {
		r.mu.Lock()
		e := r.entryLocked(key, q, now)
		e.used = true
		if st, until, ok, err := e.answer(now, r.downUntil); ok {
			r.mu.Unlock()
			r.counters.askCached.Add(1)
			return st, until, err
		}
		if asking := e.asking; asking != nil {
			r.mu.Unlock()
			waits(ctx, func() {
				select {
				case <-asking:
				case <-ctx.Done():
				}
			})
			select {
			case <-asking:
				// Do not compare the new answer with now, which is the time when this
				// check began: take it as it is.
				r.mu.Lock()
				st, until, err := e.status, e.until, e.err
				r.mu.Unlock()
				if !errors.Is(err, errGone) {
					return st, until, err
				}
				continue // ask ourselves
			case <-ctx.Done():
				return Unknown, time.Time{}, ctx.Err()
			}
		}
		e.asking = make(chan struct{})
		r.mu.Unlock()
		var st Status
		var until time.Time
		var err error
		waits(ctx, func() { st, until, err = r.lead(ctx, e, q, now) })
		return st, until, err
	}
}

// answer is the entry's answer without asking; ok is false if the responder must be
// asked.
func (e *cached) answer(now, downUntil time.Time) (_ Status, until time.Time, ok bool, _ error) {
	switch {
	case e.status == Revoked:
		return Revoked, e.until, true, nil
	case e.status == Good && now.Before(e.renew) && now.Before(e.until):
		return Good, e.until, true, nil
	case now.Before(e.errUntil), now.Before(downUntil):
		if e.status == Good && now.Before(e.until) {
			return Good, e.until, true, nil
		}
		err := e.err
		if err == nil {
			err = errLater
		}
		return Unknown, time.Time{}, true, err
	}
	return Unknown, time.Time{}, false, nil
}

// lastFailure says why the last question got no useful answer; "" if it got one.
func (r *responder) lastFailure() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		return ""
	}
	return r.failure.Error()
}

// lead asks the responder, and wakes the flows that wait for the same answer.
func (r *responder) lead(ctx context.Context, e *cached, q question, now time.Time) (Status, time.Time, error) {
	st, until, err := r.question(ctx, q, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { close(e.asking); e.asking = nil }()
	e.used = false
	if err == nil {
		e.status, e.until, e.renew, e.err = st, until, now.Add(r.cfg.MaxAge), nil
		r.failure = nil
		return st, until, nil
	}
	if ctx.Err() != nil {
		// The flow that asked has ended or run out of time, which says nothing about the
		// responder.
		e.err = errGone
		return Unknown, time.Time{}, err
	}
	e.err, r.failure = err, err
	r.counters.askFailures.Add(1)
	e.errUntil = now.Add(failedFor)
	if !errors.Is(err, ErrOCSP) {
		r.downUntil = now.Add(failedFor)
	}
	if e.status == Good && now.Before(e.until) {
		// The last answer is still good, only older than max_age.
		e.err = nil
		return Good, e.until, nil
	}
	return Unknown, time.Time{}, err
}

// entryLocked finds or makes an entry. If the cache is full, it drops the one of a
// handful of entries that becomes stale first; revocations are kept longest.
func (r *responder) entryLocked(key [32]byte, q question, now time.Time) *cached {
	if e := r.cache[key]; e != nil {
		return e
	}
	if len(r.cache) >= maxCached {
		const handful = 16
		var worst [32]byte
		var when time.Time
		n := 0
		for k, e := range r.cache { // in random order
			if e.asking == nil && (n == 0 || e.status != Revoked && e.until.Before(when)) {
				if worst, when = k, e.until; e.status == Revoked {
					when = now.AddDate(100, 0, 0)
				}
				n++
			}
			if n >= handful {
				break
			}
		}
		delete(r.cache, worst)
	}
	e := &cached{number: q.number, issuer: r.issuerLocked(q.issuer)}
	r.cache[key] = e
	return e
}

// issuerLocked returns one certificate for all entries of a CA, because every flow has a
// copy of its own.
func (r *responder) issuerLocked(c *x509.Certificate) *x509.Certificate {
	key := sha256Sum(c.Raw)
	if same := r.issuers[key]; same != nil {
		return same
	}
	if len(r.issuers) >= maxIssuers {
		clear(r.issuers)
	}
	r.issuers[key] = c
	return c
}

// question asks the responder once. An error that is not ErrOCSP is of the responder or
// the network.
func (r *responder) question(ctx context.Context, q question, now time.Time) (Status, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return Unknown, time.Time{}, fmt.Errorf("%d questions are under way: %w", maxQuestions, ctx.Err())
	}
	r.counters.asked.Add(1)
	if r.cfg.Nonce != NonceOff {
		q.nonce = make([]byte, nonceSize)
		if _, err := rand.Read(q.nonce); err != nil {
			return Unknown, time.Time{}, err
		}
		q.demanded = r.cfg.Nonce == NonceRequired
	}
	body, err := request(q.number, q.issuer, q.nonce)
	if err != nil {
		return Unknown, time.Time{}, useless("%w", err)
	}
	der, err := r.post(ctx, body)
	if err != nil {
		return Unknown, time.Time{}, err
	}
	a, err := parseAnswer(der)
	if err != nil {
		return Unknown, time.Time{}, err
	}
	return a.judge(q, now)
}

func (r *responder) post(ctx context.Context, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return readfile.From(ctx, resp.Body, maxAnswer, nil)
}

// renew asks again for the answers that are used and due, one after the other, and
// forgets those not used since they became stale. It returns the certificates that it
// found to be revoked.
func (r *responder) renew(ctx context.Context, now time.Time, names func(issuer, c *x509.Certificate) bool) (revoked []question) {
	var due []question
	r.mu.Lock()
	for key, e := range r.cache {
		switch {
		case e.asking != nil || e.status == Revoked:
		case e.used && e.status == Good && !now.Before(e.renew) && !now.Before(e.errUntil):
			due = append(due, question{number: e.number, issuer: e.issuer})
		case !e.used && !now.Before(e.until) && !now.Before(e.errUntil):
			delete(r.cache, key)
		}
	}
	r.mu.Unlock()
	for _, q := range due {
		if ctx.Err() != nil {
			break
		}
		q.revoked = func(d *x509.Certificate) bool { return names(q.issuer, d) }
		st, _, err := r.ask(ctx, q, now)
		if st == Revoked {
			revoked = append(revoked, q)
		}
		if errors.Is(err, errLater) {
			break
		}
	}
	return revoked
}
