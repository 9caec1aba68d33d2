package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a run.
type Options struct {
	// Binary is sslgate, built as it is to be tried.
	Binary string
	// Engine makes the handshakes: "std" or "native"; "" means std.
	Engine string
	// Race says that Binary has the race detector: transfers are shorter then.
	Race bool
	// For is how long load is made, at least 10 seconds; quiet moments count.
	For time.Duration
	// Inject makes one fault that the run must find: "corrupt" flips a bit of a download,
	// "lost-record" loses a line of the audit log, "held" leaves a connection open over the
	// quiet moments. "" is none.
	Inject string
	// Local makes half of the clients programs of the gateway's own host, and the other half
	// clients of services on that host.
	Local bool
	// JSON prints the report as one object instead of a table.
	JSON bool
	// Dir keeps the configuration, the audit log and the gateway's log; "" means a temporary
	// directory that is removed.
	Dir string
}

// ErrUsage is wrapped by errors about wrong options or a machine that cannot run a gateway.
var ErrUsage = errors.New("nothing was tried")

// ErrFailed is the error of a run that has found something wrong; the report
// says what.
var ErrFailed = errors.New("something is wrong")

// The walk of a run:
//
//  1. make the lab, start origins and the gateway
//  2. a round: load of every kind, a reload in the middle, CRLs exchanged and
//     an origin restarted all the time
//  3. a quiet moment: wait until nothing is under way, then hold all accounts
//     against each other, look for growth, and forget
//  4. 2 and 3 until the time is over
//  5. end the gateway in order and print the report
type run struct {
	opt    Options
	site   *site
	book   *book
	log    io.Writer
	saying sync.Mutex // guards log
	start  time.Time
	ports  ports
	ids    atomic.Uint64
	rounds int
	quiet  []Sample
	inject struct{ corrupt, lose atomic.Bool }
	held   []io.Closer
	stalls atomic.Int64 // of the machine

	upgrades bool   // failures are counted, not complained about; see upgrades.go
	shakes   shakes // of short clients
}

const (
	// minFor is enough for one short round.
	minFor = 10 * time.Second
	// crlEvery and restartEvery are how often the revocation list is exchanged
	// and the restarted origin is down.
	crlEvery     = 12 * time.Second
	restartEvery = 4 * time.Second
	downFor      = 300 * time.Millisecond
	// settleTime bounds the wait for a quiet moment: a longer wait is a problem. A client's
	// longest connection takes about patience. It is testenv's patience on the slowest machine.
	settleTime = 2 * time.Minute
	// progressEvery is how often a line reports the progress.
	progressEvery = 10 * time.Second
)

// Run makes the load and prints the report to stdout; progress goes to stderr.
func Run(ctx context.Context, opt Options, stdout, stderr io.Writer) error {
	r := &run{opt: opt, book: newBook(), log: stderr, start: time.Now()}
	r.book.tell = func(problem string) { r.say("PROBLEM  " + problem) }
	if opt.For < minFor {
		return fmt.Errorf("%w: %v is too short, at least %v", ErrUsage, opt.For, minFor)
	}
	if !slices.Contains([]string{"", "corrupt", "lost-record", "held"}, opt.Inject) {
		return fmt.Errorf("%w: no fault is called %q", ErrUsage, opt.Inject)
	}
	return r.inLab(opt.Binary, opt.Dir, opt.Engine, "sslgate-soak-", patience(opt.For), func() error {
		r.site.steady.corrupt = &r.inject.corrupt
		r.inject.corrupt.Store(opt.Inject == "corrupt")
		r.inject.lose.Store(opt.Inject == "lost-record")
		return r.all(ctx, stdout)
	})
}

