package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/line"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// mode is what the gateway does with a connection.
type mode int

// The modes, each with a port of its own.
const (
	modePlain     mode = iota // TCP is relayed
	modeTLS                   // mutual TLS with the client, TCP to the origin
	modeReTLS                 // mutual TLS with the client, TLS to the origin
	modeOriginate             // TCP with the client, mutual TLS to the origin
)

// modes returns all.
func modes() []mode { return []mode{modePlain, modeTLS, modeReTLS, modeOriginate} }

func (m mode) port() uint16 { return [...]uint16{80, 443, 8443, 5432}[m] }

func (m mode) String() string { return [...]string{"plain", "tls", "re-encrypted", "originate"}[m] }

// clientTLS says whether the client speaks TLS.
func (m mode) clientTLS() bool { return m == modeTLS || m == modeReTLS }

const (
	// serverName is the SNI of every client and the name in the certificates
	// of gateway and origin.
	serverName = "www.bench.test"
	// servers is the number of further addresses of the origin. Connections
	// go to them in turn, so that ports do not run out while the closed ones
	// wait; the last is left for the flood alone.
	servers = 9
)

// cpus says what runs where.
type cpus struct{ load, gateway int }

// site is a lab with one peer.
type site struct {
	peer   Peer
	self   string // this program
	binary string // sslgate
	dir    string
	cpus   cpus
	lab    *lab.Lab

	origin  *child
	gateway *child // nil for direct, and while it is stopped
	// limits is the line of sslgate's configuration; "" is openLimits.
	limits string
	engine string // of sslgate's configuration
	sender string // of sslgate's configuration
	// profile is where sslgate writes a CPU profile when it is told to; "" if
	// none is wanted.
	profile string
	// far says that a long line lies between client and gateway, tuned that the
	// hosts are set up for it: see farTests.
	far, tuned bool
	unfit      map[mode]bool // failed their check
}

