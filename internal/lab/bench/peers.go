package bench

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"text/template"

	"github.com/sslgate/sslgate/internal/lab"
)

// Peer names one of the gateways that are measured.
type Peer string

// The peers.
const (
	Direct  Peer = "direct"
	Relay   Peer = "relay"
	Go      Peer = "go"
	HAProxy Peer = "haproxy"
	Stunnel Peer = "stunnel"
	SSLGate Peer = "sslgate"
)

// Peers returns all, in the order of the table.
func Peers() []Peer { return []Peer{Direct, Relay, Go, HAProxy, Stunnel, SSLGate} }

// does says whether a peer can do a mode.
func (p Peer) does(m mode) bool {
	switch p {
	case Direct, Relay:
		return m == modePlain
	case Go:
		return m != modePlain
	case Stunnel:
		return m == modeOriginate
	case HAProxy, SSLGate:
		return true
	}
	return false
}

// startGateway starts the peer and waits until it takes connections.
func (s *site) startGateway(ctx context.Context) (err error) {
	files := map[string]any{
		"LAN": lab.LANIface, "Limits": cmp.Or(s.limits, openLimits), "Name": serverName, "Dir": s.dir,
		"Plain": modePlain.port(), "TLS": modeTLS.port(), "ReTLS": modeReTLS.port(),
		"Steps": stepsName, "TLS12": tls12Name, "Originate": modeOriginate.port(), "OriginateAt": modeOriginate.tproxyPort(),
		"From":    lab.ClientAddr(false),
		"PlainAt": modePlain.tproxyPort(), "TLSAt": modeTLS.tproxyPort(), "ReTLSAt": modeReTLS.tproxyPort(),
	}
	cpu := s.cpus.gateway
	switch s.peer {
	case Direct:
	case Relay:
		s.gateway, err = s.startRole(ctx, lab.Gateway, cpu, RoleReference, ReferenceJob{
			Listen: []ReferenceListener{{Port: modePlain.tproxyPort()}},
		})
	case Go:
		s.gateway, err = s.startRole(ctx, lab.Gateway, cpu, RoleReference, ReferenceJob{
			Listen: []ReferenceListener{{Port: modeTLS.tproxyPort(), TLS: true}, {Port: modeReTLS.tproxyPort(), TLS: true, Reencrypt: true}, {Port: modeOriginate.tproxyPort(), Originate: true}},
			Own:    s.file("client.pem"), OwnKey: s.file("client.key"), Name: serverName,
			Cert: s.file("gateway.pem"), Key: s.file("gateway.key"),
			Clients: s.file("client-ca.pem"), Origins: s.file("origin-ca.pem"),
		})
	case HAProxy:
		if err := s.fill("haproxy.cfg", haproxyConfig, files); err != nil {
			return err
		}
		s.gateway, err = s.start(ctx, lab.Gateway, cpu, "haproxy", nil, "haproxy", "-db", "-f", s.file("haproxy.cfg"))
		if err == nil {
			err = s.gateway.await(func() bool { return listening(s.gateway.pid(), modeReTLS.tproxyPort()) })
		}
	case Stunnel:
		if err := s.fill("stunnel.conf", stunnelConfig, files); err != nil {
			return err
		}
		s.gateway, err = s.start(ctx, lab.Gateway, cpu, "stunnel", nil, "stunnel", s.file("stunnel.conf"))
		if err == nil {
			err = s.gateway.await(func() bool { return listening(s.gateway.pid(), modeOriginate.tproxyPort()) })
		}
	case SSLGate:
		if err := s.fill("sslgate.yaml", lab.WithSender(lab.WithEngine(sslgateConfig, s.engine), s.sender), files); err != nil {
			return err
		}
		var env []string
		if s.profile != "" {
			env = append(env, "SSLGATE_PPROF="+s.profile)
		}
		s.gateway, err = s.start(ctx, lab.Gateway, cpu, "sslgate", env, s.binary, "run", "-c", s.file("sslgate.yaml"))
		if err == nil {
			err = s.gateway.await(func() bool { return s.gateway.logged(`"msg":"ready"`) })
		}
	default:
		err = fmt.Errorf("no peer %q", s.peer)
	}
	return err
}

// stopGateway ends the peer, if it runs.
func (s *site) stopGateway() error {
	if s.gateway == nil {
		return nil
	}
	g := s.gateway
	s.gateway = nil
	sig := syscall.Signal(0)
	switch s.peer {
	case SSLGate, Stunnel:
		sig = syscall.SIGTERM
	case HAProxy:
		sig = syscall.SIGTERM // at once: SIGUSR1 would wait for the last connection
	}
	return g.stop(sig)
}

