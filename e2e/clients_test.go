package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// realClient knows how to make a program of Debian's send one HTTP request.
type realClient struct {
	name string
	// args builds the command line; cert is the base name of the client's
	// certificate, "" for none.
	args  func(version, addr, cert string) []string
	stdin string
}

const request = "GET / HTTP/1.0\r\nHost: pay.example\r\n\r\n"

var realClients = []realClient{
	{
		name: "curl",
		args: func(version, addr, cert string) []string {
			a := []string{"-sS", "--max-time", "10", "--cacert", "ca.pem", "--resolve", "pay.example:443:" + addr}
			if version == "1.2" {
				a = append(a, "--tls-max", "1.2")
			} else {
				a = append(a, "--tlsv1.3")
			}
			if cert != "" {
				a = append(a, "--cert", cert+".pem", "--key", cert+".key")
			}
			return append(a, "https://pay.example/")
		},
	},
	{
		name: "openssl", stdin: request,
		args: func(version, addr, cert string) []string {
			a := []string{"s_client", "-connect", addr + ":443", "-servername", "pay.example", "-CAfile", "ca.pem",
				"-verify_return_error", "-ign_eof", "-tls" + strings.ReplaceAll(version, ".", "_")}
			if cert != "" {
				a = append(a, "-cert", cert+".pem", "-key", cert+".key")
			}
			return a
		},
	},
	{
		name: "gnutls-cli", stdin: request,
		args: func(version, addr, cert string) []string {
			a := []string{"--port", "443", "--sni-hostname", "pay.example", "--verify-hostname", "pay.example",
				"--x509cafile", "ca.pem", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS" + version}
			if cert != "" {
				a = append(a, "--x509certfile", cert+".pem", "--x509keyfile", cert+".key")
			}
			return append(a, strings.Trim(addr, "[]"))
		},
	},
}

// Real clients, in both versions, over IPv4 and IPv6: with a good certificate
// they reach the origin, without or with a bad one they do not, and the record
// says why.
func TestRealClientsMeetThePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	for _, c := range realClients {
		testenv.Tool(t, c.name)
	}
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "other CA"}))
	mallory := testpki.Must(other.Issue(testpki.Leaf{CN: "mallory"}))
	if _, _, err := mallory.WritePEM(w.dir, "mallory"); err != nil {
		t.Fatal(err)
	}
	w.origin(server(false), serveHTTP)
	w.origin(server(true), serveHTTP)
	w.config(payRule, "")
	w.start(w.patient())

	n := 0
	for _, c := range realClients {
		for _, version := range []string{"1.2", "1.3"} {
			for _, six := range []bool{false, true} {
				for cert, reason := range map[string]string{"alice": "verified", "": "no_certificate", "mallory": "unknown_ca"} {
					addr := lab.ServerAddr(0, six).String()
					if six {
						addr = "[" + addr + "]"
					}
					t.Run(fmt.Sprintf("%s/%s/six=%v/%s", c.name, version, six, reason), func(t *testing.T) {
						out, err := w.client(c.stdin, c.name, c.args(version, addr, cert)...)
						n++
						r := w.last(n)
						if got := r.str("reason"); got != reason {
							t.Fatalf("reason %s (%s), want %s; the client said:\n%s", got, r.str("detail"), reason, out)
						}
						reached := strings.Contains(out, "origin says")
						if want := reason == "verified"; reached != want {
							t.Errorf("origin reached: %v (%v), the client said:\n%s", reached, err, out)
						}
						leg, _ := r["client_leg"].(map[string]any)
						switch reason {
						case "verified":
							if leg["version"] != "TLS "+version || r.peer("proven") != true || r.str("end") == "" {
								t.Errorf("record %v", r)
							}
						case "no_certificate":
							want := map[string]string{"1.2": "handshake_failure(40)", "1.3": "certificate_required(116)"}[version]
							if r.str("alert_sent") != want {
								t.Errorf("alert_sent %s, want %s", r.str("alert_sent"), want)
							}
						case "unknown_ca":
							if r.str("alert_wanted") != "unknown_ca(48)" || r.peer("proven") != false {
								t.Errorf("record %v", r)
							}
						}
					})
				}
			}
		}
	}
}
