package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
)

// UpgradeOptions of RunUpgrades.
type UpgradeOptions struct {
	Binary string // sslgate, as it is to be tried
	Engine string // as in Options
	Dir    string // as in Options
	N      int    // hand-overs
	Seed   uint64 // of the moments at which a process is killed
}

// Upgrades is what a run of hand-overs has found.
type Upgrades struct {
	HandOvers, Killed  int
	Flows, Failed      int64 // connections by clients; those that failed though nobody was killed
	Held               int   // connections that were held over a hand-over
	Quiet, During      time.Duration
	QuietOf, DuringOf  int // handshakes that the two times are the 99th percentile of
	Problems, Failures []string
}

// The walk of a run of hand-overs:
//
//  1. make the lab, start origins and the gateway
//  2. the load of a soak, and under it four hand-overs from process to process
//  3. a quiet moment: all accounts must agree, over all processes
//  4. the same load and one hand-over, in which the older or the newer process is killed;
//     then a quiet moment: what a living process had must be whole
//  5. 2 to 4 until there were so many
//
// What a killed process had, and what began before another one served, is excused.
type upgrades struct {
	*run
	opt   UpgradeOptions
	rng   *rand.Rand
	out   *os.File // of all gateways
	main  int      // the process that has the steering
	spans []span   // of hand-overs
	lost  losses
	sum   Upgrades
}

const (
	// upgradeWatch is how long a new process is watched.
	upgradeWatch = time.Second
	// upgradeGap is the load between two hand-overs: what is quiet is measured there.
	upgradeGap = 2 * time.Second
	// lostBefore is how long before a kill records may be lost with it: they are written in
	// batches, on a busy machine late.
	lostBefore = 5 * time.Second
	// lostAfter is how long after it another process may yet take over what comes in.
	lostAfter = time.Second
	// heldFlows are held over each hand-over.
	heldFlows = 10
	// most is the share of new flows that may fail: one of so many.
	mostFailed = 10_000
	// slower bounds the 99th percentile of handshakes during hand-overs, as a multiple of quiet.
	slower = 3
	// judged is the number of hand-overs from which that is judged: before it is noise.
	judged = 20
	killed = 5 // every fifth
)

// RunUpgrades makes hand-overs under load and prints what it found to stdout.
func RunUpgrades(ctx context.Context, opt UpgradeOptions, stdout, stderr io.Writer) error {
	r := &run{opt: Options{Binary: opt.Binary}, book: newBook(), log: stderr, start: time.Now(), upgrades: true}
	r.book.tell = func(problem string) { r.say("PROBLEM  " + problem) }
	if opt.N < 1 {
		return fmt.Errorf("%w: %d hand-overs", ErrUsage, opt.N)
	}
	return r.inLab(opt.Binary, opt.Dir, opt.Engine, "sslgate-upgrades-", patience(time.Minute), func() error {
		r.site.sourced, r.book.handOvers = true, true
		if err := r.site.writeConfig(); err != nil {
			return err
		}
		u := &upgrades{run: r, opt: opt, rng: rand.New(rand.NewPCG(opt.Seed, 1)), lost: losses{}}
		u.say(fmt.Sprintf("%d hand-overs, seed %d", opt.N, opt.Seed))
		return u.all(ctx, stdout)
	})
}

func (u *upgrades) all(ctx context.Context, stdout io.Writer) (err error) {
	if u.out, err = os.OpenFile(u.site.file("gateway.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	defer func() { _ = u.out.Close() }()
	for _, o := range u.site.origins() {
		if err := o.start(); err != nil {
			return err
		}
		defer o.stop()
	}
	cut, err := u.site.lab.Cut(lab.ServerAddr(cutServer, false), lab.ServerAddr(cutServer, true))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cut.Close()) }()
	c4, c6 := lab.ClientAddr(false), lab.ClientAddr(true)
	leaked, err := u.site.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool {
		return (p.Src.Addr() == c4 || p.Src.Addr() == c6) && p.Dst.Port() != portClient && (p.Dst.Port() > 0 || p.Fragment)
	})
	if err != nil {
		return err
	}
	defer func() { _ = leaked.Close() }()
	wire, err := u.site.lab.Sniff(lab.Gateway, lab.LANIface, u.book.syns.sniff)
	if err != nil {
		return err
	}
	defer func() { _ = wire.Close() }()
	resets, err := u.site.lab.Sniff(lab.Gateway, "", u.book.syns.sniffResets)
	if err != nil {
		return err
	}
	defer func() { _ = resets.Close() }()
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	var reader sync.WaitGroup
	reader.Go(func() {
		t := &tail{path: u.site.file("audit.jsonl"), book: u.book}
		if err := t.run(reading); err != nil {
			u.book.complain("reading the audit log: %v", err)
		}
	})
	if err = u.serve(ctx); err == nil {
		err = u.handOvers(ctx)
	}
	u.stop()
	stopReading()
	reader.Wait()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, u.logTail())
	}
	if cut.Count() == 0 {
		u.book.complain("no packet of a client came in fragments")
	}
	if n := leaked.Count(); n > 0 {
		u.book.complain("%d packets of clients passed uninspected: %v", n, leaked.Packets()[:min(n, 5)])
	}
	return u.report(stdout)
}

