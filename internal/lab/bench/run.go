package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
)

// Options of a run.
type Options struct {
	// Self is this program, which must hand the roles to Role and Pin.
	Self string
	// Binary is sslgate, built as it is used.
	Binary string
	// Quick makes one round of tests of a quarter of a second.
	Quick bool
	// Rounds of all tests; the peers take turns inside each. Default 3, with
	// Quick 1.
	Rounds int
	// Only keeps the tests that begin with one of these words. Default all but
	// those over a long line.
	Only []string
	// Peers that take part. Default all.
	Peers []Peer
	// Receive says which CPU does the receive work of each machine. Default both ways, with
	// Quick ReceiveSender.
	Receive Receive
	// Engine makes sslgate's handshakes: "std" or "native"; "" means std.
	Engine string
	// Sender is what sslgate sends with: "paced" or "netstack"; "" means paced.
	Sender string
	// Profile is the directory for a CPU profile of sslgate for every test and
	// round; "" for none. Profiled figures are a little lower.
	Profile string
	// JSON and Markdown are ways to print the rows, instead of a table.
	JSON, Markdown bool
	// Hold makes it an error if a promised figure is missed: see notHeld.
	Hold bool
}

// ErrUsage is wrapped by errors about wrong options or a machine that cannot measure.
var ErrUsage = errors.New("nothing was measured")

// ErrPartial is the error of a run in which something failed. It has printed all other results.
var ErrPartial = errors.New("not everything was measured")

// maxRounds bounds Options.Rounds: about five hours.
const maxRounds = 50

// The walk of a run:
//
//  1. say what this machine is
//  2. build a lab for every peer, with its gateway and an origin
//  3. check that each does what it will be measured at (LoadCheck)
//  4. rounds: for every test, every peer in turn, beginning with another one
//     each round
//  5. print medians, spread and ratios
//  6. end everything and take the labs down

type run struct {
	opt     Options
	scale   scale
	tests   []test
	ways    []Receive
	log     io.Writer
	start   time.Time
	sites   []*site
	results *results
	failed  []string
}

// Run measures and prints to stdout; progress goes to stderr. Everything that it has started has
// ended when it returns.
func Run(ctx context.Context, opt Options, stdout, stderr io.Writer) (err error) {
	r := &run{
		opt: opt, scale: fullScale(), log: stderr, start: time.Now(),
		results: newResults(),
	}
	if err := r.prepare(); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	// Every wait below has its own bound; this one is for their sum.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.opt.Rounds)*15*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "sslgate-bench-")
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range r.sites {
			err = errors.Join(err, s.close())
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	about, cpus, err := machine()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	fmt.Fprintln(r.log, about)
	if err := r.build(ctx, dir, cpus); err != nil {
		return err
	}
	for round := range r.opt.Rounds {
		if err := r.round(ctx, round); err != nil {
			return err
		}
	}
	return r.print(stdout, about)
}

// prepare checks options and machine and fills in defaults.
func (r *run) prepare() error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces, TPROXY and raw sockets need root: type `sudo scripts/bench`")
	}
	if r.opt.Quick {
		r.scale = quickScale()
	}
	if r.opt.Rounds == 0 {
		r.opt.Rounds = 3
		if r.opt.Quick {
			r.opt.Rounds = 1
		}
	}
	if r.opt.Rounds < 1 || r.opt.Rounds > maxRounds {
		return fmt.Errorf("%d rounds: 1 to %d are possible", r.opt.Rounds, maxRounds)
	}
	if r.opt.Receive == "" {
		r.opt.Receive = ReceiveBoth
		if r.opt.Quick {
			r.opt.Receive = ReceiveSender
		}
	}
	var err error
	if r.ways, err = r.opt.Receive.ways(); err != nil {
		return err
	}
	if len(r.opt.Peers) == 0 {
		r.opt.Peers = Peers()
	}
	for _, p := range r.opt.Peers {
		if !slices.Contains(Peers(), p) {
			return fmt.Errorf("no peer %q: %v", p, Peers())
		}
	}
	for _, t := range allTests() {
		if len(r.opt.Only) == 0 && !t.far || slices.ContainsFunc(r.opt.Only, func(word string) bool { return strings.HasPrefix(t.name, word) }) {
			r.tests = append(r.tests, t)
		}
	}
	for _, word := range r.opt.Only {
		if !slices.ContainsFunc(r.tests, func(t test) bool { return strings.HasPrefix(t.name, word) }) {
			return fmt.Errorf("no test begins with %q: %s", word, strings.Join(TestNames(), " "))
		}
	}
	needs := []string{"nft"}
	if slices.Contains(r.opt.Peers, HAProxy) {
		needs = append(needs, "haproxy")
	}
	if slices.Contains(r.opt.Peers, Stunnel) {
		needs = append(needs, "stunnel")
	}
	for _, name := range needs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not installed: type `scripts/deps bench`, or choose --peers", name)
		}
	}
	if slices.Contains(r.opt.Peers, SSLGate) {
		path, err := filepath.Abs(r.opt.Binary)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return fmt.Errorf("sslgate: %w (type `scripts/build`, or use --sslgate)", err)
		}
		r.opt.Binary = path
	}
	if r.opt.Profile == "" {
		return nil
	}
	dir, err := filepath.Abs(r.opt.Profile)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	r.opt.Profile = dir
	return err
}

// build makes a site for every peer that has something to do, and checks it.
func (r *run) build(ctx context.Context, dir string, c cpus) error {
	for _, p := range Peers() {
		for _, far := range []bool{false, true} {
			if !slices.Contains(r.opt.Peers, p) || !slices.ContainsFunc(r.tests, func(t test) bool { return p.does(t.mode) && t.far == far }) {
				continue
			}
			s := &site{peer: p, far: far, self: r.opt.Self, binary: r.opt.Binary, dir: filepath.Join(dir, fmt.Sprintf("%s-%t", p, far)), cpus: c}
			if err := r.buildSite(ctx, s); err != nil {
				return err
			}
		}
	}
	if len(r.sites) == 0 {
		return fmt.Errorf("%w: none of these peers does any of these tests", ErrUsage)
	}
	return ctx.Err()
}

