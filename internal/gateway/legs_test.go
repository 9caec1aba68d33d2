package gateway

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
)

// echo writes one byte and reads it back.
func echo(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// Clients resume under the rule that gave the ticket; after a reload with
// another policy they do a full handshake, and after one without tickets too.
func TestTickets(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	alice := h.alice()
	cache := tls.NewLRUClientSessionCache(4)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		connect := func(want bool) {
			t.Helper()
			conn, err := h.tlsClient(server4, alice, func(c *tls.Config) {
				c.ClientSessionCache, c.MinVersion, c.MaxVersion = cache, version, version
			})
			if err != nil {
				t.Fatal(err)
			}
			echo(t, conn)
			if got := conn.ConnectionState().DidResume; got != want {
				t.Errorf("%s: resumed %v, want %v", tls.VersionName(version), got, want)
			}
			_ = conn.Close()
		}
		setTickets(h.gw, nil)
		connect(false)
		connect(false) // tickets are off until they are set
		setTickets(h.gw, &Tickets{})
		connect(false)
		connect(true)
		connect(true)
		old := h.gw.current.Load()
		spec := mtls()
		spec.Rules[0].Client.Allow = []policy.AllowSpec{{SANDNS: []string{"alice.example"}}}
		setPolicy(h.gw, h.compile(spec), nil, old.limits)
		connect(false)
		connect(true)
		spec.Rules[0].Client.Allow = []policy.AllowSpec{{SANDNS: []string{"bob.example"}}}
		setPolicy(h.gw, h.compile(spec), nil, old.limits)
		conn, err := h.tlsClient(server4, alice, func(c *tls.Config) {
			c.ClientSessionCache, c.MinVersion, c.MaxVersion = cache, version, version
		})
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("%s: not allowed any more: %v", tls.VersionName(version), err)
		}
		setPolicy(h.gw, old.set, nil, old.limits)
	}
}

// The destination learns who was verified, before everything else.
func TestProxyHeader(t *testing.T) {
	type seen struct {
		h    *proxyproto.Header
		tlvs []proxyproto.TLV
	}
	got := make(chan seen, 1)
	spec := mtls()
	spec.Rules[0].Destination.ProxyProtocol = "v2"
	spec.Rules[0].ALPN = []string{"h2"}
	spec.Rules[0].Client.Certificate = "optional"
	h := newHouse(t, spec, func(c net.Conn) {
		r := bufio.NewReader(c)
		header, err := proxyproto.Read(r)
		if err != nil {
			t.Error(err)
			return
		}
		tlvs, err := header.TLVs()
		if err != nil {
			t.Error(err)
		}
		got <- seen{header, tlvs}
		_, _ = io.Copy(c, r)
	})
	carol := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "carol", URIs: []string{"spiffe://corp/pay"}, DNS: []string{"carol.example"}})).TLS()
	for _, cert := range []*tls.Certificate{&carol, nil} {
		conn, err := h.tlsClient(server4, cert, func(c *tls.Config) { c.NextProtos = []string{"h2"} })
		if err != nil {
			t.Fatal(err)
		}
		echo(t, conn)
		_ = conn.Close()
		s := <-got
		if src, dst, ok := s.h.TCPAddrs(); !ok || !src.IP.Equal(client4.AsSlice()) || dst.String() != server4.String() {
			t.Errorf("addresses %v %v", src, dst)
		}
		var names []string
		for _, tlv := range s.tlvs {
			switch tlv.Type {
			case proxyproto.PP2_TYPE_SSL:
				ssl, err := tlvparse.SSL(tlv)
				if err != nil {
					t.Fatal(err)
				}
				version, _ := ssl.SSLVersion()
				cipher, _ := ssl.SSLCipher()
				cn, _ := ssl.ClientCN()
				if ssl.Verified() != (cert != nil) || ssl.ClientCertConn() != (cert != nil) || !ssl.ClientSSL() || version != "TLSv1.3" ||
					cipher != "TLS_AES_128_GCM_SHA256" || (cn == "carol") != (cert != nil) {
					t.Errorf("%+v %s %s %q", ssl, version, cipher, cn)
				}
			case proxyproto.PP2_TYPE_ALPN, proxyproto.PP2_TYPE_AUTHORITY, tlvSPIFFE, tlvSAN:
				names = append(names, string(tlv.Value))
			}
		}
		want := []string{"h2", "pay.example"}
		if cert != nil {
			want = append(want, "spiffe://corp/pay", "dns:carol.example", "uri:spiffe://corp/pay")
		}
		if !slices.Equal(names, want) {
			t.Errorf("%q, want %q", names, want)
		}
	}
}

