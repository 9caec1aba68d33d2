package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// The destinations: indexes of lab.ServerAddr, one a rule.
const (
	destPay       = 1 // a client certificate is required
	destOptional  = 2 // a client certificate is optional
	destOrigin    = 3 // TLS to the destination, verified
	destWrongName = 4 // the same, but the destination's certificate is for another name
	destDown      = 5 // nobody listens
	destBypass    = 6 // relayed without looking inside
	destNoRule    = 7 // no rule at all
	destinations  = 7
)

// The server names of the demo.
const (
	namePay       = "pay.demo.test"
	nameOptional  = "optional.demo.test"
	nameOrigin    = "origin.demo.test"
	nameWrong     = "wrong.demo.test"
	nameDown      = "down.demo.test"
	nameBypass    = "bypass.demo.test"
	nameUnknown   = "unknown.demo.test"
	payID         = "spiffe://demo.test/pay/client"
	otherID       = "spiffe://demo.test/print/client"
	foreignID     = "spiffe://elsewhere.test/pay/client"
	helloDeadline = "5s"
)

// leafLife is how long the certificates of a lab that is left running are valid: a day less
// than their CAs.
const leafLife = 9 * 24 * time.Hour

// PKI is the throw-away certificate authorities of the demo and of the lab.
type PKI struct {
	Gateway *testpki.CA // signs what sslgate shows to clients
	Staff   *testpki.CA // signs the clients' certificates
	Other   *testpki.CA // a CA that no rule trusts
	Origin  *testpki.CA // signs the destinations' certificates
}

// NewPKI makes the authorities.
func NewPKI() (*PKI, error) {
	p := &PKI{}
	for _, c := range []struct {
		ca **testpki.CA
		cn string
	}{{&p.Gateway, "Demo Gateway CA"}, {&p.Staff, "Demo Staff CA"}, {&p.Other, "Some Other CA"}, {&p.Origin, "Demo Origin CA"}} {
		ca, err := testpki.NewCA(testpki.Options{CN: c.cn, Org: "sslgate demo"})
		if err != nil {
			return nil, err
		}
		*c.ca = ca
	}
	return p, nil
}

// Write writes what a gateway needs into dir: the CAs' certificates, the
// identity that it shows, and sslgate.yaml made from text with dir filled in.
func (p *PKI) Write(dir, text string) (configFile string, err error) {
	for name, ca := range map[string]*testpki.CA{"gateway-ca": p.Gateway, "staff-ca": p.Staff, "origin-ca": p.Origin} {
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), ca.PEM(), 0o644); err != nil {
			return "", err
		}
	}
	id, err := p.Gateway.Issue(testpki.Leaf{CN: "sslgate", DNS: []string{"*.demo.test"}, NotAfter: time.Now().Add(leafLife)})
	if err != nil {
		return "", err
	}
	if _, _, err := id.WritePEM(dir, "gateway"); err != nil {
		return "", err
	}
	return fill(dir, "sslgate.yaml", text)
}

// fill writes the configuration dir/name, made from text.
func fill(dir, name, text string) (configFile string, err error) {
	configFile = filepath.Join(dir, name)
	t, err := template.New(name).Funcs(template.FuncMap{
		"to": func(i, port int) string {
			return fmt.Sprintf(`["%s:%d", "[%s]:%d"]`, lab.ServerAddr(i, false), port, lab.ServerAddr(i, true), port)
		},
	}).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, map[string]any{
		"LAN": lab.LANIface, "Deadline": helloDeadline,
		"Pay": destPay, "Optional": destOptional, "Origin": destOrigin, "Wrong": destWrongName,
		"Down": destDown, "Bypass": destBypass, "Shop": destShop,
		"First4": lab.FirstAddr(false), "First6": lab.FirstAddr(true), "NearID": nearID, "NameFar": nameFar,
		"NamePay": namePay, "NameOptional": nameOptional, "NameOrigin": nameOrigin, "NameWrong": nameWrong, "NameDown": nameDown,
	}); err != nil {
		return "", err
	}
	return configFile, os.WriteFile(configFile, []byte(b.String()), 0o600)
}

// demoConfig is the sslgate.yaml of the demo. Paths are relative to the file.
const demoConfig = `version: 1
capture: {interfaces: [{{.LAN}}], ports: [443]}
authorities:
  staff: {roots: staff-ca.pem, permits: {spiffe: [demo.test]}}
  origin: {roots: origin-ca.pem}
identities:
  gateway: {certificate: gateway.pem, key: gateway.key}
policy:
  default: deny
  rules:
    - name: pay
      to: {{to .Pay 443}}
      sni: [{{.NamePay}}]
      identity: gateway
      alpn: []
      client: {certificate: required, authorities: [staff], allow: [{san_uri: ["spiffe://demo.test/pay/*"]}]}
      destination: {tls: plain}
    - name: optional
      to: {{to .Optional 443}}
      sni: [{{.NameOptional}}]
      identity: gateway
      alpn: []
      client: {certificate: optional, authorities: [staff]}
      destination: {tls: plain}
    - name: origin
      to: {{to .Origin 443}}
      sni: [{{.NameOrigin}}]
      identity: gateway
      alpn: []
      client: {certificate: required, authorities: [staff]}
      destination: {tls: verify, authorities: [origin]}
    - name: wrong-name
      to: {{to .Wrong 443}}
      sni: [{{.NameWrong}}]
      identity: gateway
      alpn: []
      client: {certificate: required, authorities: [staff]}
      destination: {tls: verify, authorities: [origin]}
    - name: down
      to: {{to .Down 443}}
      sni: [{{.NameDown}}]
      identity: gateway
      alpn: []
      client: {certificate: required, authorities: [staff]}
      destination: {tls: plain}
    - name: bypass
      to: {{to .Bypass 443}}
      action: bypass
limits: {handshake: {{.Deadline}}, drain: 2s}
audit: {file: audit.jsonl}
log: {level: info, format: json}
`
