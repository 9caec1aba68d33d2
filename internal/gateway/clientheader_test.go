package gateway

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/testpki"
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

// A PROXY header of the client's is data like any other: behind the gateway's
// own it is not taken for it, in front of a hello it is refused before anybody
// is asked.
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

// What of the header is the client's own word is a host name or is left out.
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
