package soak

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// The ports, one a rule.
const (
	portPay    = 443  // mutual TLS, plain to the origin
	portRetls  = 8443 // mutual TLS, TLS to the origin
	portFlaky  = 9443 // mutual TLS, plain to an origin that is restarted all the time
	portBypass = 80   // relayed without looking inside
	portDenied = 81   // a rule denies it
	portNoRule = 82   // no rule is for it
	portClient = 9444 // as portPay, from the client's address; for hand-overs only
)

// cutServer is the address of the server that packets of clients go to in fragments; for hand-overs
// only.
const cutServer = 1

const serverName = "pay.soak.test"

// leafLife is longer than any run, and a day less than testpki's CAs have.
const leafLife = 9 * 24 * time.Hour

// restartedRule is the rule of portFlaky.
const restartedRule = "flaky"

// rotateSize is the size of the audit file: rotation is part of what is tried.
const rotateSize = "32MiB"

// site is the lab with its gateway, origins and files.
type site struct {
	lab     *lab.Lab
	dir     string
	engine  string // of the configuration
	sourced bool   // the configuration has a rule for portClient
	local   bool   // programs and services of the gateway's host are at one end; see local.go
	book    *book
	gateway *lab.Cmd
	log     *gatewayLog

	clientCA, malloryCA, gatewayCA, originCA, otherCA *testpki.CA

	alice, bob, mallory, stranger, expired, thief tls.Certificate
	malloryCert                                   *x509.Certificate

	// patience is the gateway's timeout for a handshake or a destination.
	patience time.Duration

	steady, retls, flaky *origin
	sessions             tls.ClientSessionCache

	mu      sync.Mutex
	reloads int
	crl     crlState
}

// crlState is which of the two lists is in place, and since when.
type crlState struct {
	number  int64
	revoked bool
	since   time.Time
}

func newSite(l *lab.Lab, dir, engine string, b *book, patience time.Duration) (*site, error) {
	s := &site{lab: l, dir: dir, engine: engine, book: b, patience: patience, log: &gatewayLog{}, sessions: tls.NewLRUClientSessionCache(64)}
	if err := s.makeKeys(); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(s.file("origin.pem"), s.file("origin.key"))
	if err != nil {
		return nil, err
	}
	at := func(ports ...int) (all []string) {
		for _, port := range ports {
			for _, six := range []bool{false, true} {
				all = append(all, netip.AddrPortFrom(lab.ServerAddr(0, six), uint16(port)).String())
			}
		}
		return all
	}
	s.steady = &origin{lab: l, book: b, addrs: at(portPay, portBypass, portClient)}
	for _, six := range []bool{false, true} {
		s.steady.addrs = append(s.steady.addrs, netip.AddrPortFrom(lab.ServerAddr(cutServer, six), portPay).String())
	}
	s.retls = &origin{lab: l, book: b, addrs: at(portRetls), tls: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}}
	s.flaky = &origin{lab: l, book: b, addrs: at(portFlaky)}
	if err := s.writeConfig(); err != nil {
		return nil, err
	}
	return s, s.swapCRL()
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

func (s *site) origins() []*origin { return []*origin{s.steady, s.retls, s.flaky} }

