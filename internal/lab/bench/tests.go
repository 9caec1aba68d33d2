package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
)

// scale is the duration and the size of the tests.
type scale struct {
	bulk, rate, rtt, loss time.Duration
	quiet, flood          time.Duration
	far                   time.Duration // of a flow over a long line, its slow start with it
	settle                time.Duration // before memory is read
	idle                  int           // connections held open
	check                 uint64        // bytes a flow compared by SHA-256
	serials               int           // in the revocation list of revokedTest
}

// floodRate is the number of spoofed SYNs a second.
const floodRate = 3000

func fullScale() scale {
	return scale{
		bulk: 2 * time.Second, rate: 2 * time.Second, rtt: 2 * time.Second, loss: 4 * time.Second,
		quiet: 3 * time.Second, flood: 5 * time.Second, far: 4 * time.Second, settle: 2 * time.Second, idle: 5000, check: 16 << 20, serials: 1_000_000,
	}
}

// quickScale shows that everything works, in about 50 s; its figures are rough.
func quickScale() scale {
	return scale{
		bulk: 350 * time.Millisecond, rate: 350 * time.Millisecond, rtt: 350 * time.Millisecond, loss: 600 * time.Millisecond,
		quiet: 400 * time.Millisecond, flood: 600 * time.Millisecond, far: 2 * time.Second, settle: 300 * time.Millisecond, idle: 500, check: 2 << 20, serials: 100_000,
	}
}

// value is one figure of one measurement. metric is appended to the test's name; the main figure
// has none.
type value struct {
	metric, unit string
	value        float64
}

// test is one measurement. errNotDone from run means that the peer does not support it.
type test struct {
	name string
	mode mode
	// restarts the gateway, so that no profile can span it.
	restarts bool
	// prepare, where not nil, is what is done before the test and its profile.
	prepare func(context.Context, *site) error
	// far says that a long line lies between client and gateway.
	far bool
	run func(context.Context, *site, mode, scale) ([]value, error)
}

var errNotDone = errors.New("not done by this peer")

// allTests lists the tests in the order of the table.
func allTests() []test {
	bulk := func(kind LoadKind, flows int) func(context.Context, *site, mode, scale) ([]value, error) {
		return func(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
			return bulkTest(ctx, s, m, LoadJob{Kind: kind, Flows: flows, For: sc.bulk})
		}
	}
	var all []test
	for _, p := range []struct {
		prefix string
		mode   mode
	}{{"plain", modePlain}, {"tls", modeTLS}, {"originate", modeOriginate}} {
		all = append(all,
			test{name: p.prefix + "-up1", mode: p.mode, run: bulk(LoadUp, 1)},
			test{name: p.prefix + "-up8", mode: p.mode, run: bulk(LoadUp, 8)},
			test{name: p.prefix + "-down1", mode: p.mode, run: bulk(LoadDown, 1)},
			test{name: p.prefix + "-down8", mode: p.mode, run: bulk(LoadDown, 8)},
		)
		if p.mode == modeTLS {
			all = append(all,
				test{name: "retls-up1", mode: modeReTLS, run: bulk(LoadUp, 1)},
				test{name: "retls-down1", mode: modeReTLS, run: bulk(LoadDown, 1)},
			)
		}
		all = append(all, test{name: p.prefix + "-conns", mode: p.mode, run: connsTest})
		if p.mode == modeTLS {
			all = append(all, test{name: "tls-resumed", mode: modeTLS, run: resumedTest})
			all = append(all, handshakeTests()...)
		}
		all = append(all, test{name: p.prefix + "-rtt", mode: p.mode, run: rttTest})
	}
	return append(append(append(all, assaultTests()...), farTests()...),
		test{name: "tls-memory", mode: modeTLS, run: memoryTest, restarts: true},
		test{name: "plain-loss", mode: modePlain, run: lossTest},
		test{name: "plain-synflood", mode: modePlain, run: floodTest},
		test{name: "tls-synflood", mode: modeTLS, run: floodTest},
		test{name: "revoked", mode: modeTLS, run: revokedTest, restarts: true}, // in this process: a profile of the gateway's would be empty
	)
}

// TestNames lists the tests, for Options.Only.
func TestNames() []string {
	var all []string
	for _, t := range allTests() {
		all = append(all, t.name)
	}
	return all
}

func bulkTest(ctx context.Context, s *site, m mode, job LoadJob) ([]value, error) {
	r, err := s.run(ctx, job, m)
	if err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, errors.New(r.Error)
	}
	gib := float64(r.Bytes) / (1 << 30)
	all := []value{{"", "GiB/s", gib / r.Seconds}}
	if s.peer != Direct {
		all = append(all, value{".cpu", "CPU s/GiB", r.cpu.Seconds() / gib})
	}
	return all, nil
}

func connsTest(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
	r, err := s.run(ctx, LoadJob{Kind: LoadConns, For: sc.rate}, m)
	if err != nil {
		return nil, err
	}
	return rateValues(s, r)
}

// rateValues turns the outcome of LoadConns into figures. In an undisturbed test, more than one
// failed connection in a thousand is an error and no rate.
func rateValues(s *site, r measured) ([]value, error) {
	if r.Failed*1000 > r.Conns {
		return nil, fmt.Errorf("%d of %d connections failed: %s", r.Failed, r.Failed+r.Conns, r.Error)
	}
	all := []value{{"", "conn/s", float64(r.Conns) / r.Seconds}}
	if s.peer != Direct {
		all = append(all, value{".cpu", "CPU s/1000", r.cpu.Seconds() / float64(r.Conns) * 1000})
	}
	return all, nil
}

