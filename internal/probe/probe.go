// Package probe tests any server as its SSL client: which versions, CipherSuites and
// groups the server accepts, which certificates it shows and which it requests, whether
// sessions are resumed, how it refuses, and whether all that fits a named profile.
//
// Where to look: probe.go runs the steps, ask.go asks one question for each connection,
// refuse.go asks the wrong ones, hello.go builds the ClientHello of a question, flight.go
// and parse.go read the plaintext answer, complete.go makes whole handshakes, certs.go
// judges certificates, fit.go compares with a profile, text.go prints.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/dialer"
)

// Options say which server to probe and how. Only Address is required.
type Options struct {
	// Address is "host:port".
	Address string
	// ServerName is the SNI and the name that the certificate must be for.
	// Default: the host of Address; an address literal is not sent as SNI.
	ServerName string
	// Certificate is an identity to answer a certificate request with.
	Certificate *tls.Certificate
	// Roots are trusted. Default: those of the system.
	Roots []*x509.Certificate
	// Timeout bounds the whole probe, default a minute. One question gets a tenth of it,
	// at most five seconds.
	Timeout time.Duration
	// Dial makes the connections, default a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Engine makes the handshake that is drawn, and one with each CipherSuite of TLS 1.3
	// where it is able to offer one alone; default the one on crypto/tls.
	Engine handshake.Engine
	// Against is a profile to compare with, nil for none.
	Against *handshake.Profile
}

// Bounds of the questions: how many connections each kind may take.
const (
	maxSuites   = 64 // CipherSuites of TLS 1.2; a usual server accepts 6 to 30
	maxSuites13 = 8  // five, three of them twice
	maxGroups   = 32 // more than are offered
	maxVersions = 4
	maxRest     = 20 // whole handshakes, preferences, refusals
)

// MaxConnections is the most connections that a probe makes, one after the other.
const MaxConnections = maxVersions + maxSuites13 + maxSuites + 2*maxGroups + maxRest

const defaultTimeout = time.Minute

// ErrNoTLS is returned if no question was answered in TLS.
var ErrNoTLS = errors.New("the server does not speak TLS 1.0 to 1.3 here")

// ErrOptions is returned for options that cannot be used.
var ErrOptions = errors.New("cannot probe that")

// prober carries one probe.
type prober struct {
	o       *Options
	name    string // to verify, DNS name or address
	sni     string // "" for an address literal
	perConn time.Duration
	trust   *handshake.Authority
	r       *Result
	seen    map[string]bool // leaf certificates, DER
	all12   []uint16        // suites12, made once
}

// Run probes a server. An error means that nothing could be found out: no connection, no
// TLS, bad options. What ended a probe later is in Result.Incomplete.
func Run(ctx context.Context, o Options) (*Result, error) {
	p, err := newProber(&o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	start := time.Now()
	err = p.walk(ctx)
	p.r.Took = time.Since(start)
	if err != nil {
		if p.r.Connections == 0 || len(p.r.Versions) == 0 {
			return nil, err
		}
		p.r.Incomplete = err.Error()
	}
	if o.Against != nil {
		p.r.Fit = p.r.against(*o.Against, p.judgeShown)
	}
	return p.r, nil
}

func newProber(o *Options) (*prober, error) {
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil || host == "" {
		return nil, fmt.Errorf("%w: %q is not HOST:PORT", ErrOptions, o.Address)
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Dial == nil {
		o.Dial = dialer.Mark(0).Dialer().DialContext // a program like any other
	}
	if o.Engine == nil {
		o.Engine = stdtls.New()
	}
	p := &prober{o: o, name: host, perConn: min(o.Timeout/10, 5*time.Second), seen: map[string]bool{}, all12: suites12()}
	if o.ServerName != "" {
		p.name = o.ServerName
	}
	if net.ParseIP(p.name) == nil {
		p.sni = p.name
	}
	if len(p.sni) > 253 { // RFC 1035, section 2.3.4
		return nil, fmt.Errorf("%w: a server name of %d bytes is no DNS name", ErrOptions, len(p.sni))
	}
	p.trust = &handshake.Authority{Name: "given", Roots: o.Roots}
	if o.Roots == nil {
		roots, err := systemRoots()
		if err != nil {
			return nil, err
		}
		p.trust = &handshake.Authority{Name: "system", Roots: roots}
	}
	p.r = &Result{Address: o.Address, ServerName: p.sni}
	return p, nil
}

// walk asks everything, in this order:
//
//  1. versions; without an answer there is nothing more to ask
//  2. one whole handshake, drawn, with the verdict on the chain
//  3. CipherSuites of TLS 1.3, one by one
//  4. CipherSuites of TLS 1.2, or of the best earlier version, in the server's order
//  5. groups
//  6. the certificate request, the reaction to our identity, resumption
//  7. refusals and their alerts
func (p *prober) walk(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		p.versions, p.drawn, p.suites13, p.suites12, p.groups, p.complete, p.refusals,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}