// build makes the lab and starts origin and gateway.
func (s *site) build(ctx context.Context) (err error) {
	// As physical interfaces have it; veth has it off.
	opt := lab.Options{Servers: servers, GRO: true}
	if s.far {
		opt.Line = new(line.Path)
	}
	s.lab, err = lab.New(opt)
	if err != nil {
		return err
	}
	if err := s.writeKeys(); err != nil {
		return err
	}
	for _, ns := range []lab.NS{lab.Client, lab.Gateway, lab.Server} {
		for key, value := range map[string]string{
			"net.ipv4.ip_local_port_range": "16384 65535",
			"net.ipv4.tcp_tw_reuse":        "1",
			"net.core.somaxconn":           "8192",
			"net.ipv4.tcp_max_syn_backlog": "1024",
			"net.ipv4.tcp_syncookies":      "1",
		} {
			if err := s.lab.Sysctl(ns, key, value); err != nil {
				return err
			}
		}
	}
	if s.far {
		if err := s.setBuffers(false); err != nil {
			return err
		}
	}
	if err := s.routeSpoofed(); err != nil {
		return err
	}
	s.origin, err = s.startRole(ctx, lab.Server, s.cpus.load, RoleOrigin, OriginJob{
		Plain: []uint16{modePlain.port(), modeTLS.port()}, TLS: []uint16{modeReTLS.port()},
		Mutual: []uint16{modeOriginate.port()}, Clients: s.file("client-ca.pem"),
		Cert: s.file("origin.pem"), Key: s.file("origin.key"),
	})
	if err != nil {
		return err
	}
	switch s.peer {
	case Relay, Go, HAProxy:
		err = s.tproxy()
	case Stunnel:
		err = s.redirect(modeOriginate)
	}
	if err != nil {
		return err
	}
	return s.startGateway(ctx)
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

// writeKeys makes the certificates: ECDSA P-256 all round, each signed by a
// root, so that no peer has a longer chain to verify.
func (s *site) writeKeys() error {
	for name, leaf := range map[string]testpki.Leaf{
		"gateway": {CN: "gateway", DNS: []string{serverName, stepsName, tls12Name}},
		"client":  {CN: "client", DNS: []string{"client.bench.test"}},
		"origin":  {CN: "origin", DNS: []string{serverName}},
	} {
		ca, err := testpki.NewCA(testpki.Options{CN: "Bench CA of " + name})
		if err != nil {
			return err
		}
		cert, err := ca.Issue(leaf)
		if err != nil {
			return err
		}
		if _, _, err := cert.WritePEM(s.dir, name); err != nil {
			return err
		}
		if err := os.WriteFile(s.file(name+"-ca.pem"), ca.PEM(), 0o644); err != nil {
			return err
		}
		// haproxy wants both in one file.
		chain, key, err := cert.PEM()
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.file(name+"-both.pem"), append(chain, key...), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// close ends everything and takes the lab down.
func (s *site) close() error {
	if s.lab == nil {
		return nil
	}
	errs := []error{s.stopGateway()}
	if s.origin != nil {
		errs = append(errs, s.origin.stop(0))
	}
	return errors.Join(append(errs, s.lab.Remove())...)
}

// targets are the addresses that load connects to.
func (s *site) targets(m mode) []netip.AddrPort {
	var all []netip.AddrPort
	for i := 1; i < servers; i++ {
		all = append(all, netip.AddrPortFrom(lab.ServerAddr(i, false), m.port()))
	}
	return all
}

// floodTarget is the address that nobody but the flood connects to.
func (s *site) floodTarget(m mode) netip.AddrPort {
	return netip.AddrPortFrom(lab.ServerAddr(servers, false), m.port())
}

// accepted is the number of connections that an address of the origin has
// accepted so far.
func (s *site) accepted(at netip.Addr) (int64, error) {
	if err := s.origin.say("count"); err != nil {
		return 0, err
	}
	line, err := s.origin.line(startTimeout)
	if err != nil {
		return 0, err
	}
	var all map[netip.Addr]int64
	if err := json.Unmarshal([]byte(line), &all); err != nil {
		return 0, fmt.Errorf("origin: %w", err)
	}
	return all[at], nil
}

// measured is what a load has seen and what it cost the gateway.
type measured struct {
	Outcome
	cpu time.Duration // of the gateway process
}

// run starts a load in the client's namespace, and measures the gateway from
// its go to its end.
func (s *site) run(ctx context.Context, job LoadJob, m mode) (r measured, err error) {
	if m.clientTLS() {
		job.TLS = &LoadTLS{Name: cmp.Or(job.As.Name, serverName), Max: job.As.Max, Roots: s.file("gateway-ca.pem"), Cert: s.file("client.pem"), Key: s.file("client.key")}
	}
	job.Targets = s.targets(m)
	l, err := s.startRole(ctx, lab.Client, s.cpus.load, RoleLoad, job)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.stop(0)) }()
	before, err := s.cpu()
	if err != nil {
		return r, err
	}
	if err := l.say("go"); err != nil {
		return r, err
	}
	if r.Outcome, err = l.outcome(job.For); err != nil {
		return r, err
	}
	after, err := s.cpu()
	r.cpu = after - before
	if err == nil && r.Error != "" && r.Conns == 0 {
		err = errors.New(r.Error)
	}
	return r, err
}

// outcome reads what a load has to say after the given time.
func (c *child) outcome(after time.Duration) (o Outcome, err error) {
	line, err := c.line(after + bulkSlack + 2*connTimeout)
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal([]byte(line), &o); err != nil {
		return o, fmt.Errorf("%s: %w", c.name, err)
	}
	return o, nil
}

// cpu is what the gateway process has used; 0 where there is none.
func (s *site) cpu() (time.Duration, error) {
	if s.gateway == nil {
		return 0, nil
	}
	return cpuTime(s.gateway.pid())
}