// buildSite makes one site, and finds out what its peer cannot do.
func (r *run) buildSite(ctx context.Context, s *site) error {
	r.progress("%-8s lab, origin and gateway", s.peer)
	s.engine, s.sender = r.opt.Engine, r.opt.Sender
	if s.peer == SSLGate && r.opt.Profile != "" {
		s.profile = filepath.Join(r.opt.Profile, "now.prof")
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return err
	}
	r.sites = append(r.sites, s)
	if err := s.build(ctx); err != nil {
		if errors.Is(err, lab.ErrHelp) {
			return fmt.Errorf("%w: %s", ErrUsage, lab.Help(err))
		}
		return fmt.Errorf("%s: %w", s.peer, err)
	}
	s.unfit = map[mode]bool{}
	for _, m := range modes() {
		if !s.peer.does(m) || !slices.ContainsFunc(r.tests, func(t test) bool { return t.mode == m && t.far == s.far }) {
			continue
		}
		if err := r.check(ctx, s, m); err != nil {
			s.unfit[m] = true
			r.fail("%s is not measured in mode %s: %v", s.peer, m, err)
		}
	}
	return nil
}

// checkFlows is how many uploads and as many downloads are compared at once.
const checkFlows = 4

func (r *run) check(ctx context.Context, s *site, m mode) error {
	o, err := s.run(ctx, LoadJob{Kind: LoadCheck, Flows: checkFlows, Bytes: r.scale.check}, m)
	if err == nil && o.Error != "" {
		err = errors.New(o.Error)
	}
	return err
}

// round makes every test once with every peer.
func (r *run) round(ctx context.Context, round int) error {
	for i, t := range r.tests {
		for _, way := range r.ways {
			for j := range r.sites {
				if err := ctx.Err(); err != nil {
					return err
				}
				s := r.sites[(i+j+round)%len(r.sites)]
				if t.far != s.far || !s.peer.does(t.mode) || s.unfit[t.mode] {
					continue
				}
				if err := r.once(ctx, s, t, way, round); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// once makes a test with one peer, one way. Its error ends the run.
func (r *run) once(ctx context.Context, s *site, t test, way Receive, round int) error {
	all, err := r.measure(ctx, s, t, way, round)
	where := fmt.Sprintf("round %d/%d  %-14s %-8s", round+1, r.opt.Rounds, way.name(t), s.peer)
	switch {
	case errors.Is(err, errNotDone):
		r.progress("%s -", where)
	case err != nil:
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		r.fail("%s %v", where, err)
	default:
		var b strings.Builder
		for _, v := range all {
			r.results.add(way.name(t), s.peer, v)
			fmt.Fprintf(&b, " %s %s ", number(v.value).text(3), v.unit)
		}
		r.progress("%s%s", where, b.String())
	}
	return nil
}

// measure runs one test with one peer, with a profile where one is wanted.
func (r *run) measure(ctx context.Context, s *site, t test, way Receive, round int) (all []value, err error) {
	if err := s.receive(way); err != nil {
		return nil, err
	}
	if t.prepare != nil {
		if err := t.prepare(ctx, s); err != nil {
			return nil, err
		}
	}
	if s.profile == "" || t.restarts {
		return t.run(ctx, s, t.mode, r.scale)
	}
	part := s.profile + ".part"
	if err := s.toggleProfile(part); err != nil {
		return nil, err
	}
	all, err = t.run(ctx, s, t.mode, r.scale)
	if err := errors.Join(err, s.toggleProfile(s.profile)); err != nil {
		return nil, err
	}
	return all, os.Rename(s.profile, filepath.Join(r.opt.Profile, fmt.Sprintf("%s-%d.prof", way.name(t), round+1)))
}

// toggleProfile starts or ends sslgate's profile, and waits for the file that shows it.
func (s *site) toggleProfile(shows string) error {
	if err := s.gateway.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	return s.gateway.await(func() bool {
		_, err := os.Stat(shows)
		return err == nil
	})
}

// print writes the rows in the form that was asked for.
func (r *run) print(stdout io.Writer, about string) error {
	rows := r.results.rows()
	switch {
	case r.opt.JSON:
		if err := writeJSON(stdout, rows); err != nil {
			return err
		}
	case r.opt.Markdown:
		fmt.Fprintf(stdout, "%s; %d rounds.\n\n", about, r.opt.Rounds)
		newTable(rows).markdown(stdout)
	default:
		fmt.Fprintf(stdout, "\n%s\nmedian of %d rounds (lowest-highest); /peer is sslgate's figure by that peer's\n\n", about, r.opt.Rounds)
		newTable(rows).write(stdout)
	}
	var err error
	if len(r.failed) > 0 {
		err = fmt.Errorf("%w:\n  %s", ErrPartial, strings.Join(r.failed, "\n  "))
	}
	if r.opt.Hold {
		if missed := notHeld(rows); len(missed) > 0 {
			err = errors.Join(err, fmt.Errorf("%w:\n  %s", ErrNotHeld, strings.Join(missed, "\n  ")))
		}
	}
	return err
}

func (r *run) progress(format string, args ...any) {
	fmt.Fprintf(r.log, "[%4ds] %s\n", int(time.Since(r.start).Seconds()), fmt.Sprintf(format, args...))
}

func (r *run) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.failed = append(r.failed, text)
	r.progress("FAILED %s", text)
}
