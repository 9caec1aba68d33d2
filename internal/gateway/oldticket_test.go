package gateway

import (
	"crypto/tls"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/sslgate/sslgate/handshake/native"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/revocation"
)

// A client has a ticket from its old certificate, which an OCSP answer has revoked since, and
// a new certificate, which is good. The ticket is not taken, and the new certificate lets the
// client in: each certificate has an answer of its own.
func TestOldTicketNewCertificate(t *testing.T) {
	for name, engine := range map[string]option{
		"stdtls": func(c *Config) { c.Engine = stdtls.New() },
		"native": func(c *Config) { c.Engine = native.New(stdtls.New()) },
	} {
		for _, version := range versions {
			if name == "native" && version == tls.VersionTLS12 {
				continue // it does not speak that yet
			}
			t.Run(name+"/"+tls.VersionName(version), func(t *testing.T) {
				late := &lateChecker{}
				h := newHouse(t, mtls(), nil, engine, func(c *Config) { c.Revocation = late })
				setTickets(h.gw, &Tickets{})
				late.checks(t, h.ca, revocation.Soft)
				bob := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "bob"}))
				cache := tls.NewLRUClientSessionCache(4)
				comes := func(cert *tls.Certificate) (resumed bool, err error) {
					conn, err := h.tlsClient(server4, cert, func(c *tls.Config) {
						c.ClientSessionCache, c.MinVersion, c.MaxVersion = cache, version, version
					})
					if err != nil {
						return false, err
					}
					defer conn.Close()
					if _, err = conn.Write([]byte("x")); err == nil {
						_, err = conn.Read(make([]byte, 1))
					}
					return conn.ConnectionState().DidResume, err
				}
				old := bob.TLS()
				for i := range 2 {
					if resumed, err := comes(&old); err != nil || resumed != (i == 1) {
						t.Fatalf("the old certificate, flow %d: resumed %v, %v", i, resumed, err)
					}
				}
				if conn, err := h.tlsClient(server4, stapled(t, h.ca, bob, ocsp.Revoked), nil); err == nil { // TLS 1.3 tells it later
					_, err = conn.Read(make([]byte, 1))
					_ = conn.Close()
					if err == nil {
						t.Fatal("a revoked client was let in")
					}
				}
				if resumed, err := comes(h.alice()); err != nil || resumed {
					t.Errorf("the new certificate beside the old ticket: resumed %v, %v", resumed, err)
				}
				h.record(4)
				reasons := map[string]int{}
				for _, r := range h.records.all(t) {
					reasons[r.str("reason")]++
				}
				if reasons["verified"] != 3 || reasons["certificate_revoked"] != 1 {
					t.Errorf("reasons %v", reasons)
				}
			})
		}
	}
}
