package stdtls

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// manyRoots are n trust anchors that nobody has a certificate of, each with a name
// of about size bytes.
func manyRoots(t testing.TB, n, size int) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for i := range n {
		name, err := asn1.Marshal(pkix.Name{CommonName: fmt.Sprintf("Root %05d %s", i, strings.Repeat("x", size-30))}.ToRDNSequence())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &x509.Certificate{Raw: name, RawSubject: name, RawSubjectPublicKeyInfo: []byte{byte(i)}})
	}
	return all
}

// CAs whose names do not fit a CertificateRequest, in the ways that come about:
// clients get in, are asked for any certificate, and the ledger has the figures.
// The list that just fits is sent whole.
func TestNamesOfCAsThatDoNotFit(t *testing.T) {
	f := handshaketest.Fixtures()
	staff := func(roots ...*x509.Certificate) *handshake.Authority {
		return &handshake.Authority{Name: "staff", Roots: append([]*x509.Certificate{f.CA.Root}, roots...)}
	}
	other := func(name string, roots ...*x509.Certificate) *handshake.Authority {
		return &handshake.Authority{Name: name, Roots: roots}
	}
	exact := func(bytes int) *handshake.Authority { // names of so many bytes in all
		a := staff(manyRoots(t, 300, 100)...)
		left := bytes - (&handshake.ServerParams{Params: handshake.Params{Authorities: []*handshake.Authority{a}}}).Announced().Said.Bytes
		for left > 0 {
			n := min(left, 30_000)
			if left-n > 0 && left-n < 100 {
				n -= 100
			}
			name := make([]byte, n-2)
			name[0] = byte(len(a.Roots))
			a.Roots, left = append(a.Roots, &x509.Certificate{Raw: name, RawSubject: name}), left-n
		}
		return a
	}
	var twice []*x509.Certificate // 400 names, each of two keys
	for _, c := range append(manyRoots(t, 400, 120), manyRoots(t, 400, 120)...) {
		twice = append(twice, &x509.Certificate{Raw: append([]byte{byte(len(twice) >> 8), byte(len(twice))}, c.Raw...), RawSubject: c.RawSubject})
	}
	for name, tt := range map[string]struct {
		params func(*handshake.ServerParams)
		names  int // sent; 0 for none
	}{
		"700 roots": {func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{staff(manyRoots(t, 700, 106)...)}
		}, 0},
		"two authorities": {func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{staff(manyRoots(t, 350, 106)...), other("b", manyRoots(t, 700, 105)[350:]...)}
		}, 0},
		"few roots, large names": {func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{staff(manyRoots(t, 20, 3900)...)}
		}, 0},
		"a list of its own": {func(p *handshake.ServerParams) {
			for _, c := range manyRoots(t, 7000, 31) {
				p.AcceptableCAs = append(p.AcceptableCAs, c.RawSubject)
			}
		}, 0},
		"as much as fits": {func(p *handshake.ServerParams) { p.Authorities = []*handshake.Authority{exact(handshake.MaxCANames)} }, 303},
		"one byte more": {func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{exact(handshake.MaxCANames + 1)}
		}, 0},
		"two keys of one name": {func(p *handshake.ServerParams) { p.Authorities = []*handshake.Authority{staff(twice...)} }, 401},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.ServerParams(tt.params)
			said := p.CANames()
			if said.Fit() != (tt.names > 0) || tt.names > 0 && said.Names != tt.names {
				t.Fatalf("%+v", said)
			}
			for _, version := range bothVersions {
				var asked *tls.CertificateRequestInfo
				config := clientConfig(version)
				config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked = r
					c := f.Client.TLS()
					return &c, nil
				}
				o, _, err := withGo(t, p, config)
				if err != nil || o.err != nil {
					t.Fatalf("%s: client %v, server %v", handshake.VersionName(version), err, o.err)
				}
				if asked == nil || len(asked.AcceptableCAs) != tt.names {
					t.Errorf("%s: the client got %d names, want %d", handshake.VersionName(version), len(asked.AcceptableCAs), tt.names)
				}
				if left := strings.Contains(facts(o.l), said.String()+": none is sent"); left != (tt.names == 0) {
					t.Errorf("%s: the ledger tells of names left out: %v", handshake.VersionName(version), left)
				}
				foreign := testpki.Must(f.Other.Issue(testpki.Leaf{}))
				if o, _, _ := withGo(t, p, clientConfig(version, foreign.TLS())); o.err == nil || o.err.Reason != reason.UnknownCA {
					t.Errorf("%s: a foreign certificate: %v", handshake.VersionName(version), o.err)
				}
			}
		})
	}
}

// What cannot be written by crypto/tls is our doing, and the client gets an
// alert. `check` refuses such configurations; this is for what it may miss.
func TestUnsendableIsOurDoing(t *testing.T) {
	f := handshaketest.Fixtures()
	for name, change := range map[string]func(*tls.Certificate){
		"an OCSP staple": func(c *tls.Certificate) { c.OCSPStaple = make([]byte, 1<<16) },
		"SCTs": func(c *tls.Certificate) {
			c.SignedCertificateTimestamps = [][]byte{make([]byte, 40_000), make([]byte, 40_000)}
		},
		"a chain": func(c *tls.Certificate) { c.Certificate = append(c.Certificate, make([]byte, 1<<24)) },
	} {
		p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
			c := f.Gateway.TLS()
			change(&c)
			p.Certificates = []tls.Certificate{c}
		})
		o, _, err := withGo(t, p, clientConfig(tls.VersionTLS13, f.Client.TLS()))
		if o.err == nil || o.err.Reason != reason.Internal || o.err.Side != handshake.SideUs || !strings.Contains(o.err.Detail, "does not fit its format") {
			t.Errorf("%s: %+v", name, o.err)
			continue
		}
		if got := alertSeen(t, err); got != handshake.AlertInternalError || o.l.AlertSent() != handshake.AlertInternalError {
			t.Errorf("%s: the client got %s, the ledger has %s", name, got, o.l.AlertSent())
		}
	}
}
