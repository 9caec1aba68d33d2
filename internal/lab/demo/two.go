package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Two gateways on one path: client and server speak in the clear, and between the gateways
// there is mutual TLS. The first originates, the second terminates.

const (
	destShop = destPay // the server's address, port 80
	nameShop = "shop.demo.test"
	nameFar  = "far.demo.test" // what the second gateway shows
	nearID   = "spiffe://demo.test/gateway/near"
	shopPort = 80
)

// farLeaf and nearLeaf are the certificates of the two gateways.
func farLeaf() testpki.Leaf {
	return testpki.Leaf{CN: "far gateway", O: []string{"sslgate demo"}, DNS: []string{nameFar}, NotAfter: time.Now().Add(leafLife)}
}

func nearLeaf() testpki.Leaf {
	return testpki.Leaf{CN: "near gateway", O: []string{"sslgate demo"}, URIs: []string{nearID}, NotAfter: time.Now().Add(leafLife)}
}

// WriteTwo writes what a pair of gateways needs into dir: certificates, near.yaml for the
// first and far.yaml for the second.
func (p *PKI) WriteTwo(dir, engine string) (near, far string, err error) {
	if err := os.WriteFile(filepath.Join(dir, "gateways-ca.pem"), p.Gateway.PEM(), 0o644); err != nil {
		return "", "", err
	}
	for name, leaf := range map[string]testpki.Leaf{"near": nearLeaf(), "far": farLeaf()} {
		c, err := p.Gateway.Issue(leaf)
		if err != nil {
			return "", "", err
		}
		if _, _, err := c.WritePEM(dir, name); err != nil {
			return "", "", err
		}
	}
	if near, err = fill(dir, "near.yaml", lab.WithEngine(nearConfig, engine)); err != nil {
		return "", "", err
	}
	far, err = fill(dir, "far.yaml", lab.WithEngine(farConfig, engine))
	return near, far, err
}

