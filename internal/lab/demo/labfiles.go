package demo

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// LabServers is how many further server addresses the lab of `lab up` has:
// those of the demo.
const LabServers = destinations

// WriteLab writes the certificates and the configuration of `lab up` into dir,
// which it makes; with two those of `lab up --two`.
func WriteLab(dir string, two bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	p, err := NewPKI()
	if err != nil {
		return err
	}
	if two {
		return writeTwoLab(dir, p)
	}
	if _, err := p.Write(dir, labConfig); err != nil {
		return err
	}
	pay := payLeaf()
	pay.NotAfter = time.Now().Add(leafLife)
	for name, c := range map[string]func() (*testpki.Cert, error){
		"client":   func() (*testpki.Cert, error) { return p.Staff.Issue(pay) },
		"stranger": func() (*testpki.Cert, error) { return p.Other.Issue(pay) },
		"expired":  func() (*testpki.Cert, error) { return p.Staff.Expired(payLeaf()) },
		"origin": func() (*testpki.Cert, error) {
			return p.Origin.Issue(testpki.Leaf{CN: nameOrigin, DNS: []string{nameOrigin, nameBypass}, NotAfter: pay.NotAfter})
		},
	} {
		cert, err := c()
		if err != nil {
			return err
		}
		if _, _, err := cert.WritePEM(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// ServeLab runs the destinations of the lab's configuration until ctx ends.
func ServeLab(ctx context.Context, l *lab.Lab, dir string, w io.Writer) error {
	if l.Two() {
		return serveTwo(ctx, l, w)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "origin.pem"), filepath.Join(dir, "origin.key"))
	if err != nil {
		return fmt.Errorf("%w (is --dir the one of `lab up`?)", err)
	}
	names := map[int]string{destPay: namePay, destOptional: nameOptional, destOrigin: nameOrigin, destBypass: nameBypass}
	o, err := startOrigins(l, 443, names, map[int]*tls.Certificate{destOrigin: &pair, destBypass: &pair})
	if err != nil {
		return err
	}
	defer o.Close()
	for i := range destinations + 1 {
		if name := names[i]; name != "" {
			kind := "plain"
			if i == destOrigin || i == destBypass {
				kind = "TLS"
			}
			if _, err := fmt.Fprintf(w, "%-20s %s and [%s], port 443, %s\n", name, lab.ServerAddr(i, false), lab.ServerAddr(i, true), kind); err != nil {
				return err
			}
		}
	}
	<-ctx.Done()
	return nil
}

// serveTwo runs the server of the lab with two gateways until ctx ends.
func serveTwo(ctx context.Context, l *lab.Lab, w io.Writer) error {
	o, err := startOrigins(l, shopPort, map[int]string{destShop: nameShop}, nil)
	if err != nil {
		return err
	}
	defer o.Close()
	if _, err := fmt.Fprintf(w, "%-20s %s and [%s], port %d, plain\n", nameShop, lab.ServerAddr(destShop, false), lab.ServerAddr(destShop, true), shopPort); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// TwoLabHelp says what to type after `lab up --two`. cmd is how sslgate is called.
func TwoLabHelp(cmd, dir string) string {
	return fmt.Sprintf(`The lab is up: client %[3]s - gateway - between - gateway2 - server %[4]s.
Certificates, near.yaml and far.yaml are in %[2]s.

The server, in a terminal of its own:
  sudo %[1]s lab serve --dir %[2]s
The two gateways, each in one:
  sudo %[1]s lab exec gateway %[1]s run -c %[2]s/near.yaml
  sudo %[1]s lab exec gateway2 %[1]s run -c %[2]s/far.yaml
A client without TLS:
  sudo %[1]s lab exec client curl http://%[5]s/
What passes between the gateways:
  sudo %[1]s lab exec between tcpdump -nAi near0 tcp port 80
What was decided, and why:
  sudo tail -n 1 %[2]s/near.jsonl %[2]s/far.jsonl
When you are done:
  sudo %[1]s lab down
`, cmd, dir, lab.ClientAddr(false), lab.ServerAddr(0, false), lab.ServerAddr(destShop, false))
}

// LabHelp says what to type after `lab up`. cmd is how sslgate is called.
func LabHelp(cmd, dir string) string {
	pay := lab.ServerAddr(destPay, false)
	return fmt.Sprintf(`The lab is up: client %[3]s - gateway - server %[4]s.
Certificates and sslgate.yaml are in %[2]s.

Destinations, in a terminal of their own:
  sudo %[1]s lab serve --dir %[2]s
The gateway, in a second one (change sslgate.yaml and start it again):
  sudo %[1]s lab exec gateway %[1]s run -c %[2]s/sslgate.yaml
A client with a certificate, one without, one with the wrong one:
  sudo %[1]s lab exec client curl --resolve %[5]s:443:%[6]s --cacert %[2]s/gateway-ca.pem --cert %[2]s/client.pem --key %[2]s/client.key https://%[5]s/
  sudo %[1]s lab exec client curl --resolve %[5]s:443:%[6]s --cacert %[2]s/gateway-ca.pem https://%[5]s/
  sudo %[1]s lab exec client curl --resolve %[5]s:443:%[6]s --cacert %[2]s/gateway-ca.pem --cert %[2]s/stranger.pem --key %[2]s/stranger.key https://%[5]s/
What was decided, and why:
  sudo tail -n 1 %[2]s/audit.jsonl
When you are done:
  sudo %[1]s lab down
`, cmd, dir, lab.ClientAddr(false), lab.ServerAddr(0, false), namePay, pay)
}

// labConfig is the sslgate.yaml of `lab up`. Paths are relative to the file.
const labConfig = `# A configuration to start from, for the lab. "sslgate check -c FILE" says
# what is wrong with it; docs/config.md lists every field.
version: 1

# What comes in from the client's side for these TCP ports is taken.
capture:
  interfaces: [{{.LAN}}]
  ports: [443]

# The certificate authorities that the rules name.
authorities:
  staff:
    roots: staff-ca.pem
    permits: {spiffe: [demo.test]}     # the only names this CA may speak for
  origin:
    roots: origin-ca.pem

# What sslgate shows to clients.
identities:
  gateway: {certificate: gateway.pem, key: gateway.key}

# The first rule whose to, from, sni and alpn_offered fit decides; none fits: deny.
policy:
  default: deny
  rules:
    - name: pay
      to: {{to .Pay 443}}
      sni: [{{.NamePay}}]
      identity: gateway
      alpn: []                         # HTTP/1.1 needs no answer; HTTP/2 and gRPC do: [h2, http/1.1]
      profile: intermediate
      client:
        certificate: required
        authorities: [staff]
        allow:
          - {san_uri: ["spiffe://demo.test/pay/*"]}
      destination: {tls: plain}

    - name: optional
      to: {{to .Optional 443}}
      sni: [{{.NameOptional}}]
      identity: gateway
      alpn: []
      client: {certificate: optional, authorities: [staff]}
      destination: {tls: plain}

    - name: origin                     # TLS to the destination too
      to: {{to .Origin 443}}
      sni: [{{.NameOrigin}}]
      identity: gateway
      alpn: []
      client: {certificate: required, authorities: [staff]}
      destination: {tls: verify, authorities: [origin]}

    - name: bypass                     # relayed without looking inside
      to: {{to .Bypass 443}}
      action: bypass

audit: {file: audit.jsonl}
`
