package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/policy"
)

// Every record has the digest of the revocation lists that were in force,
// also where no certificate was asked about; a list that is exchanged changes
// it, and the policy's digest stays.
func TestRecordHasTheLists(t *testing.T) {
	late := &lateChecker{}
	spec := mtls()
	spec.Rules = append([]policy.RuleSpec{{Name: "closed", To: []string{"203.0.113.99:443"}, Action: "deny"}}, spec.Rules...)
	h := newHouse(t, spec, nil, func(c *Config) { c.Revocation = late })
	bob := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "bob"}))
	n, seen := 0, map[string]bool{}
	for _, list := range []*x509.RevocationList{
		testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour))),
		testpki.Must(h.ca.CRL(2, time.Now().Add(time.Hour), bob.Cert)),
	} {
		late.checks(t, h.ca, revocation.Hard, list)
		want := late.get().Digest()
		if len(want) != 16 || seen[want] {
			t.Fatalf("digest %q", want)
		}
		seen[want] = true
		flows := map[string]func(){
			"let through":    func() { _ = h.try(h.alice()) },
			"no certificate": func() { _ = h.try(nil) },
			"maybe revoked":  func() { _ = h.try(ptr(bob.TLS())) },
			"no hello":       func() { _ = h.dial(server4).Close() },
		}
		for name, flow := range flows {
			flow()
			n++
			r := h.record(n)
			if r.str("crls") != want || r.str("policy") != h.gw.current.Load().set.ID() && name != "no hello" {
				t.Errorf("%s: lists %q, want %q; policy %q", name, r.str("crls"), want, r.str("policy"))
			}
			if name == "maybe revoked" && (r.str("reason") == "certificate_revoked") != (len(seen) == 2) {
				t.Errorf("%s: %s", name, r.str("reason"))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
		if _, err := h.client.Dial(ctx, netip.MustParseAddrPort("203.0.113.99:443")); err == nil {
			t.Error("the denied destination answers")
		}
		cancel()
		n++
		if r := h.record(n); r.str("reason") != "rule_deny" || r.str("crls") != want {
			t.Errorf("refused by address: %v", r)
		}
	}
	late.checks(t, h.ca, revocation.Off)
	_ = h.try(h.alice())
	if r := h.record(n + 1); r["crls"] != nil || r.str("reason") != "verified" {
		t.Errorf("where nothing is checked: %v", r)
	}
}

// A ticket is bound to the lists: after another one is in force the client
// does a full handshake, and where the same is in force again, as in a gateway
// beside this one that shares the ticket keys, it resumes.
func TestTicketsAreBoundToTheLists(t *testing.T) {
	late := &lateChecker{}
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Revocation = late })
	setTickets(h.gw, &Tickets{})
	alice := h.alice()
	one, two := testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour))), testpki.Must(h.ca.CRL(2, time.Now().Add(time.Hour)))
	for _, version := range versions {
		cache := tls.NewLRUClientSessionCache(4)
		for i, step := range []struct {
			list   *x509.RevocationList
			resume bool
		}{{one, false}, {one, true}, {two, false}, {two, true}} {
			// A Checker of its own each time, as after a restart: the epoch is the same.
			late.checks(t, h.ca, revocation.Hard, step.list)
			conn, err := h.tlsClient(server4, alice, func(c *tls.Config) {
				c.ClientSessionCache, c.MinVersion, c.MaxVersion = cache, version, version
			})
			if err != nil {
				t.Fatal(err)
			}
			echo(t, conn)
			if got := conn.ConnectionState().DidResume; got != step.resume {
				t.Errorf("%s, flow %d: resumed %v, want %v", tls.VersionName(version), i, got, step.resume)
			}
			_ = conn.Close()
		}
	}
}

// What an observed rule would refuse of the destination is noted too: its
// authority, its name, its revocation; in both orders, and after what the
// client itself would be refused for.
func TestObserveDestination(t *testing.T) {
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "other"}))
	for _, order := range []string{"verified", "first"} {
		late := &lateChecker{}
		spec := mtls()
		spec.Rules[0].Mode = "observe"
		spec.Rules[0].Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}, Dial: order}
		shown := make(chan tls.Certificate, 1)
		h := newHouse(t, spec, func(c net.Conn) {
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{<-shown}})
			_, _ = io.Copy(s, s)
			_ = s.Close()
		}, func(c *Config) { c.Revocation = late })
		good := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
		revoked := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
		named := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"elsewhere.example"}}))
		foreign := testpki.Must(other.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
		late.checks(t, h.ca, revocation.Hard, testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour), revoked.Cert)))
		n := 0
		for _, c := range []struct {
			name, would, reason string
			dest                *testpki.Cert
			client              *tls.Certificate
		}{
			{"good", "", "verified", good, h.alice()},
			{"revoked", "destination_bad_certificate", "observed", revoked, h.alice()},
			{"another name", "destination_wrong_name", "observed", named, h.alice()},
			{"foreign", "destination_unknown_ca", "observed", foreign, h.alice()},
			{"the client too", map[string]string{"verified": "no_certificate", "first": "destination_unknown_ca"}[order], "observed", foreign, nil},
			{"the client alone", "no_certificate", "observed", good, nil},
		} {
			for _, version := range versions {
				t.Run(order+"/"+c.name+"/"+tls.VersionName(version), func(t *testing.T) {
					n++
					shown <- c.dest.TLS()
					conn, err := h.tlsClient(server4, c.client, only(version))
					if err != nil {
						t.Fatal(err)
					}
					echo(t, conn)
					_ = conn.Close()
					r := h.record(n)
					if r.str("would_reason") != c.would || (r.str("would") == "deny") != (c.would != "") || r.str("reason") != c.reason || r.str("verdict") != "allowed" {
						t.Errorf("would %q %q, reason %s, verdict %s; want %q, %s", r.str("would"), r.str("would_reason"), r.str("reason"), r.str("verdict"), c.would, c.reason)
					}
					if c.would != "" && (r.str("would_rule") != "pay" || r.str("would_alert") == "" && c.would == "no_certificate") {
						t.Errorf("record %v", r)
					}
				})
			}
		}
	}
}

// With `tls: insecure` any destination is accepted. No authority could say anything about its
// revocation, and none is asked.
func TestInsecureDestinationHasNoRevocation(t *testing.T) {
	late := &lateChecker{}
	spec := mtls()
	spec.Rules[0].Destination = policy.DestinationSpec{TLS: "insecure"}
	anybody := testpki.Must(testpki.SelfSigned(testpki.Leaf{DNS: []string{"pay.example"}})).TLS()
	h := newHouse(t, spec, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{anybody}})
		_, _ = io.Copy(s, s)
		_ = s.Close()
	}, func(c *Config) { c.Revocation = late })
	late.checks(t, h.ca, revocation.Hard, testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour))))
	if err := h.try(h.alice()); err != nil {
		t.Error(err)
	}
	if r := h.record(1); r.str("reason") != "verified" {
		t.Errorf("record %v", r)
	}
}