// all is the run once the lab is set up.
func (r *run) all(ctx context.Context, stdout io.Writer) (err error) {
	err = r.site.start(r.opt.Binary)
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	var reader sync.WaitGroup
	reader.Go(func() {
		t := &tail{path: r.site.file("audit.jsonl"), book: r.book, lose: &r.inject.lose}
		if err := t.run(reading); err != nil {
			r.book.complain("reading the audit log: %v", err)
		}
	})
	if err == nil {
		err = r.load(ctx)
	}
	if serr := r.site.stop(); serr != nil {
		r.book.complain("%v", serr)
	}
	stopReading()
	reader.Wait()
	if err != nil {
		return err
	}
	report := r.report()
	if r.opt.JSON {
		if err := report.writeJSON(stdout); err != nil {
			return err
		}
	} else {
		report.write(stdout)
	}
	if len(report.Problems) > 0 {
		return ErrFailed
	}
	return nil
}

// patience is short for a short run, because silent clients wait for its end before each quiet
// moment. It is longer than the pauses of a busy machine.
func patience(whole time.Duration) time.Duration {
	if whole < time.Minute {
		return 3 * time.Second
	}
	return 10 * time.Second
}

// roundTime is the length of a round: a minute, or less for a short run, so that there are
// several quiet moments to compare.
func roundTime(whole time.Duration) time.Duration {
	return max(5*time.Second, min(time.Minute, whole/6))
}

// load makes rounds until the time is over, ctx ends or the gateway has ended.
func (r *run) load(ctx context.Context) error {
	until := r.start.Add(r.opt.For)
	each := roundTime(r.opt.For)
	defer func() {
		for _, c := range r.held {
			_ = c.Close()
		}
	}()
	for r.rounds == 0 || time.Now().Before(until) {
		r.rounds++
		if err := r.round(ctx, each); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			r.progress("interrupted")
			return nil
		}
		select {
		case <-r.site.gateway.Done():
			r.book.complain("the gateway ended by itself (%v):\n%s", r.site.gateway.Wait(), r.site.log.tail())
			return nil
		default:
		}
		if err := r.quietMoment(ctx); err != nil {
			return err
		}
	}
	return nil
}