func (s *site) fill(name, text string, values any) error {
	t, err := template.New(name).Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, values); err != nil {
		return err
	}
	return os.WriteFile(s.file(name), b.Bytes(), 0o600)
}

// listening says whether something listens on a TCP port over IPv4 in the
// network namespace of a process (/proc/PID/net/tcp: state 0A).
func listening(pid int, port uint16) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return false
	}
	want := ":" + strings.ToUpper(fmt.Sprintf("%04s", strconv.FormatUint(uint64(port), 16)))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[1], want) && f[3] == "0A" {
			return true
		}
	}
	return false
}

// openLimits allows one address everything, because all clients share one address here.
const openLimits = "limits: {flows: 20000, flows_per_client: 20000, handshakes: 20000, handshakes_per_client: 20000, handshakes_per_second: 1000000, drain: 1s, refusal_records: 1000000, refusal_records_per_client: 1000000}"

// sslgateConfig: ledger and audit record are always on.
const sslgateConfig = `version: 1
capture: {interfaces: [{{.LAN}}], ports: [{{.Plain}}, {{.TLS}}, {{.ReTLS}}, {{.Originate}}]}
authorities:
  clients: {roots: client-ca.pem}
  origins: {roots: origin-ca.pem}
identities:
  gateway: {certificate: gateway.pem, key: gateway.key}
  client: {certificate: client.pem, key: client.key}
policy:
  default: deny
  rules:
    - {name: plain, to: ["*:{{.Plain}}"], action: bypass}
    - name: originate
      from: [{{.From}}]
      to: ["*:{{.Originate}}"]
      action: originate
      destination: {tls: verify, authorities: [origins], name: {{.Name}}, identity: client, profile: modern}
    - name: steps
      to: ["*:{{.TLS}}"]
      sni: ["{{.Steps}}"]
      identity: gateway
      profile: modern
      ledger: steps
      client: {certificate: required, authorities: [clients]}
      destination: {tls: plain}
    - name: tls12
      to: ["*:{{.TLS}}"]
      sni: ["{{.TLS12}}"]
      identity: gateway
      profile: intermediate
      client: {certificate: required, authorities: [clients]}
      destination: {tls: plain}
    - name: tls
      to: ["*:{{.TLS}}"]
      identity: gateway
      profile: modern
      client: {certificate: required, authorities: [clients]}
      destination: {tls: plain}
    - name: re-encrypted
      to: ["*:{{.ReTLS}}"]
      identity: gateway
      profile: modern
      client: {certificate: required, authorities: [clients]}
      destination: {tls: verify, authorities: [origins]}
{{.Limits}}
audit: {file: audit.jsonl}
log: {level: info, format: json}
`

// haproxyConfig: one thread for its one CPU, no log, splicing where possible. HAProxy needs
// two and a half descriptors per connection, and root in a container may have no more than
// 20,000.
const haproxyConfig = `global
    maxconn 7000
    nbthread 1
    ssl-default-bind-options ssl-min-ver TLSv1.2
    ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
    ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    option splice-auto
listen plain
    bind 0.0.0.0:{{.PlainAt}} transparent
    server origin 0.0.0.0
listen tls
    bind 0.0.0.0:{{.TLSAt}} transparent ssl crt {{.Dir}}/gateway-both.pem ca-file {{.Dir}}/client-ca.pem verify required
    server origin 0.0.0.0
listen re-encrypted
    bind 0.0.0.0:{{.ReTLSAt}} transparent ssl crt {{.Dir}}/gateway-both.pem ca-file {{.Dir}}/client-ca.pem verify required
    server origin 0.0.0.0 ssl verify required ca-file {{.Dir}}/origin-ca.pem verifyhost {{.Name}} sni str({{.Name}})
listen originate
    bind 0.0.0.0:{{.OriginateAt}} transparent
    server origin 0.0.0.0 ssl crt {{.Dir}}/client-both.pem verify required ca-file {{.Dir}}/origin-ca.pem verifyhost {{.Name}} sni str({{.Name}}) no-ssl-reuse
`

// stunnelConfig: no log, no sessions taken up again, as with the other peers.
const stunnelConfig = `foreground = yes
pid =
syslog = no
debug = emerg
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[originate]
client = yes
accept = 0.0.0.0:{{.OriginateAt}}
transparent = destination
cert = {{.Dir}}/client.pem
key = {{.Dir}}/client.key
CAfile = {{.Dir}}/origin-ca.pem
verifyChain = yes
checkHost = {{.Name}}
sni = {{.Name}}
sslVersion = TLSv1.3
ciphersuites = TLS_AES_128_GCM_SHA256
curves = X25519
sessionResume = no
`
