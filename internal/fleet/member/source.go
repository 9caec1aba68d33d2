package member

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/etcd"
	"github.com/sslgate/sslgate/internal/readfile"
)

// Source is where bundles come from. Nothing of it is trusted.
type Source interface {
	// Newer returns a file that may change, of at most limit bytes, and a tag of it: errors as of Get.
	// The text is nil if it still has the tag last.
	Newer(ctx context.Context, name, last string, limit int64) (text []byte, tag string, err error)
	// Get returns a file of at most limit bytes: fs.ErrNotExist, readfile.ErrTooLarge, or
	// the source does not answer.
	Get(ctx context.Context, name string, limit int64) ([]byte, error)
	// Close ends its connections.
	Close()
}

// Watcher is a Source that says by itself when there may be something new. Without it the source is
// looked at every Options.Poll alone; with it too, for what does not say anything may be dead.
type Watcher interface {
	// Watch calls changed until ctx ends.
	Watch(ctx context.Context, changed func())
}

// parseSource reads a fleet.source. The URL is nil for etcd, which etcd.Open reads itself.
func parseSource(text string) (*url.URL, error) {
	if strings.HasPrefix(text, etcd.Scheme) {
		return nil, etcd.Check(text)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("is no URL")
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path) && u.RawQuery == "" && u.Fragment == "":
		return u, nil
	case u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "":
		return u, nil
	}
	return nil, errors.New("wants file:/DIRECTORY, https://HOST/PATH or etcd://HOST:PORT/PREFIX")
}

// Credentials are what a gateway shows to a source, and whom it believes.
type Credentials struct {
	Certificate func() (tls.Certificate, error) // read when it is asked for, so that a renewed one counts
	Roots       func() (*x509.CertPool, error)  // the same; nil: those of the system
	Mark        dialer.Mark
}

// dial opens connections.
func (c Credentials) dial() func(ctx context.Context, network, address string) (net.Conn, error) {
	d := c.Mark.Dialer()
	d.Timeout = 10 * time.Second
	return d.DialContext
}

// tls is what the next connection is made with.
func (c Credentials) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.Roots != nil {
		var err error
		if config.RootCAs, err = c.Roots(); err != nil {
			return nil, err
		}
	}
	if c.Certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := c.Certificate()
			return &cert, err
		}
	}
	return config, nil
}

// dialTLS opens a connection to a web server.
func (c Credentials) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	config, err := c.tls()
	if err != nil {
		return nil, err
	}
	if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
		return nil, err
	}
	config.NextProtos = []string{"h2", "http/1.1"}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := c.dial()(ctx, network, address)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the error is that of the handshake
		return nil, err
	}
	return secured, nil
}

// OpenEtcd opens an etcd for who writes it.
func OpenEtcd(place string, cred Credentials) (*etcd.Store, error) {
	return etcd.Open(etcd.Options{Place: place, TLS: cred.tls, Dial: cred.dial()})
}

// newSource opens a source.
func newSource(text string, cred Credentials) (Source, error) {
	u, err := parseSource(text)
	if err != nil {
		return nil, err
	}
	if u != nil && u.Scheme == "file" {
		return files{u.Path}, nil
	}
	if u == nil {
		return OpenEtcd(text, cred)
	}
	return &web{base: u, client: &http.Client{
		Transport: &http.Transport{
			DialContext: cred.dial(), DialTLSContext: cred.dialTLS, ForceAttemptHTTP2: true, ResponseHeaderTimeout: 20 * time.Second, IdleConnTimeout: time.Minute,
			DisableCompression: true, MaxConnsPerHost: 4, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("redirected to another place: name that place in fleet.source")
		},
	}}, nil
}

// files are a directory: a Git checkout, or what rsync or scp leave.
type files struct{ dir string }

func (f files) Newer(ctx context.Context, name, last string, limit int64) ([]byte, string, error) {
	at := filepath.Join(f.dir, filepath.FromSlash(name))
	tag, err := fileset.Disk{}.Stamp(at)
	if err != nil || tag == last {
		return nil, tag, err
	}
	read, err := fileset.Disk{}.Read(ctx, at, limit, nil)
	return read.Text, read.Stamp, err
}

func (f files) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	read, err := fileset.Disk{}.Read(ctx, filepath.Join(f.dir, filepath.FromSlash(name)), limit, nil)
	return read.Text, err
}

func (files) Close() {}

// web is a web server or an object store.
type web struct {
	base   *url.URL
	client *http.Client
}

func (w *web) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	text, _, err := w.Newer(ctx, name, "", limit)
	return text, err
}

func (w *web) Close() { w.client.CloseIdleConnections() }

// Newer gets a file unless it still has the ETag last (RFC 9110, section 13.1.2).
func (w *web) Newer(ctx context.Context, name, last string, limit int64) ([]byte, string, error) {
	at := *w.base
	at.Path = path.Join(at.Path, name)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, "", err
	}
	if last != "" {
		req.Header.Set("If-None-Match", last)
	}
	res, err := w.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = res.Body.Close() }() // nothing of it is needed any more
	switch {
	case res.StatusCode == http.StatusNotModified && last != "":
		return nil, last, nil
	case res.StatusCode == http.StatusNotFound:
		return nil, "", fmt.Errorf("%s: %w", at.String(), fs.ErrNotExist)
	case res.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("%s answers with status %d", at.String(), res.StatusCode)
	}
	text, err := readfile.From(ctx, res.Body, limit, nil)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", at.String(), err)
	}
	tag := res.Header.Get("ETag")
	if len(tag) > 256 || strings.ContainsAny(tag, "\r\n") {
		tag = ""
	}
	return text, tag, nil
}

var (
	_ Source  = (*etcd.Store)(nil)
	_ Watcher = (*etcd.Store)(nil)
)
