package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// Scenario is one event on the path, and its required outcome.
type Scenario struct {
	Name  string // short, for --only
	Title string // one line
	Want  Want

	client  client // what most scenarios are: one connection
	special func(context.Context, *env, uint16) (outcome, error)
}

// Want is the required outcome of a scenario.
type Want struct {
	Rule   string // "" is the default
	Reason reason.Code
	// Alert is the best fitting one; the client must see the alert that the record says was
	// sent.
	Alert  handshake.Alert
	Saw    Seen
	Proven Proof
	// NoRecord is set if no flow comes about that could have a record.
	NoRecord bool
	// Text is for the table if the reason alone is not clear, at most 29 bytes.
	Text string
}

// Verdict is the record's word that belongs to the reason.
func (w Want) Verdict() string {
	e, _ := reason.Lookup(w.Reason)
	return e.Kind.String()
}

// Proof says what the record must say of the client's certificate.
type Proof uint8

// The kinds of proof. The zero value does not look.
const (
	AnyProof Proof = iota
	Proven         // shown, and the key was proved
	Claimed        // shown, but never proved
	NotShown       // no certificate at all
)

// String is the word of the report.
func (p Proof) String() string { return [...]string{"any", "proven", "claimed", "not shown"}[p] }

// client describes the connection of a client.
type client struct {
	dest   int
	six    bool
	sni    string
	cert   func(*PKI) (tls.Certificate, error) // nil: the client has none
	origin bool                                // trusts the origin's CA instead of the gateway's
	set    func(*tls.Config)                   // applied last to the configuration
	wrap   func(net.Conn) net.Conn
	raw    []byte // sent instead of TLS
	silent bool   // nothing is sent
}

// attempt is the client's connection from the given local port.
func (c client) attempt(p *PKI, port uint16) (attempt, error) {
	a := attempt{port: port, to: netip.AddrPortFrom(lab.ServerAddr(c.dest, c.six), 443), raw: c.raw, wrap: c.wrap}
	if c.raw != nil || c.silent {
		return a, nil
	}
	a.tls = &tls.Config{ServerName: c.sni, RootCAs: x509.NewCertPool()}
	ca := p.Gateway
	if c.origin {
		ca = p.Origin
	}
	a.tls.RootCAs.AddCert(ca.Cert)
	if c.sni == "" {
		a.tls.InsecureSkipVerify = true // no name to verify: such clients exist
	}
	if c.cert != nil {
		cert, err := c.cert(p)
		if err != nil {
			return a, err
		}
		// Show the certificate whatever CA names the gateway asks for: these tests need clients
		// that send the wrong one.
		a.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	if c.set != nil {
		c.set(a.tls)
	}
	return a, nil
}

// payLeaf is the certificate of a client that may pay.
func payLeaf() testpki.Leaf {
	return testpki.Leaf{CN: "pay client", O: []string{"sslgate demo"}, URIs: []string{payID}}
}

// good is the certificate of a client that may pay.
func good(p *PKI) (tls.Certificate, error) { return issued(p.Staff.Issue(payLeaf())) }

// with returns a certificate made by one of testpki's constructors.
func with(make func(*testpki.CA, testpki.Leaf) (*testpki.Cert, error)) func(*PKI) (tls.Certificate, error) {
	return func(p *PKI) (tls.Certificate, error) { return issued(make(p.Staff, payLeaf())) }
}

func ofOther(p *PKI) (tls.Certificate, error) { return issued(p.Other.Issue(payLeaf())) }

// named returns a valid certificate of the staff CA with another name.
func named(uri string) func(*PKI) (tls.Certificate, error) {
	return func(p *PKI) (tls.Certificate, error) {
		leaf := payLeaf()
		leaf.URIs = []string{uri}
		return issued(p.Staff.Issue(leaf))
	}
}

// stolen is the right certificate with a key that is not its own.
func stolen(p *PKI) (tls.Certificate, error) {
	c, err := p.Staff.Issue(payLeaf())
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := testpki.NewKey(testpki.P256)
	if err != nil {
		return tls.Certificate{}, err
	}
	return testpki.Thief(c, key), nil
}

func issued(c *testpki.Cert, err error) (tls.Certificate, error) {
	if err != nil {
		return tls.Certificate{}, err
	}
	return c.TLS(), nil
}

func only(version uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }
}

// Find returns the scenarios with the given names, all of them for none.
func Find(names []string) ([]Scenario, error) {
	all := Scenarios()
	if len(names) == 0 {
		return all, nil
	}
	var found []Scenario
	for _, n := range names {
		was := len(found)
		for _, s := range all {
			if s.Name == n {
				found = append(found, s)
			}
		}
		if len(found) == was {
			return nil, fmt.Errorf("no scenario %q%s: `sslgate demo --list` lists them", n, suggest(n, all))
		}
	}
	return found, nil
}
