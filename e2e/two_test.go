package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// The ports of the pair of gateways, each a case of its own.
const (
	twoGood      = 443
	twoNearWrong = 8443 // the first gateway has a stranger's certificate, which it does not even show
	twoNearName  = 8447 // the first gateway is another one of the house
	twoFarWrong  = 8444 // the second one does
	twoFarName   = 8445 // the second one shows another name
	twoAsClient  = 8446 // the first gateway keeps the client's address, the second tells it on
)

// pairConfig writes the configuration NAME.yaml of one of two gateways.
func (w *world) pairConfig(name, identities, rules string) string {
	w.t.Helper()
	text := `version: 1
tun: {name: sslgate0}
capture: {interfaces: [` + lab.LANIface + `], ports: [443, 8443, 8444, 8445, 8446, 8447]}
authorities:
  gateways: {roots: ca.pem, permits: {dns: [.example], spiffe: [corp.example]}}
identities:
` + identities + `
audit: {file: ` + name + `.jsonl}
limits: {handshake: 3s, drain: 3s}
admin: {socket: off}
policy:
  rules:
` + rules
	return w.pem(name+".yaml", []byte(lab.WithEngine(text, testenv.Engine())))
}

// Two gateways on one path, IPv4 and IPv6: client and server speak in the clear, the first
// gateway originates and the second terminates. Nothing passes between them in the clear,
// nothing reaches the server of a client whose gateway is not the one that the second
// knows, nothing leaves the first for a second that is not the one it means, and the
// records of both say why.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	const marker = "a word of the client in the clear"
	w := newWorld(t, lab.Options{Two: true})
	testenv.Tool(t, "curl")
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "other CA"}))
	near, far := testpki.Leaf{CN: "near", URIs: []string{"spiffe://corp.example/near"}}, testpki.Leaf{CN: "far", DNS: []string{"far.example"}}
	w.issue("near", near)
	w.issue("far", far)
	w.issue("near-name", testpki.Leaf{CN: "third", URIs: []string{"spiffe://corp.example/third"}})
	w.issue("far-name", testpki.Leaf{CN: "far", DNS: []string{"elsewhere.example"}})
	for name, leaf := range map[string]testpki.Leaf{"near-stranger": near, "far-stranger": far} {
		if _, _, err := testpki.Must(other.Issue(leaf)).WritePEM(w.dir, name); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		port      int
		name      string
		nearMore  string // of the first gateway's destination
		farID     string
		farMore   string // of the second gateway's rule
		reason    string // of the first gateway's record
		farReason string // of the second's
		ok        bool
	}{
		{twoGood, "good", "identity: near", "far", "", "originated", "verified", true},
		{twoAsClient, "as-client", "identity: near, source: client", "far", "proxy_protocol: v2", "originated", "verified", true},
		{twoNearWrong, "near-wrong", "identity: near-stranger", "far", "", "originated", "no_certificate", false},
		{twoNearName, "near-name", "identity: near-name", "far", "", "originated", "identity_not_allowed", false},
		{twoFarWrong, "far-wrong", "identity: near", "far-stranger", "", "destination_unknown_ca", "client_refused_server", false},
		{twoFarName, "far-name", "identity: near", "far-name", "", "destination_wrong_name", "client_refused_server", false},
	}
	var nearRules, farRules strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&nearRules, "    - {name: %s, from: [10.77.1.0/24, \"fd77:1::/64\"], to: [\"*:%d\"], action: originate, destination: {tls: verify, authorities: [gateways], name: far.example, profile: modern, %s}}\n", c.name, c.port, c.nearMore)
		from := []string{lab.FirstAddr(false).String(), lab.FirstAddr(true).String()}
		if c.port == twoAsClient {
			from = []string{lab.ClientAddr(false).String(), lab.ClientAddr(true).String()}
		}
		more := ""
		if c.farMore != "" {
			more = ", " + c.farMore
		}
		fmt.Fprintf(&farRules, "    - {name: %s, from: [%s, \"%s\"], to: [\"*:%d\"], identity: %s, profile: modern, alpn: [], client: {authorities: [gateways], allow: [{san_uri: [\"spiffe://corp.example/near\"]}]}, destination: {tls: plain%s}}\n",
			c.name, from[0], from[1], c.port, c.farID, more)
	}
	nearConfig := w.pairConfig("near", "  near: {certificate: near.pem, key: near.key}\n  near-stranger: {certificate: near-stranger.pem, key: near-stranger.key}\n  near-name: {certificate: near-name.pem, key: near-name.key}", nearRules.String())
	farConfig := w.pairConfig("far", "  far: {certificate: far.pem, key: far.key}\n  far-stranger: {certificate: far-stranger.pem, key: far-stranger.key}\n  far-name: {certificate: far-name.pem, key: far-name.key}", farRules.String())

	came := make(chan string, 100)
	for _, six := range []bool{false, true} {
		for _, c := range cases {
			w.origin(netip.AddrPortFrom(lab.ServerAddr(0, six), uint16(c.port)).String(), func(raw net.Conn) {
				if c.port == twoAsClient {
					pc := proxyproto.NewConn(raw)
					came <- "for " + pc.RemoteAddr().String() + shownBy(pc.ProxyHeader())
					serveHTTP(pc)
					return
				}
				came <- raw.RemoteAddr().String()
				serveHTTP(raw)
			})
		}
	}
	w.start(nearConfig)
	w.launch(w.commandIn(lab.Gateway2, "run", "-c", farConfig))

	words, err := w.lab.Sniff(lab.Between, "", func(p lab.Packet) bool { return bytes.Contains(p.Raw, []byte(marker)) })
	if err != nil {
		t.Fatal(err)
	}
	defer words.Close()
	// A client's own packets come no further than the first gateway, but where it keeps their address.
	isTCP := lab.TCPTo()
	own, err := w.lab.Sniff(lab.Between, "", func(p lab.Packet) bool {
		from := p.Src.Addr()
		return isTCP(p) && p.Dst.Port() != twoAsClient && p.Src.Port() != twoAsClient && (from == lab.ClientAddr(false) || from == lab.ClientAddr(true))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	reached, err := w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool { return bytes.Contains(p.Raw, []byte(marker)) })
	if err != nil {
		t.Fatal(err)
	}
	defer reached.Close()

	n := 0
	for _, six := range []bool{false, true} {
		for _, c := range cases {
			n++
			url := "http://" + netip.AddrPortFrom(lab.ServerAddr(0, six), uint16(c.port)).String() + "/"
			var before int
			if c.ok {
				before = reached.Count()
			} else { // packets of those before may still be on their way to the sniffer
				before = testenv.Settled(t, "packets with the client's words", reached.Count)
			}
			out, err := w.client("", "curl", "-sS", "-g", "-m", "20", "-A", marker, url)
			if (err == nil && strings.Contains(out, "origin says")) != c.ok {
				t.Errorf("%s %s: %v %s", c.name, url, err, out)
			}
			first, second := w.recordsOf("near.jsonl", n)[n-1], w.recordsOf("far.jsonl", n)[n-1]
			if first.str("rule") != c.name || first.str("reason") != c.reason || second.str("rule") != c.name || second.str("reason") != c.farReason {
				t.Errorf("%s %s:\nfirst %v\nsecond %v", c.name, url, first, second)
			}
			switch {
			case c.ok:
				who := testenv.Receive(t, "the server's client", came)
				want := lab.GatewayAddr(six).String()
				if c.port == twoAsClient {
					want = lab.ClientAddr(six).String()
					if !strings.HasSuffix(who, " near verified") {
						t.Errorf("%s: the server was told %q", c.name, who)
					}
				}
				if !strings.Contains(who, want) {
					t.Errorf("%s: the server saw %q, want %s", c.name, who, want)
				}
				if !strings.HasPrefix(second.str("client"), clientOf(c.port, six)) && !strings.HasPrefix(second.str("client"), "["+clientOf(c.port, six)) {
					t.Errorf("%s: the second gateway saw %s", c.name, second.str("client"))
				}
				if p := second.peer("proven"); p != true {
					t.Errorf("%s: the first gateway's certificate: %v", c.name, second)
				}
				testenv.Eventually(t, c.name+": the sniffer at the server sees the client's words", func() bool { return reached.Count() > before })
			case reached.Count() != before:
				t.Errorf("%s: the client's words reached the server", c.name)
			}
			if alert := map[int]string{twoNearWrong: "certificate_required(116)", twoNearName: "access_denied(49)"}[c.port]; alert != "" &&
				(first.str("end") != "destination_error" || first.str("alert_received") != alert || second.str("alert_sent") != alert) {
				t.Errorf("%s: the first gateway does not say that the second refused it:\nfirst %v\nsecond %v", c.name, first, second)
			}
		}
	}
	if k := words.Count(); k != 0 {
		t.Errorf("%d packets between the gateways have the client's words in the clear", k)
	}
	if k := own.Count(); k != 0 {
		t.Errorf("%d packets of the client came past the first gateway", k)
	}
	select {
	case who := <-came:
		t.Errorf("another connection reached the server: %s", who)
	default:
	}
}

