// Package demo drives real traffic through the real gateway in a lab of network namespaces,
// and compares the outcome with what is wanted.
//
// scenarios.go is the table, client.go and special.go are the traffic, files.go
// makes the throw-away PKI and configuration, gatewayproc.go runs the gateway,
// records.go reads its audit records, judge.go compares, report.go shows.
package demo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// Options of Run.
type Options struct {
	// Binary is the gateway that is run: an sslgate with the command run.
	Binary string
	// Engine makes the handshakes: "std" or "native"; "" means std.
	Engine string
	// Only names the scenarios; none means all.
	Only []string
	// JSON prints one object a scenario and a summary instead of text.
	JSON   bool
	Stdout io.Writer
	// Progress gets one line a scenario as it starts.
	Progress io.Writer
}

// firstPort is the local port of the first scenario's client. Each further scenario has the
// next port, by which its record is found. The ports are below the kernel's ephemeral ones.
const firstPort = 20001

// env is what the scenarios run in.
type env struct {
	lab     *lab.Lab
	pki     *PKI
	origins *origins
	gateway *Process
	binary  string
	config  string
	engine  string // of the gateways that a scenario starts
	records *records
	// progress is where the gateway's log goes when a scenario could not run.
	progress io.Writer
	// leaks sees TCP packets that reach the server from the client itself. There must be
	// none: the gateway dials by itself for whatever it lets through.
	leaks *lab.Sniffer
}

// Run runs the demo. It returns how many scenarios ran and how many did not have the required
// outcome; err is for a demo that could not run.
func Run(ctx context.Context, opt Options) (ran, failed int, err error) {
	scenarios, err := Find(opt.Only)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	fmt.Fprintln(opt.Progress, "making the namespaces client - gateway - server, certificates and the gateway ...")
	e, err := setUp(ctx, opt)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, e.tearDown()) }()
	report := newReporter(opt.Stdout, opt.JSON)
	for i, s := range scenarios {
		fmt.Fprintf(opt.Progress, "[%2d/%d] %s: %s\n", i+1, len(scenarios), s.Name, s.Title)
		r := e.play(ctx, s, uint16(firstPort+i))
		if err := ctx.Err(); err != nil {
			return ran, failed, err // interrupted: the results mean nothing
		}
		ran++
		if !r.OK {
			failed++
		}
		if err := report.scenario(r); err != nil {
			return ran, failed, err
		}
	}
	return ran, failed, report.end(time.Since(start))
}

// play runs one scenario and judges it. An error that keeps it from running is a difference
// like any other: the rest of the demo goes on.
func (e *env) play(ctx context.Context, s Scenario, port uint16) *Result {
	before := e.leaks.Count()
	r := &Result{Scenario: s}
	var err error
	if s.special != nil {
		r.outcome, err = s.special(ctx, e, port)
	} else {
		r.outcome, err = e.connect(ctx, s.client, port)
	}
	switch {
	case err != nil || s.Want.NoRecord:
	case r.raw != nil: // of a gateway of the scenario's own
		r.Record, err = audit.Parse(r.raw)
	default:
		r.Record, r.raw, err = e.records.wait(ctx, r.from.String())
	}
	if err != nil {
		r.checks = append(r.checks, check("the scenario ran and left its record", false, "%v", err))
		if e.gateway != nil {
			fmt.Fprintf(e.progress, "the gateway's log:\n%s\n", e.gateway.Log())
		}
	}
	if !s.Want.NoRecord && s.Want.Verdict() == reason.Refused.String() {
		// A dial would reveal the gateway to a destination that this client may not reach.
		r.checks = append(r.checks, check("the destination was not dialled", r.dialled == 0, "%d connections", r.dialled))
	}
	leaked := e.leaks.Count() - before
	r.checks = append(r.checks, check("nothing passed uninspected", leaked == 0, "%d packets of the client reached the server", leaked))
	r.judge()
	return r
}

// connect makes the connection of a client.
func (e *env) connect(ctx context.Context, c client, port uint16) (outcome, error) {
	a, err := c.attempt(e.pki, port)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{from: netip.AddrPortFrom(lab.ClientAddr(c.six), port), to: a.to}
	before := e.origins.Accepted(a.to)
	o.view = a.run(ctx, e.lab)
	o.dialled = e.origins.Accepted(a.to) - before
	return o, nil
}

// setUp makes everything that the scenarios run in.
func setUp(ctx context.Context, opt Options) (e *env, err error) {
	e = &env{binary: opt.Binary, engine: opt.Engine, progress: opt.Progress}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.tearDown())
		}
	}()
	if e.lab, err = lab.New(lab.Options{Servers: destinations}); err != nil {
		return e, err
	}
	dir, err := os.MkdirTemp("", "sslgate-demo-")
	if err != nil {
		return e, err
	}
	e.config = filepath.Join(dir, "sslgate.yaml")
	if e.pki, err = NewPKI(); err != nil {
		return e, err
	}
	if e.config, err = e.pki.Write(dir, lab.WithEngine(demoConfig, opt.Engine)); err != nil {
		return e, err
	}
	if e.origins, err = demoOrigins(e.lab, e.pki); err != nil {
		return e, err
	}
	client4, client6 := lab.ClientAddr(false), lab.ClientAddr(true)
	isTCP := lab.TCPTo()
	e.leaks, err = e.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool {
		from := p.Src.Addr()
		return (from == client4 || from == client6) && (isTCP(p) || p.Fragment)
	})
	if err != nil {
		return e, err
	}
	if e.gateway, err = StartGateway(ctx, e.lab, lab.Gateway, e.binary, e.config); err != nil {
		return e, err
	}
	e.records = newRecords(filepath.Join(dir, "audit.jsonl"))
	return e, nil
}

// demoOrigins starts the destinations of the demo's rules.
func demoOrigins(l *lab.Lab, p *PKI) (*origins, error) {
	certs := map[int]*tls.Certificate{}
	for i, name := range map[int]string{destOrigin: nameOrigin, destWrongName: "another.demo.test", destBypass: nameBypass} {
		c, err := p.Origin.Issue(testpki.Leaf{CN: name, DNS: []string{name}})
		if err != nil {
			return nil, err
		}
		pair := c.TLS()
		certs[i] = &pair
	}
	return startOrigins(l, 443, map[int]string{
		destPay: namePay, destOptional: nameOptional, destOrigin: nameOrigin,
		destWrongName: nameWrong, destBypass: nameBypass, destNoRule: "without a rule",
	}, certs)
}

// tearDown removes everything that was set up.
func (e *env) tearDown() error {
	var errs []error
	if e.gateway != nil {
		errs = append(errs, e.gateway.Stop())
	}
	if e.leaks != nil {
		errs = append(errs, e.leaks.Close())
	}
	if e.origins != nil {
		e.origins.Close()
	}
	if e.lab != nil {
		errs = append(errs, e.lab.Close())
	}
	if e.config != "" {
		errs = append(errs, os.RemoveAll(filepath.Dir(e.config)))
	}
	return errors.Join(errs...)
}
