package revocation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/readfile"
)

// newClient is the HTTP client for lists and answers. It does without proxies of the
// environment (what the gateway trusts must not depend on who started it), compression (a
// small answer could unpack to a large one), cookies and HTTP/2. It connects by the
// host's own sockets, which carry mark, so its traffic is not captured.
func newClient(mark dialer.Mark) *http.Client {
	d := mark.Dialer()
	d.Timeout = 10 * time.Second
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            d.DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  20 * time.Second,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    4,
			MaxConnsPerHost:        maxQuestions,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: sameHost,
	}
}

var errRedirect = errors.New("redirected to another place: name that place in the configuration")

// sameHost lets a GET follow at most three redirects, on the same host, scheme and port.
// A POST, which is a question to a responder, follows none.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Method != http.MethodGet || req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host || len(via) > 3 {
		return errRedirect
	}
	return nil
}

// CheckURL says what is wrong with a configured address; nil if nothing is.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("wants http:// or https://")
	case u.Host == "" || u.Hostname() == "":
		return errors.New("names no host")
	case u.User != nil:
		return errors.New("must not hold a password")
	case u.Fragment != "":
		return errors.New("has a fragment (#), which is never sent")
	}
	return nil
}

// tags make the next fetch conditional (RFC 9110, section 13.1).
type tags struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// errNotModified means status 304: the known list is the newest.
var errNotModified = errors.New("not modified")

// errUnreachable is matched by every unreachable error.
var errUnreachable = errors.New("unreachable")

// unreachable is a failure of the network or of the server that says nothing about the
// lists the server has. Its text is the text of err.
type unreachable struct{ err error }

func (u unreachable) Error() string { return u.err.Error() }

func (u unreachable) Unwrap() []error { return []error{u.err, errUnreachable} }

// fetch gets a URL once, within ctx, Options.FetchTimeout and MaxBytes. It takes the
// bytes from room as they come, and they stay taken.
func (c *Checker) fetch(ctx context.Context, room *memory.Loan, location string, t tags) ([]byte, tags, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.FetchTimeout)
	defer cancel()
	ctx, slow := context.WithCancelCause(ctx)
	defer slow(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, tags{}, err
	}
	if t.ETag != "" {
		req.Header.Set("If-None-Match", t.ETag)
	}
	if t.LastModified != "" {
		req.Header.Set("If-Modified-Since", t.LastModified)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, tags{}, unreachable{err}
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusNotModified && t != tags{}:
		return nil, t, errNotModified
	case resp.StatusCode != http.StatusOK:
		err := fmt.Errorf("HTTP status %d", resp.StatusCode)
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusGone {
			err = unreachable{err}
		}
		return nil, tags{}, err
	}
	if resp.ContentLength > c.o.MaxBytes {
		return nil, tags{}, unread(fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, resp.ContentLength, c.o.MaxBytes))
	}
	body, stop := paced(resp.Body, c.o.pace, slow)
	defer stop()
	data, err := readfile.From(ctx, body, c.o.MaxBytes, room)
	if err == nil {
		err = room.Take(int64(len(data))) // From has given back what it took
	}
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errTooSlow) || errors.Is(cause, memory.ErrNoRoom) {
			err = cause
		}
		return nil, tags{}, unreachable{err}
	}
	return data, tags{ETag: short(resp.Header.Get("ETag")), LastModified: short(resp.Header.Get("Last-Modified"))}, nil
}

// short drops a tag of more than 512 bytes, because tags are kept on disk and sent back.
func short(s string) string {
	if len(s) > 512 {
		return ""
	}
	return s
}