func (s *site) makeKeys() error {
	for _, c := range []struct {
		ca   **testpki.CA
		name string
	}{{&s.clientCA, "client"}, {&s.malloryCA, "mallory"}, {&s.gatewayCA, "gateway"}, {&s.originCA, "origin"}, {&s.otherCA, "other"}} {
		ca, err := testpki.NewCA(testpki.Options{CN: "Soak CA of " + c.name})
		if err != nil {
			return err
		}
		*c.ca = ca
		if err := os.WriteFile(s.file(c.name+"-ca.pem"), ca.PEM(), 0o600); err != nil {
			return err
		}
	}
	until := time.Now().Add(leafLife)
	for _, c := range []struct {
		ca   *testpki.CA
		name string
		leaf testpki.Leaf
		to   *tls.Certificate
	}{
		{s.gatewayCA, "pay", testpki.Leaf{DNS: []string{serverName}, NotAfter: until}, nil},
		{s.originCA, "origin", testpki.Leaf{DNS: []string{serverName}, NotAfter: until}, nil},
		{s.clientCA, "alice", testpki.Leaf{CN: "alice", DNS: []string{"alice.soak.test"}, NotAfter: until}, &s.alice},
		{s.clientCA, "bob", testpki.Leaf{CN: "bob", DNS: []string{"bob.soak.test"}, NotAfter: until}, &s.bob},
		{s.otherCA, "stranger", testpki.Leaf{CN: "alice", DNS: []string{"alice.soak.test"}, NotAfter: until}, &s.stranger},
		{s.malloryCA, "mallory", testpki.Leaf{CN: "mallory", DNS: []string{"mallory.soak.test"}, NotAfter: until}, &s.mallory},
	} {
		cert, err := c.ca.Issue(c.leaf)
		if err != nil {
			return err
		}
		if _, _, err := cert.WritePEM(s.dir, c.name); err != nil {
			return err
		}
		if c.to != nil {
			*c.to = cert.TLS()
		}
		switch c.name {
		case "mallory":
			s.malloryCert = cert.Cert
		case "alice":
			key, err := testpki.NewKey(0)
			if err != nil {
				return err
			}
			s.thief = testpki.Thief(cert, key)
		}
	}
	old, err := s.clientCA.Expired(testpki.Leaf{CN: "alice", DNS: []string{"alice.soak.test"}})
	if err != nil {
		return err
	}
	s.expired = old.TLS()
	return nil
}

// writeConfig writes the configuration. Each has a different policy than the one before, but the
// same decisions.
func (s *site) writeConfig() error {
	const client = `client: {certificate: required, authorities: [staff, watched], allow: [{san_dns: [alice.soak.test, mallory.soak.test, "spare-%d.soak.test"]}]}`
	text := fmt.Sprintf(`version: 1
tun: {name: sslgate0}
state: state
capture: {interfaces: [%s], ports: [80, 81, 82, 443, 8443, 9443, 9444], local: {in: true, out: %[5]t}}
authorities:
  staff: {roots: client-ca.pem}
  watched: {roots: mallory-ca.pem, crl: [mallory.crl], revocation: hard}
  origin: {roots: origin-ca.pem}
identities:
  pay: {certificate: pay.pem, key: pay.key}
audit: {file: audit.jsonl, rotate: {size: %[2]s, keep: 2}}
limits: {handshake: %[4]v, drain: 5s, flows_per_client: 4096, handshakes_per_client: 500, handshakes_per_second: 5000, refusal_records: 1000000, refusal_records_per_client: 1000000}
dial: {timeout: %[4]v}
admin: {socket: admin.sock}
policy:
  rules:
    - {name: pay, to: ["*:443"], sni: [%[3]s], identity: pay, CLIENT, destination: {tls: plain}}
    - {name: retls, to: ["*:8443"], sni: [%[3]s], identity: pay, CLIENT, destination: {tls: verify, authorities: [origin]}}
    - {name: flaky, to: ["*:9443"], sni: [%[3]s], identity: pay, CLIENT, destination: {tls: plain}}
    - {name: bypass, to: ["*:80", %[6]s], action: bypass}
SOURCED    - {name: denied, to: ["*:81"], action: deny}
`, lab.LANIface, rotateSize, serverName, s.patience, s.local, namedHere)
	if err := os.MkdirAll(s.file("state"), 0o700); err != nil {
		return err
	}
	sourced := ""
	if s.sourced {
		sourced = fmt.Sprintf("    - {name: sourced, to: [\"*:%d\"], sni: [%s], identity: pay, CLIENT, destination: {tls: plain, source: client}}\n", portClient, serverName)
	}
	text = strings.ReplaceAll(text, "SOURCED", sourced)
	text = strings.ReplaceAll(text, "CLIENT", fmt.Sprintf(client, s.reloads))
	return os.WriteFile(s.file("sslgate.yaml"), []byte(lab.WithEngine(text, s.engine)), 0o600)
}

