package e2e

import (
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// The example of five lines, with no certificate and no key on the host, makes an inventory of
// what clients and servers agree on by themselves, and refuses nobody: neither what is no TLS
// nor a client that its server refuses.
func TestInventoryExample(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	w := newWorld(t, lab.Options{Servers: 1})
	text, err := os.ReadFile("../docs/examples/inventory.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("eth1", lab.LANIface, "/var/log/sslgate-audit.jsonl", "audit.jsonl", "fail: open", "fail: open\nadmin: {socket: off}").Replace(string(text))
	own := testpki.Must(w.ca.Issue(testpki.Leaf{CN: "shop", DNS: []string{"shop.example"}})).TLS()
	w.origin(server(false), func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert})
		serveHTTP(s)
		_ = s.Close()
	})
	other := netip.AddrPortFrom(lab.ServerAddr(1, false), port).String()
	w.origin(other, serveHTTP)
	w.start(w.pem("inventory.yaml", []byte(config)))
	shop := func(through bool, args ...string) {
		t.Helper()
		v := visit{what: "shop", host: "shop.example", to: lab.ServerAddr(0, false), args: args, through: through}
		if got := w.visit(v); got != through {
			t.Errorf("%v: through is %v", args, got)
		}
	}
	shop(true, cert("alice")...)
	w.last(1)
	shop(true, cert("alice", "--tls-max", "1.2")...)
	w.last(2)
	shop(false) // its server refuses it
	w.last(3)
	if out, err := w.client("", "curl", "-sS", "-m", "60", "http://"+other+"/"); err != nil || out != "origin says\n" {
		t.Errorf("what is no TLS: %v %q", err, out)
	}
	for i, r := range w.records(4) {
		if r.str("verdict") != "allowed" || r.str("action") != "bypass" {
			t.Errorf("record %d: %v", i+1, r)
		}
	}
	says := ""
	for _, what := range []string{"crypto", "certificates", "clients"} {
		out, err := w.sslgate("report", what, "audit.jsonl")
		if err != nil {
			t.Errorf("report %s: %v\n%s", what, err, out)
		}
		says += out
	}
	for _, want := range []string{
		`^4 flows from `, `allowed +4  100 %`, `^negotiated by clients and servers themselves \(bypass\), in 3 flows$`, `^  version   TLS 1.3 +2 `, `^            TLS 1.2 +1 `,
		`a client certificate +1 `, `CN=shop$`, `of         a destination, 1 flow, proven in 0`, `CN=alice$`, `of         a client, 1 flow, proven in 0`, `^10\.77\.1\.2 +4 flows`,
	} {
		if !regexp.MustCompile("(?m)" + want).MatchString(says) {
			t.Errorf("%q is not in\n%s", want, says)
		}
	}
}
