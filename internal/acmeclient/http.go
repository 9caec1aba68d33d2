package acmeclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/internal/dialer"
)

// maxAnswer bounds one answer of the CA in bytes: a chain of ten large certificates fits.
const maxAnswer = 1 << 20

// dialFor bounds one connection with the CA.
const dialFor = 10 * time.Second

// newHTTP makes the client that asks the CA with that directory. It takes no proxy from the
// environment, and connects by the host's own sockets, which carry mark, so its traffic is not
// captured.
func newHTTP(mark dialer.Mark, directory string, roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: time.Minute,
		Transport: bounded{&http.Transport{
			DialContext: newPlaces(directory).dialContext(mark), TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second, IdleConnTimeout: time.Minute,
			MaxConnsPerHost: 4, MaxResponseHeaderBytes: 64 << 10,
		}, new(atomic.Int64)},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("redirected to another place: name that place in the configuration")
		},
	}
}

// bounded asks by https alone, ends answers after maxAnswer bytes, and asks no more than
// maxRequests times: the CA says itself where and how soon it is asked again.
type bounded struct {
	*http.Transport
	asked *atomic.Int64
}

// maxRequests bounds one order: of a hundred names, some seconds each.
const maxRequests = 5000

var (
	errNoHTTPS = errors.New("the CA names an address that is not https")
	errTooMany = errors.New("the CA has been asked too often for one order")
)

// RoundTrip is http.RoundTripper.RoundTrip.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, errNoHTTPS
	}
	if b.asked.Add(1) > maxRequests {
		return nil, errTooMany
	}
	res, err := b.Transport.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	}
	return res, err
}