// reload puts another policy in place.
func (s *site) reload(ctx context.Context) error {
	s.reloads++
	if err := s.writeConfig(); err != nil {
		return err
	}
	code, b, err := s.admin(ctx, http.MethodPost, "/v1/reload")
	if err != nil {
		return err
	}
	var res struct{ Before, Policy string }
	if err := json.Unmarshal(b, &res); err != nil || code != http.StatusOK || res.Before == res.Policy {
		return fmt.Errorf("reload %d answers %d: %s", s.reloads, code, bytes.TrimSpace(b))
	}
	return nil
}

// swapCRL replaces the revocation list, so that mallory is revoked, or no longer revoked.
func (s *site) swapCRL() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := crlState{number: s.crl.number + 1, revoked: s.crl.number > 0 && !s.crl.revoked}
	var revoked []*x509.Certificate
	if next.revoked {
		revoked = append(revoked, s.malloryCert)
	}
	list, err := s.malloryCA.CRL(next.number, time.Now().Add(leafLife), revoked...)
	if err != nil {
		return err
	}
	// Replace by rename, because the gateway may read at any moment.
	if err := os.WriteFile(s.file("mallory.crl.new"), testpki.CRLPEM(list), 0o600); err != nil {
		return err
	}
	if err := os.Rename(s.file("mallory.crl.new"), s.file("mallory.crl")); err != nil {
		return err
	}
	next.since = time.Now()
	s.crl = next
	return nil
}

func (s *site) crlNow() crlState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crl
}

// startTimeout bounds the gateway's start, with the race detector too and on the slowest machine.
const startTimeout = 2 * time.Minute

// start starts origins and gateway.
func (s *site) start(binary string) error {
	for _, o := range s.origins() {
		if err := o.start(); err != nil {
			return err
		}
	}
	s.gateway = s.lab.Command(lab.Gateway, binary, "run", "-c", s.file("sslgate.yaml"))
	s.gateway.Dir = s.dir
	s.gateway.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	s.gateway.Stdout, s.gateway.Stderr = s.log, s.log
	if err := s.gateway.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(startTimeout); !s.log.has("ready"); time.Sleep(10 * time.Millisecond) {
		select {
		case <-s.gateway.Done():
			return fmt.Errorf("the gateway ended before it was ready: %w\n%s", s.gateway.Wait(), s.log.tail())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the gateway did not become ready\n%s", s.log.tail())
		}
	}
	return nil
}

// stop ends the gateway in order, then the origins.
func (s *site) stop() error {
	var err error
	if s.gateway != nil && s.gateway.Process != nil {
		_ = s.gateway.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-s.gateway.Done():
			if werr := s.gateway.Wait(); werr != nil {
				err = fmt.Errorf("the gateway did not stop in order: %w\n%s", werr, s.log.tail())
			}
		case <-time.After(startTimeout):
			_ = s.gateway.Process.Kill()
			<-s.gateway.Done()
			err = errors.New("the gateway did not stop on SIGTERM")
		}
	}
	for _, o := range s.origins() {
		o.stop()
	}
	return err
}

// gatewayLog keeps the end of the gateway's log, and every line that reports a defect.
type gatewayLog struct {
	mu    sync.Mutex
	text  []byte
	part  []byte
	wrong []string
}

// maxLog is how much of the log is kept, in bytes.
const maxLog = 64 << 10

func (l *gatewayLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if len(l.text) > 2*maxLog {
		l.text = append([]byte(nil), l.text[len(l.text)-maxLog:]...)
	}
	l.part = append(l.part, p...)
	for {
		i := bytes.IndexByte(l.part, '\n')
		if i < 0 {
			break
		}
		line := string(l.part[:i])
		l.part = l.part[i+1:]
		bad := strings.Contains(line, "\terror\t") || strings.Contains(line, "\tERROR\t") || strings.Contains(line, "DATA RACE") ||
			strings.Contains(line, "panic") || strings.Contains(line, "fatal error")
		if bad && len(l.wrong) < maxProblems {
			l.wrong = append(l.wrong, line)
		}
	}
	return len(p), nil
}

func (l *gatewayLog) has(word string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.text, []byte(word))
}

func (l *gatewayLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text[max(0, len(l.text)-4<<10):])
}

// complaints returns the lines that report a defect, each only once.
func (l *gatewayLog) complaints() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.wrong
	l.wrong = nil
	return all
}
