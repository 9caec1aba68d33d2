package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Programs without TLS, of IPv4 and IPv6: the destination gets TLS with the certificate of
// their network, and a sniffer in front of it sees nothing of what they say, whoever
// answers there. A program that speaks TLS itself, or comes from elsewhere, is refused.
func TestOriginate(t *testing.T) {
	t.Parallel()
	const marker = "a word of the client in the clear"
	w := newWorld(t, lab.Options{})
	testenv.Tool(t, "curl")
	w.issue("pay", testpki.Leaf{CN: "tills", URIs: []string{"spiffe://corp.example/till"}})
	w.issue("stock", testpki.Leaf{CN: "stock", URIs: []string{"spiffe://corp.example/stock"}})
	origin := w.issue("origin", testpki.Leaf{CN: "origin", DNS: []string{"origin.example"}})
	other := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{CN: "other CA"})).Issue(testpki.Leaf{CN: "origin", DNS: []string{"origin.example"}}))
	var stolen atomic.Bool
	came := make(chan string, 10)
	serve := func(greeting string) func(c net.Conn) {
		return func(c net.Conn) {
			cert := origin.TLS()
			if stolen.Load() {
				cert = other.TLS()
			}
			tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: w.ca.Pool()})
			if tc.Handshake() != nil {
				came <- "nobody"
				return
			}
			came <- tc.ConnectionState().PeerCertificates[0].Subject.CommonName
			if greeting == "" {
				serveHTTP(tc)
				return
			}
			_, _ = io.WriteString(tc, greeting)
			_, _ = io.Copy(tc, tc)
			_ = tc.CloseWrite()
		}
	}
	for _, six := range []bool{false, true} {
		w.origin(server(six), serve(""))
		w.origin(netip.AddrPortFrom(lab.ServerAddr(0, six), 8444).String(), serve("220 ready\r\n"))
	}
	w.config(`
    - name: web
      from: [`+lab.ClientAddr(false).String()+`]
      to: ["*:443"]
      action: originate
      destination: {tls: verify, authorities: [staff], identity: pay, name: origin.example}
    - name: web-stock
      from: ["`+lab.ClientAddr(true).String()+`"]
      to: ["*:443"]
      action: originate
      destination: {tls: verify, authorities: [staff], identity: stock, name: origin.example}
    - name: mail
      from: [`+lab.ClientAddr(false).String()+`, "`+lab.ClientAddr(true).String()+`"]
      to: ["*:8443"]
      action: originate
      destination: {tls: verify, authorities: [staff], identity: pay, name: origin.example, to_port: 8444}
`, "")
	w.start(w.rewrite("identities:\n", "identities:\n  stock: {certificate: stock.pem, key: stock.key}\n"))
	plain, err := w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool { return bytes.Contains(p.Raw, []byte(marker)) })
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()

	records := 0
	last := func() record { records++; return w.last(records) }
	for _, six := range []bool{false, true} {
		url := "http://" + server(six) + "/"
		out, err := w.client("", "curl", "-sS", "-g", "-m", "20", "-A", marker, url)
		if r := last(); err != nil || !strings.Contains(out, "origin says") || r.str("reason") != "originated" || r.str("rule") != map[bool]string{false: "web", true: "web-stock"}[six] {
			t.Fatalf("%s: %v %s\n%v", url, err, out, r)
		}
		// Each network has its own certificate.
		if who := testenv.Receive(t, "the destination's client", came); who != map[bool]string{false: "tills", true: "stock"}[six] {
			t.Errorf("the destination was shown %q", who)
		}
		ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
		c, err := w.lab.Dial(ctx, lab.Client, "tcp", strings.Replace(server(six), "443", "8443", 1))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(testenv.Deadline())
		greeting := make([]byte, 11)
		if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "220 ready\r\n" {
			t.Fatalf("the server's first words: %q, %v", greeting, err)
		}
		_, _ = io.WriteString(c, marker)
		_ = c.(*net.TCPConn).CloseWrite()
		if back, err := io.ReadAll(c); err != nil || string(back) != marker {
			t.Errorf("comes back: %q, %v", back, err)
		}
		_ = c.Close()
		if r := last(); r.str("rule") != "mail" || r.str("end") != "closed" || !strings.HasSuffix(r.str("dialed"), ":8444") {
			t.Errorf("the record: %v", r)
		}
		<-came
	}

	out, err := w.client("", "curl", "-sSk", "-m", "20", "-A", marker, "https://"+server(false)+"/")
	if r := last(); err == nil || r.str("reason") != "client_speaks_tls" || !strings.Contains(out, "alert") && !strings.Contains(out, "unexpected message") {
		t.Errorf("a client with TLS: %s\n%v", out, r)
	}
	<-came

	stolen.Store(true)
	out, err = w.client("", "curl", "-sS", "-m", "20", "-A", marker, "http://"+server(false)+"/")
	if r := last(); err == nil || r.str("reason") != "destination_unknown_ca" {
		t.Errorf("another destination: %s\n%v", out, r)
	}
	if who := testenv.Receive(t, "the stranger's end", came); who != "nobody" {
		t.Errorf("a stranger was shown %q", who)
	}
	if n := plain.Count(); n != 0 {
		t.Errorf("%d packets of the client's words in the clear", n)
	}
}