// handOvers makes them in blocks, each followed by a quiet moment.
func (u *upgrades) handOvers(ctx context.Context) error {
	for i := 0; i < u.opt.N; {
		kill := i%killed == killed-1
		n := min(killed-1-i%killed, u.opt.N-i)
		if kill {
			n = 1
		}
		err := u.underLoad(ctx, func(ctx context.Context) error {
			for range n {
				i++
				if err := u.handOver(ctx, i, kill); err != nil {
					return err
				}
				sleep(ctx, upgradeGap)
			}
			return ctx.Err()
		})
		if err == nil {
			err = u.rest(ctx, kill)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// underLoad makes the load of a soak while do runs, and waits until its clients are done.
func (u *upgrades) underLoad(ctx context.Context, do func(context.Context) error) error {
	load, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, g := range append(groups(), group{"sourced", 2, 20 * time.Millisecond, sourced()}, group{"in fragments", 2, 20 * time.Millisecond, inFragments()}, group{"refused at the SYN", 2, 10 * time.Millisecond, refusedSYNs()}) {
		for i := range g.clients {
			wg.Go(func() { u.client(load, g, i) })
		}
	}
	var errs [3]error
	wg.Go(func() {
		errs[0] = every(load, restartEvery, func() error {
			u.site.flaky.stop()
			sleep(load, downFor)
			return u.site.flaky.start()
		})
	})
	wg.Go(func() { errs[1] = every(load, crlEvery, u.site.swapCRL) })
	wg.Go(func() { errs[2] = u.lost.watch(load, u.site.lab, u.book.dropped) })
	wg.Go(func() { u.watchMachine(load) })
	sleep(ctx, upgradeGap)
	err := do(ctx)
	cancel()
	wg.Wait()
	return errors.Join(err, errs[0], errs[1], errs[2])
}

// sourced are short clients that the origin sees under their own address.
func sourced() []kind {
	return []kind{{name: "short sourced", port: portClient, outcomes: one(clean), talk: func(t *try, raw net.Conn) error {
		if err := t.speak(raw, nil); err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
		return t.whole(opEcho, 1+rand.Uint64N(4<<10))
	}}}
}

// inFragments are clients of every sort whose packets come in fragments, their SYNs too.
func inFragments() (all []kind) {
	for _, k := range slices.Concat(short(), bulk(), refused()) {
		if k.port == portPay || k.unconnected {
			k.name, k.server = k.name+", in fragments", cutServer
			all = append(all, k)
		}
	}
	return all
}

// refusedSYNs are clients that are refused at the SYN, in fragments and not.
func refusedSYNs() (all []kind) {
	for _, k := range slices.Concat(refused(), inFragments()) {
		if k.unconnected {
			all = append(all, k)
		}
	}
	return all
}

// tolerant returns what a client met instead of complaining.
func (r *run) tolerant(t *try, k *kind, raw net.Conn, err error) error {
	switch {
	case err != nil && !k.unconnected:
		return fmt.Errorf("connect: %w", err)
	case err == nil && k.unconnected:
		return errors.New("connected, and should have been refused")
	case err != nil:
		return nil //nolint:nilerr // that it could not connect is what was meant
	}
	err = k.talk(t, raw)
	if strings.HasPrefix(k.name, "short") && k.server == 0 && err == nil && t.shook > 0 {
		r.shakes.add(t.want.begun, t.shook)
	}
	return err
}

// rest waits until no connection is active, and compares everything.
func (u *upgrades) rest(ctx context.Context, kill bool) error {
	for end := time.Now().Add(settleTime); ; sleep(ctx, 200*time.Millisecond) {
		m, err := u.site.metrics(ctx)
		if err != nil {
			return err
		}
		if m.one("sslgate_flows_live") == 0 && m.one("sslgate_flows_lingering") == 0 && (kill || u.book.even()) {
			break
		}
		if time.Now().After(end) {
			c := u.book.counts()
			u.book.complain("after hand-over %d it does not come to rest: %v flows live, clients made %d, %d are recorded", u.sum.HandOvers, m.one("sslgate_flows_live"), c.begun, c.written)
			break
		}
	}
	m, err := u.still(ctx)
	if err != nil {
		return err
	}
	u.book.settle()
	accepted := u.site.steady.accepted.Load() + u.site.retls.accepted.Load()
	if kill {
		u.book.rebase(m, accepted)
		u.book.level()
	} else {
		u.book.againstMetrics(m, accepted)
	}
	c := u.book.counts()
	u.say(fmt.Sprintf("quiet: %d flows, %d problems; packets dropped where a queue was full: %s; by the guard: %s", c.begun, u.book.failed(), u.lost, dropped(m)))
	return nil
}

// dropped is what the guard has dropped, by reason.
func dropped(m samples) string {
	var all []string
	for _, s := range m["sslgate_guard_dropped_packets_total"] {
		if s.value > 0 {
			all = append(all, fmt.Sprintf("%s %.0f", s.labels["reason"], s.value))
		}
	}
	return strings.Join(all, ", ")
}

// still waits until no record has come for a second, neither by /metrics nor in the audit log,
// and returns the counters of that moment. After a kill nobody knows how many are to come.
func (u *upgrades) still(ctx context.Context) (samples, error) {
	last := [2]int64{-1, -1}
	for end := time.Now().Add(settleTime); ; sleep(ctx, time.Second) {
		m, err := u.site.metrics(ctx)
		if err != nil {
			return nil, err
		}
		now := [2]int64{int64(m.one("sslgate_audit_records_written_total")), u.book.counts().written}
		if now == last || time.Now().After(end) {
			return m, nil
		}
		last = now
	}
}

func (u *upgrades) stop() {
	if u.main == 0 {
		return
	}
	_ = syscall.Kill(u.main, syscall.SIGTERM)
	for end := time.Now().Add(startTimeout); alive(u.main); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			_ = syscall.Kill(u.main, syscall.SIGKILL)
			u.book.complain("the gateway did not stop on SIGTERM")
			return
		}
	}
}

func (u *upgrades) logTail() string {
	b, _ := os.ReadFile(u.site.file("gateway.log"))
	return string(b[max(0, len(b)-6000):])
}

func (u *upgrades) report(stdout io.Writer) error {
	s := &u.sum
	s.Flows = u.book.counts().begun
	u.book.mu.Lock()
	s.Failed, s.Failures = u.book.failed1, u.book.failures
	u.book.mu.Unlock()
	s.Quiet, s.QuietOf, s.During, s.DuringOf = u.shakes.p99(u.spans, u.book.disturbed)
	if s.Failed*mostFailed > s.Flows {
		u.book.complain("%d of %d new flows failed though nobody was killed: at most one in %d may", s.Failed, s.Flows, mostFailed)
	}
	if s.HandOvers >= judged && s.During > slower*s.Quiet {
		u.book.complain("the 99th percentile of handshakes during hand-overs is %v, quiet %v", s.During, s.Quiet)
	}
	u.book.mu.Lock()
	s.Problems = append(s.Problems, u.book.problems...)
	u.book.mu.Unlock()
	e := json.NewEncoder(stdout)
	e.SetIndent("", "  ")
	fmt.Fprintf(stdout, "%d hand-overs, %d of them with a kill: %d flows, %d failed; %d held, none lost; 99%% of handshakes within %v, during hand-overs within %v\n",
		s.HandOvers, s.Killed, s.Flows, s.Failed, s.Held, s.Quiet.Round(time.Millisecond), s.During.Round(time.Millisecond))
	if err := e.Encode(s); err != nil {
		return err
	}
	if len(s.Problems) > 0 {
		return ErrFailed
	}
	return nil
}

// disturb excuses what a killed process may have had.
func (b *book) disturb(s span) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.disturbed = append(b.disturbed, s)
}

// level makes the numbers of connections and records equal, once what was lost is settled.
func (b *book) level() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uneven = b.written - b.begun
}