func resumedTest(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
	r, err := s.run(ctx, LoadJob{Kind: LoadConns, For: sc.rate, Resume: true}, m)
	if err != nil {
		return nil, err
	}
	if r.Resumed*10 < r.Conns*9 {
		return nil, fmt.Errorf("resumes %d of %d connections: %w", r.Resumed, r.Conns, errNotDone)
	}
	return rateValues(s, r)
}

func rttTest(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
	r, err := s.run(ctx, LoadJob{Kind: LoadRTT, For: sc.rtt}, m)
	if err != nil {
		return nil, err
	}
	if r.Error != "" {
		return nil, errors.New(r.Error)
	}
	return []value{{".p50", "µs", r.P50}, {".p99", "µs", r.P99}}, nil
}

// idleFor is how long idle connections may be held.
const idleFor = 2 * time.Minute

// memoryTest reads the memory of a fresh gateway, and again with idle
// connections.
func memoryTest(ctx context.Context, s *site, m mode, sc scale) (all []value, err error) {
	if s.peer == Direct {
		return nil, errNotDone
	}
	if err := s.stopGateway(); err != nil {
		return nil, err
	}
	if err := s.startGateway(ctx); err != nil {
		return nil, err
	}
	if err := sleep(ctx, sc.settle); err != nil {
		return nil, err
	}
	empty, err := pss(s.gateway.pid())
	if err != nil {
		return nil, err
	}
	l, err := s.startRole(ctx, lab.Client, s.cpus.load, RoleLoad, LoadJob{
		Kind: LoadIdle, Flows: sc.idle, For: idleFor, Targets: s.targets(m),
		TLS: &LoadTLS{Name: serverName, Roots: s.file("gateway-ca.pem"), Cert: s.file("client.pem"), Key: s.file("client.key")},
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.stop(0)) }()
	if err := l.say("go"); err != nil {
		return nil, err
	}
	o, err := l.outcome(idleFor)
	if err != nil {
		return nil, err
	}
	if o.Conns != int64(sc.idle) {
		return nil, fmt.Errorf("%d of %d idle connections stand: %s", o.Conns, sc.idle, o.Error)
	}
	if err := sleep(ctx, sc.settle); err != nil {
		return nil, err
	}
	full, err := pss(s.gateway.pid())
	if err != nil {
		return nil, err
	}
	const mib, kib = 1 << 20, 1 << 10
	return []value{
		{".0", "MiB", float64(empty) / mib},
		{fmt.Sprintf(".%d", sc.idle), "MiB", float64(full) / mib},
		{".each", "KiB/conn", float64(full-empty) / kib / float64(sc.idle)},
	}, nil
}

// lossTest is one download while 0.5 % of the data packets towards the client are lost.
// Compare it with direct, where the kernel sends.
func lossTest(ctx context.Context, s *site, m mode, sc scale) (all []value, err error) {
	restore, err := s.lossy()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	r, err := s.run(ctx, LoadJob{Kind: LoadDown, Flows: 1, For: sc.loss}, m)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return nil, err
	}
	all = []value{{"", "Mbit/s", float64(r.Bytes) * 8 / 1e6 / r.Seconds}}
	if s.peer != Direct {
		all = append(all, value{".cpu", "CPU s/GiB", r.cpu.Seconds() / (float64(r.Bytes) / (1 << 30))})
	}
	return all, nil
}

// floodTest is the rate of legitimate connections without and with spoofed SYNs, and how many
// connections the SYNs caused at the destination. The SYNs go to an address of their own, so that
// their connections are told apart.
func floodTest(ctx context.Context, s *site, m mode, sc scale) (all []value, err error) {
	quiet, err := s.run(ctx, LoadJob{Kind: LoadConns, For: sc.quiet}, m)
	if err != nil {
		return nil, err
	}
	target := s.floodTarget(m)
	before, err := s.accepted(target.Addr())
	if err != nil {
		return nil, err
	}
	f, err := s.startRole(ctx, lab.Client, s.cpus.load, RoleFlood, FloodJob{To: target, Rate: floodRate, For: sc.flood})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.stop(0)) }()
	if err := f.say("go"); err != nil {
		return nil, err
	}
	busy, err := s.run(ctx, LoadJob{Kind: LoadConns, For: sc.flood * 9 / 10}, m)
	if err != nil {
		return nil, err
	}
	done, err := f.flooded(sc.flood)
	if err != nil {
		return nil, err
	}
	if float64(done.Sent) < 0.9*floodRate*sc.flood.Seconds() {
		return nil, fmt.Errorf("%d spoofed SYNs were sent in %v, want %d a second (%d failed: %s)", done.Sent, sc.flood, floodRate, done.Failed, done.Error)
	}
	after, err := s.accepted(target.Addr())
	if err != nil {
		return nil, err
	}
	calm, stormy := float64(quiet.Conns)/quiet.Seconds, float64(busy.Conns)/busy.Seconds
	return []value{
		{".quiet", "conn/s", calm},
		{".during", "conn/s", stormy},
		{".kept", "of quiet", stormy / calm},
		{".failed", "connections", float64(busy.Failed)},
		{".upstream", "connections", float64(after - before)},
	}, nil
}

func (c *child) flooded(after time.Duration) (f Flooded, err error) {
	line, err := c.line(after + bulkSlack)
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal([]byte(line), &f)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