// What a certificate says is not passed on if it cannot be printed as it is.
func TestHeaderText(t *testing.T) {
	long := strings.Repeat("a", maxHeaderText+1)
	var all []asn1.RawValue // GeneralName (RFC 5280, section 4.2.1.6)
	for _, name := range []string{"good.example", "bad\n.example", "", long} {
		all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)})
	}
	for range 100 {
		all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte("x@good.example")})
	}
	der, err := asn1.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}}}
	got := nameTLVs(c)
	if len(got) != maxHeaderSANs || len(got) < 2 || string(got[0].Value) != "dns:good.example" || string(got[1].Value) != "email:x@good.example" {
		t.Errorf("%d names, %q", len(got), got)
	}
}

// dial: first. The destination's ALPN answer is the client's, a closed port is
// a RST, and the client must still show what the rule asks for.
func TestDialFirst(t *testing.T) {
	spec := mtls()
	spec.Rules[0].Destination = policy.DestinationSpec{TLS: "insecure", Dial: "first"}
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	origin := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).TLS()
	ended := make(chan error, 8)
	h := newHouse(t, spec, func(c net.Conn) {
		tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{origin}, NextProtos: []string{"http/1.1"}})
		if err := tc.Handshake(); err != nil {
			ended <- err
			return
		}
		_, err := io.Copy(tc, tc)
		ended <- err
	})
	alice := h.alice()
	conn, err := h.tlsClient(server4, alice, func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} })
	if err != nil {
		t.Fatal(err)
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("ALPN %q", p)
	}
	echo(t, conn)
	_ = conn.Close()
	if err := <-ended; err != nil {
		t.Logf("the destination's end: %v", err)
	}
	if r := h.record(1); r.str("reason") != "verified" {
		t.Errorf("record %v", r)
	}
	// No certificate: refused, and the destination's connection ends.
	conn, err = h.tlsClient(server4, nil, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
	select {
	case err := <-ended:
		t.Logf("the destination's end: %v", err)
	case <-time.After(testenv.Patience()):
		t.Error("the destination's connection was left")
	}
	if r := h.record(2); r.str("reason") != "no_certificate" || h.dials.Load() != 2 {
		t.Errorf("record %v, %d dials", r, h.dials.Load())
	}
	h.origin = "127.0.0.1:1" // nobody listens
	if _, err = h.tlsClient(server4, alice, nil); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("a closed port: %v", err)
	}
	if r := h.record(3); r.str("reason") != "destination_refused" {
		t.Errorf("record %v", r)
	}
}

// A certificate is made for the name asked for; with dial: first for those of
// the destination's, once that was verified.
func TestMinted(t *testing.T) {
	for _, order := range []string{"", "first"} {
		spec := mtls()
		spec.Rules[0].Identity = "mint"
		spec.Rules[0].Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}, Dial: order}
		var server atomic.Pointer[tls.Certificate] // issued once the house has its CA
		h := newHouse(t, spec, func(c net.Conn) {
			tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*server.Load()}})
			_, _ = io.Copy(tc, tc)
		})
		cert := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example", "also.example"}})).TLS()
		server.Store(&cert)
		roots := x509.NewCertPool()
		roots.AddCert(h.mint.Cert)
		conn, err := h.tlsClient(server4, h.alice(), func(c *tls.Config) { c.RootCAs = roots })
		if err != nil {
			t.Fatalf("%q: %v", order, err)
		}
		echo(t, conn)
		want := "pay.example"
		if order == "first" {
			want = "also.example pay.example"
		}
		if got := strings.Join(conn.ConnectionState().PeerCertificates[0].DNSNames, " "); got != want {
			t.Errorf("%q: made for %s", order, got)
		}
		_ = conn.Close()
		h.record(1)
		// A name that nobody allowed: unrecognized_name, before anything is made.
		if _, err := h.tlsClient(server4, h.alice(), func(c *tls.Config) { c.RootCAs, c.ServerName = roots, "evil.test" }); err == nil {
			t.Errorf("%q: made for evil.test", order)
		}
		if r := h.record(2); order == "" && r.str("reason") != "sni_unknown" || order == "first" && r.str("reason") != "destination_wrong_name" {
			t.Errorf("%q: record %v", order, r)
		}
	}
}