// clientOf is whom the second gateway sees.
func clientOf(port int, six bool) string {
	if port == twoAsClient {
		return lab.ClientAddr(six).String()
	}
	return lab.FirstAddr(six).String()
}

// shownBy is what a header says of the certificate: its common name, and whether it was verified.
func shownBy(h *proxyproto.Header) string {
	if h == nil {
		return " no header"
	}
	tlvs, err := h.TLVs()
	if err != nil {
		return " " + err.Error()
	}
	ssl, ok := tlvparse.FindSSL(tlvs)
	if !ok {
		return " no TLS"
	}
	cn, _ := ssl.ClientCN()
	if ssl.Verified() {
		return " " + cn + " verified"
	}
	return " " + cn
}

// While one of the two gateways is down, however it ended, nothing passes.
func TestTwoGatewaysFailClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Two: true})
	w.issue("near", testpki.Leaf{CN: "near", URIs: []string{"spiffe://corp.example/near"}})
	w.issue("far", testpki.Leaf{CN: "far", DNS: []string{"far.example"}})
	nearConfig := w.pairConfig("near", "  near: {certificate: near.pem, key: near.key}", `
    - {name: good, from: [10.77.1.0/24, "fd77:1::/64"], to: ["*:443"], action: originate, destination: {tls: verify, authorities: [gateways], name: far.example, identity: near}}
`)
	farConfig := w.pairConfig("far", "  far: {certificate: far.pem, key: far.key}", `
    - {name: good, from: ["`+lab.FirstAddr(false).String()+`", "`+lab.FirstAddr(true).String()+`"], to: ["*:443"], identity: far, alpn: [], client: {authorities: [gateways]}, destination: {tls: plain}}
`)
	for _, six := range []bool{false, true} {
		w.origin(server(six), serveHTTP)
	}
	get := func(six bool, patience string) error {
		out, err := w.client("", "curl", "-sS", "-g", "-m", patience, "http://"+server(six)+"/")
		if err == nil && !strings.Contains(out, "origin says") {
			return fmt.Errorf("%s", out)
		}
		return err
	}
	near := w.start(nearConfig)
	far := w.launch(w.commandIn(lab.Gateway2, "run", "-c", farConfig))
	for _, six := range []bool{false, true} {
		if err := get(six, "30"); err != nil {
			t.Fatalf("both up, IPv6 %t: %v", six, err)
		}
	}
	reached, err := w.lab.Sniff(lab.Server, lab.ServerIface, lab.TCPTo(port))
	if err != nil {
		t.Fatal(err)
	}
	defer reached.Close()
	closed := func(which string) {
		t.Helper()
		before := testenv.Settled(t, "packets to the server", reached.Count)
		for _, six := range []bool{false, true} {
			if get(six, "3") == nil {
				t.Errorf("%s is killed: the client has its answer, IPv6 %t", which, six)
			}
		}
		if k := reached.Count() - before; k != 0 {
			t.Errorf("%s is killed: %d packets reached the server", which, k)
		}
	}
	far.stop(syscall.SIGKILL)
	closed("the second")
	w.launch(w.commandIn(lab.Gateway2, "run", "-c", farConfig))
	near.stop(syscall.SIGKILL)
	closed("the first")
}