// writeTwoLab writes the files of `lab up --two`: certificates of strangers too, to try what
// becomes of them.
func writeTwoLab(dir string, p *PKI) error {
	if _, _, err := p.WriteTwo(dir, ""); err != nil {
		return err
	}
	for name, leaf := range map[string]testpki.Leaf{"near-stranger": nearLeaf(), "far-stranger": farLeaf()} {
		c, err := p.Other.Issue(leaf)
		if err != nil {
			return err
		}
		if _, _, err := c.WritePEM(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// request is what the client of two gateways says.
const request = "GET /demo HTTP/1.1\r\nHost: " + nameShop + "\r\n\r\n"

// twoGateways has a lab of its own, with five namespaces.
func twoGateways(ctx context.Context, e *env, port uint16) (o outcome, err error) {
	o = outcome{
		from: netip.AddrPortFrom(lab.ClientAddr(false), port),
		to:   netip.AddrPortFrom(lab.ServerAddr(destShop, false), shopPort),
	}
	dir, err := os.MkdirTemp("", "sslgate-demo-two-")
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	near, far, err := e.pki.WriteTwo(dir, e.engine)
	if err != nil {
		return o, err
	}
	l, err := lab.New(lab.Options{Two: true, Servers: destinations})
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	servers, err := startOrigins(l, shopPort, map[int]string{destShop: nameShop}, nil)
	if err != nil {
		return o, err
	}
	defer servers.Close()
	// The request in the clear, anywhere in the network between the two.
	plain, err := l.Sniff(lab.Between, "", func(p lab.Packet) bool { return bytes.Contains(p.Raw, []byte("/demo")) })
	if err != nil {
		return o, err
	}
	defer func() { _ = plain.Close() }()
	isTCP := lab.TCPTo(shopPort)
	wire, err := l.Sniff(lab.Between, lab.NearIface, func(p lab.Packet) bool { return isTCP(p) && p.Dst.Addr() == o.to.Addr() })
	if err != nil {
		return o, err
	}
	defer func() { _ = wire.Close() }()
	for ns, config := range map[lab.NS]string{lab.Gateway: near, lab.Gateway2: far} {
		g, err := StartGateway(ctx, l, ns, e.binary, config)
		if err != nil {
			return o, fmt.Errorf("%s: %w", ns, err)
		}
		defer func() { err = errors.Join(err, g.Stop()) }()
	}
	o.view = attempt{port: port, to: o.to, raw: []byte(request)}.run(ctx, l)
	o.dialled = servers.Accepted(o.to)
	if _, o.raw, err = newRecords(filepath.Join(dir, "near.jsonl")).wait(ctx, o.from.String()); err != nil {
		return o, fmt.Errorf("the first gateway: %w", err)
	}
	second, raw, err := newRecords(filepath.Join(dir, "far.jsonl")).wait(ctx, "")
	if err != nil {
		return o, fmt.Errorf("the second gateway: %w", err)
	}
	o.second, o.secondRaw = second, raw
	o.checks = append(o.checks, twoChecks(second, wire.Count(), plain.Count(), o.dialled)...)
	return o, nil
}

// twoChecks look at what lies between client and server.
func twoChecks(second *audit.Parsed, packets, plain, dialled int) []Check {
	peer, proven := "", false
	if second.Peer != nil {
		peer, proven = fmt.Sprint(second.Peer.SANs), second.Peer.Proven
	}
	alert := handshake.AlertNone.String()
	return []Check{
		check("the second gateway has verified the first", second.Reason == "verified" && second.AlertWanted == alert, "reason %s, alert %s", second.Reason, second.AlertWanted),
		check("by its certificate, whose key it has proven", proven && peer == "[uri:"+nearID+"]", "proven %t, names %s", proven, peer),
		check("the first has come from its own address", second.Client != "" && addrOf(second.Client) == lab.FirstAddr(false), "from %s", second.Client),
		check("the flow has passed between them", packets > 0, "no packet to the server was seen"),
		check("nothing of it in the clear", plain == 0, "%d packets have the client's request", plain),
		check("one connection has reached the server", dialled == 1, "%d", dialled),
	}
}

// addrOf is the address of a text with a port; invalid if it is none.
func addrOf(s string) netip.Addr {
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr()
}

// nearConfig and farConfig are the configurations of the two gateways. Paths are relative to
// the file.
const nearConfig = `version: 1

# The first of two gateways: its clients speak in the clear, and it makes mutual TLS with
# the second one for them. far.yaml is the second. docs/lab.md walks through both.

capture:
  interfaces: [{{.LAN}}]
  ports: [80]

authorities:
  gateways:
    roots: gateways-ca.pem
    permits: {dns: [{{.NameFar}}], spiffe: [demo.test]}   # the only names this CA may speak for

identities:
  near: {certificate: near.pem, key: near.key}

policy:
  rules:
    - name: shop
      from: [10.77.1.0/24, "fd77:1::/64"]
      to: {{to .Shop 80}}
      action: originate
      destination:
        tls: verify
        authorities: [gateways]
        name: {{.NameFar}}         # what the second gateway shows
        identity: near                # what this one shows to it
        profile: modern

limits: {drain: 2s}
audit: {file: near.jsonl}
admin: {socket: near.sock}
`

const farConfig = `version: 1

# The second of two gateways: it takes mutual TLS from the first one alone, and speaks in
# the clear with the server. near.yaml is the first.

capture:
  interfaces: [{{.LAN}}]
  ports: [80]

authorities:
  gateways:
    roots: gateways-ca.pem
    permits: {dns: [{{.NameFar}}], spiffe: [demo.test]}

identities:
  far: {certificate: far.pem, key: far.key}

policy:
  rules:
    - name: from-near
      from: ["{{.First4}}", "{{.First6}}"]   # the first gateway's addresses
      to: {{to .Shop 80}}
      identity: far
      profile: modern
      alpn: []
      client:
        authorities: [gateways]
        allow: [{san_uri: ["{{.NearID}}"]}]
      destination: {tls: plain}

limits: {drain: 2s}
audit: {file: far.jsonl}
admin: {socket: far.sock}
`
