package gateway

import (
	"bufio"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// forgedHeaders are what a client may write to be somebody else.
func forgedHeaders(t *testing.T) map[string][]byte {
	t.Helper()
	src, dst := netip.MustParseAddrPort("198.51.100.66:6666"), server4
	v2 := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(src), net.TCPAddrFromAddrPort(dst))
	if err := v2.SetTLVs([]proxyproto.TLV{{Type: tlvSPIFFE, Value: []byte("spiffe://corp/admin")}}); err != nil {
		t.Fatal(err)
	}
	raw := testpki.Must(v2.Format())
	local := testpki.Must((&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format())
	return map[string][]byte{
		"v1":         []byte("PROXY TCP4 198.51.100.66 203.0.113.5 6666 443\r\n"),
		"v1 unknown": []byte("PROXY UNKNOWN\r\n"),
		"v2":         raw,
		"v2 local":   local,
		"v2 twice":   append(append([]byte{}, raw...), raw...),
	}
}

// A client's own PROXY header is plain data. After the gateway's header it is not taken for one;
// before a hello it is refused, before anybody is asked.
func TestPROXYHeaderOfAClient(t *testing.T) {
	forged := forgedHeaders(t)
	spec := mtls()
	spec.Rules[0].Destination.ProxyProtocol = "v2"
	type seen struct {
		src  string
		data []byte
	}
	got := make(chan seen, 1)
	size := make(chan int, 1)
	h := newHouse(t, spec, func(c net.Conn) {
		r := bufio.NewReader(c)
		header, err := proxyproto.Read(r)
		if err != nil {
			t.Error(err)
			return
		}
		src, _, _ := header.TCPAddrs()
		data := make([]byte, <-size)
		_, _ = io.ReadFull(r, data)
		got <- seen{src.IP.String(), data}
	})
	n := 0
	for name, bytes := range forged {
		conn, err := h.tlsClient(server4, h.alice(), nil)
		if err != nil {
			t.Fatal(err)
		}
		size <- len(bytes)
		if _, err := conn.Write(bytes); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s.src != client4.String() || string(s.data) != string(bytes) {
			t.Errorf("%s: the destination was told %s, and then got %q", name, s.src, s.data)
		}
		_ = conn.Close()
		n++
		h.record(n)
	}
	before := h.dials.Load()
	for name, bytes := range forged {
		raw := h.dial(server4)
		if _, err := raw.Write(bytes); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, raw)
		_ = raw.Close()
		n++
		if r := h.record(n); r.str("reason") != "not_tls" || h.dials.Load() != before {
			t.Errorf("%s in front of the hello: %v, %d dials", name, r, h.dials.Load()-before)
		}
	}
}

// A part of the header that only the client claims is a host name, or is left out.
func TestPROXYHeaderHasNoOddName(t *testing.T) {
	session := &handshake.Session{State: handshake.State{ServerName: "pay\nexample", Version: 0x304, Suite: 0x1301}}
	for want, hello := range map[string]*handshake.ClientHello{
		"pay.example": {SNIPresent: true, ServerName: "pay.example", SNISent: "PAY.example"},
		"":            {SNIPresent: true, SNIInvalid: true, SNISent: "pay\nexample", ServerName: "pay\nexample"},
	} {
		tlvs, err := headerTLVs(session, hello)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, tlv := range tlvs {
			if tlv.Type == proxyproto.PP2_TYPE_AUTHORITY {
				got = string(tlv.Value)
			}
		}
		if got != want {
			t.Errorf("%q is in the header, want %q", got, want)
		}
	}
}

// The header has the client's names as the policy reads them: no common name if there are
// several, URIs unchanged, no invalid SPIFFE id.
func TestPROXYHeaderNamesArePolicys(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	cns := func(values ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject = pkix.Name{}
			for _, v := range values {
				c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: v})
			}
		}
	}
	for name, tt := range map[string]struct {
		leaf testpki.Leaf
		want string
	}{
		"one":           {testpki.Leaf{Mutate: cns("joe")}, "cn joe"},
		"two":           {testpki.Leaf{Mutate: cns("joe", "admin")}, ""},
		"twice":         {testpki.Leaf{Mutate: cns("joe", "joe")}, ""},
		"none":          {testpki.Leaf{Mutate: cns(), DNS: []string{"a.example"}}, "san dns:a.example"},
		"a NUL":         {testpki.Leaf{Mutate: cns("joe\x00")}, ""},
		"a URI":         {testpki.Leaf{Mutate: cns(), URIs: []string{"https://a.example/%61"}}, "san uri:https://a.example/%61"},
		"a SPIFFE id":   {testpki.Leaf{Mutate: cns(), URIs: []string{"spiffe://corp/pay"}}, "spiffe spiffe://corp/pay|san uri:spiffe://corp/pay"},
		"no SPIFFE id":  {testpki.Leaf{Mutate: cns(), URIs: []string{"spiffe://corp:1/pay"}}, "san uri:spiffe://corp:1/pay"},
		"of two URIs":   {testpki.Leaf{Mutate: cns(), URIs: []string{"spiffe://corp/pay", "urn:a:b"}}, "san uri:spiffe://corp/pay|san uri:urn:a:b"},
		"a query in it": {testpki.Leaf{Mutate: cns(), URIs: []string{"spiffe://corp/pay?x"}}, "san uri:spiffe://corp/pay?x"},
	} {
		leaf := testpki.Must(ca.Issue(tt.leaf)).Cert
		session := &handshake.Session{State: handshake.State{Version: 0x304, Suite: 0x1301}, Peer: &handshake.Peer{
			Shown: []*x509.Certificate{leaf}, Chain: []*x509.Certificate{leaf, ca.Cert}, Proven: true,
		}}
		tlvs, err := headerTLVs(session, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, tlv := range tlvs {
			switch tlv.Type {
			case tlvSPIFFE:
				got = append(got, "spiffe "+string(tlv.Value))
			case tlvSAN:
				got = append(got, "san "+string(tlv.Value))
			case proxyproto.PP2_TYPE_SSL:
				ssl := testpki.Must(tlvparse.SSL(tlv))
				if cn, ok := ssl.ClientCN(); ok {
					got = append(got, "cn "+cn)
				}
			}
		}
		if s := strings.Join(got, "|"); s != tt.want {
			t.Errorf("%s: %q in the header, want %q", name, s, tt.want)
		}
	}
}