// round makes the load for so long, and waits until its clients are done.
func (r *run) round(ctx context.Context, each time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, each)
	defer cancel()
	var wg sync.WaitGroup
	for _, g := range groups() {
		for i := range g.clients {
			wg.Go(func() { r.client(ctx, g, i) })
		}
	}
	var errs [3]error
	wg.Go(func() {
		if sleep(ctx, each/3) {
			errs[0] = r.site.swapCRL()
		}
		errs[0] = errors.Join(errs[0], every(ctx, crlEvery, r.site.swapCRL))
	})
	wg.Go(func() {
		errs[1] = every(ctx, restartEvery, func() error {
			r.site.flaky.stop()
			sleep(ctx, downFor)
			return r.site.flaky.start()
		})
	})
	wg.Go(func() {
		if sleep(ctx, each/2) {
			errs[2] = r.site.reload(ctx)
		}
	})
	wg.Go(func() { r.watchMachine(ctx) })
	wg.Go(func() { _ = every(ctx, progressEvery, func() error { r.line(ctx); return nil }) })
	if r.opt.Inject == "held" && r.rounds == 1 {
		wg.Go(func() { r.hold(ctx) })
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// client makes connections until ctx ends; a connection that has begun is completed.
func (r *run) client(ctx context.Context, g group, n int) {
	for i := n; ctx.Err() == nil; i++ {
		r.try(context.WithoutCancel(ctx), &g.kinds[i%len(g.kinds)])
		sleep(ctx, g.pause/2+time.Duration(rand.Int64N(int64(g.pause)+1)))
	}
}

// try makes one connection and adds it to the book.
func (r *run) try(ctx context.Context, k *kind) {
	t := &try{site: r.site, want: want{kind: k.name, id: r.ids.Add(1), outcomes: k.outcomes}, bulk: 16 << 20}
	if r.opt.Race {
		t.bulk = 4 << 20
	}
	raw, err := t.connect(ctx, &r.ports, k.server, k.port)
	switch {
	case r.upgrades:
		t.want.err = r.tolerant(t, k, raw, err)
	case err != nil && !k.unconnected:
		r.book.complain("%s %s: connect: %v", k.name, t.want.key, err)
	case err == nil && k.unconnected:
		r.book.complain("%s %s: connected, and should have been refused", k.name, t.want.key)
	case err == nil:
		if err := k.talk(t, raw); err != nil {
			r.book.complain("%s %s: %v", k.name, t.want.key, err)
		}
	}
	if raw != nil {
		_ = raw.Close()
		t.want.sent, t.want.got = t.c.out.Load(), t.c.in.Load()
	}
	t.want.ended = time.Now()
	r.book.client(t.want)
}

// watchMachine reports pauses of the machine. Delays by a pause are not the gateway's fault, but
// they still count.
func (r *run) watchMachine(ctx context.Context) {
	const tick, still = 100 * time.Millisecond, time.Second
	for last := time.Now(); sleep(ctx, tick); last = time.Now() {
		if took := time.Since(last); took > still {
			r.stalls.Add(1)
			r.progress("this machine stood still for %v", took.Round(100*time.Millisecond))
		}
	}
}

// hold leaves a connection open and does not report it.
func (r *run) hold(ctx context.Context) {
	t := &try{site: r.site}
	raw, err := t.connect(context.WithoutCancel(ctx), &r.ports, 0, portPay)
	if err == nil {
		r.held = append(r.held, raw)
		err = t.speak(raw, nil)
	}
	if err != nil {
		r.book.complain("the held connection: %v", err)
	}
}

// quietMoment waits until no connection is active, and compares everything.
func (r *run) quietMoment(ctx context.Context) error {
	var m samples
	for deadline := time.Now().Add(settleTime); ; time.Sleep(200 * time.Millisecond) {
		var err error
		if m, err = r.site.metrics(ctx); err != nil {
			return err
		}
		live, lingering := m.one("sslgate_flows_live"), m.one("sslgate_flows_lingering")
		if live == 0 && lingering == 0 && r.book.even() {
			break
		}
		if time.Now().After(deadline) || r.opt.Inject != "" && time.Since(deadline) > -settleTime+12*time.Second {
			r.book.complain("round %d does not come to rest: %v flows live, %v lingering, clients made %d, %d are recorded",
				r.rounds, live, lingering, r.book.counts().begun, r.book.counts().written)
			break
		}
	}
	x, m, err := r.site.look(ctx, r.start)
	if err != nil {
		return err
	}
	r.quiet = append(r.quiet, x)
	r.book.settle()
	r.book.againstMetrics(m, r.site.steady.accepted.Load()+r.site.retls.accepted.Load())
	if n := int(m.one("sslgate_config_reloads_total", "result", "taken")); n != r.site.reloads {
		r.book.complain("%d reloads were asked for, /metrics counts %d", r.site.reloads, n)
	}
	for _, line := range r.site.log.complaints() {
		r.book.complain("the gateway says: %s", line)
	}
	c := r.book.counts()
	r.progress("quiet  %d flows settled, %s compared, heap %s, rss %s, %d goroutines, %d fds, %d problems",
		c.begun, size(c.exactBytes), size(x.Heap), size(x.RSS), x.Goroutines, x.FDs, r.book.failed())
	return nil
}

// line reports the progress in the middle of a round.
func (r *run) line(ctx context.Context) {
	m, err := r.site.metrics(ctx)
	if err != nil {
		return // the round is over, or its end will say so
	}
	rss, fds, err := process(r.site.gateway.Process.Pid)
	if err != nil {
		return
	}
	c := r.book.counts()
	r.progress("load   %d flows, %v live, %s compared, rss %s, %v goroutines, %d fds, %d problems",
		c.begun, m.one("sslgate_flows_live"), size(c.exactBytes), size(rss), m.one("go_goroutines"), fds, r.book.failed())
}

func (r *run) progress(format string, args ...any) {
	r.say(fmt.Sprintf("round %d  %s", r.rounds, fmt.Sprintf(format, args...)))
}

// say writes one line; any goroutine may call it.
func (r *run) say(line string) {
	r.saying.Lock()
	defer r.saying.Unlock()
	fmt.Fprintf(r.log, "[%5ds] %s\n", int(time.Since(r.start).Seconds()), line)
}

// every calls f again and again until ctx ends or it fails.
func every(ctx context.Context, d time.Duration, f func() error) error {
	for sleep(ctx, d) {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits; false means that ctx has ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return ctx.Err() == nil
	}
}
