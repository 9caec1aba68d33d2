package acmeclient

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A CA leads nobody to what listens on this host or in its networks, unless its directory is
// there, nor to anything but https, nor anywhere by a redirect.
func TestWhereACALeads(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	get := func(directory, url string) error {
		c := newHTTP(0, directory, pool)
		defer c.CloseIdleConnections()
		res, err := c.Get(url)
		if err == nil {
			_ = res.Body.Close()
		}
		return err
	}
	if err := get("https://ca.example/directory", s.URL); err == nil || !strings.Contains(err.Error(), "of this host: its directory is not there") {
		t.Errorf("from a directory elsewhere to this host: %v", err)
	}
	if err := get(s.URL, "http"+strings.TrimPrefix(s.URL, "https")); !errors.Is(err, errNoHTTPS) {
		t.Errorf("to http: %v", err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
	if err := get(s.URL, s.URL); err != nil {
		t.Errorf("to the directory itself: %v", err)
	}
	for _, c := range []struct{ directory, to, said string }{
		{"203.0.113.5:443", "198.51.100.7:443", ""}, // Let's Encrypt, say
		{"203.0.113.5:443", "10.0.0.1:443", "private"},
		{"203.0.113.5:443", "100.64.0.1:443", "private"},
		{"203.0.113.5:443", "[fd00::1]:443", "private"},
		{"203.0.113.5:443", "[::ffff:192.168.0.1]:443", "private"},
		{"203.0.113.5:443", "169.254.169.254:443", "link-local"},
		{"203.0.113.5:443", "[fe80::1%eth0]:443", "link-local"},
		{"203.0.113.5:443", "[::1]:443", "of this host"},
		{"203.0.113.5:443", "0.0.0.0:443", "of this host"},
		{"203.0.113.5:443", "224.0.0.1:443", "of this host"},
		{"10.0.0.9:443", "10.0.0.1:443", ""},
		{"10.0.0.9:443", "203.0.113.5:443", ""},
		{"10.0.0.9:443", "127.0.0.1:443", "of this host"},
		{"127.0.0.1:14000", "127.0.0.1:15000", ""},
		{"127.0.0.1:14000", "10.0.0.1:443", "private"},
	} {
		p := newPlaces("https://ca.example/directory")
		if err := p.check(true, c.directory); err != nil {
			t.Errorf("the directory at %s: %v", c.directory, err)
		}
		if err := p.check(false, c.to); (err == nil) != (c.said == "") || err != nil && !strings.Contains(err.Error(), c.said) {
			t.Errorf("from a directory at %s to %s: %v", c.directory, c.to, err)
		}
	}
}

// A CA that wants to be left alone, in whichever way it says so, is asked once and not again.
func TestCAThatLimits(t *testing.T) {
	for name, c := range map[string]struct {
		status          int
		after, document string
		limited         bool
		least, most     time.Duration
	}{
		"429":                {http.StatusTooManyRequests, "7200", "", true, 2 * time.Hour, 2 * time.Hour},
		"429 until a date":   {http.StatusTooManyRequests, time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat), "", true, time.Hour, 2 * time.Hour},
		"429 for ever":       {http.StatusTooManyRequests, "99999999999", "", true, MaxRest, MaxRest},
		"429 for no time":    {http.StatusTooManyRequests, "-5", "", true, 0, 0},
		"429 for a while":    {http.StatusTooManyRequests, "soon", "", true, 0, 0},
		"429 without a word": {http.StatusTooManyRequests, "", "", true, 0, 0},
		"503 with a wait":    {http.StatusServiceUnavailable, "600", "", true, 10 * time.Minute, 10 * time.Minute},
		"rateLimited":        {http.StatusForbidden, "", `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}`, true, 0, 0},
		"forbidden":          {http.StatusForbidden, "7200", `{"type":"urn:ietf:params:acme:error:unauthorized"}`, false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.document))
			}))
			defer s.Close()
			pool := x509.NewCertPool()
			pool.AddCert(s.Certificate())
			o := &Order{Directory: s.URL, Roots: pool, Names: []string{"pay.example"}, File: filepath.Join(t.TempDir(), "pay.pem")}
			err := o.Obtain(testenv.Context(t), 0, &Challenges{})
			var limited *RetryAfter
			if is := errors.As(err, &limited); is != c.limited || is && (limited.For < c.least || limited.For > c.most) {
				t.Errorf("%v %+v", err, limited)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("it was asked %d times", n)
			}
		})
	}
}
