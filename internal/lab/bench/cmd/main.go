// Command bench measures sslgate beside its peers; scripts/bench builds and
// runs it, docs/benchmarks.md explains it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/sslgate/sslgate/internal/lab/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without a process: 0 is good, 1 means that something was not
// measured or, with -hold, did not hold, 2 wrong usage.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && strings.HasPrefix(args[0], "role-") {
		return role(args, stdin, stdout, stderr)
	}
	opt, err := options(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 2
	}
	err = bench.Run(ctx, opt, stdout, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, bench.ErrUsage):
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 2
	}
	fmt.Fprintf(stderr, "bench: %v\n", err)
	return 1
}

func options(args []string, stderr io.Writer) (opt bench.Options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "Usage: scripts/bench [flags]\nMeasures sslgate beside its peers, as root; docs/benchmarks.md explains it.\n\n")
		f.PrintDefaults()
		fmt.Fprintf(stderr, "\ntests: %s\npeers: %v\n", strings.Join(bench.TestNames(), " "), bench.Peers())
	}
	f.StringVar(&opt.Binary, "sslgate", "bin/sslgate", "the sslgate `binary`")
	f.StringVar(&opt.Engine, "engine", "", "what makes sslgate's handshakes, `std` or native")
	f.StringVar((*string)(&opt.Receive), "receive", "", "the CPU that receives a machine's packets: `sender`, own (rps_cpus), or both (default both, with -quick sender)")
	f.StringVar(&opt.Sender, "sender", "", "what sslgate sends with, `paced` or netstack (tun.sender)")
	f.BoolVar(&opt.Quick, "quick", false, "less than a minute in all; the figures are rough")
	f.IntVar(&opt.Rounds, "rounds", 0, "`number` of rounds (default 3, with -quick 1)")
	f.StringVar(&opt.Profile, "profile", "", "write a CPU profile of sslgate for every test into `DIR`")
	f.BoolVar(&opt.JSON, "json", false, "print one JSON object a row")
	f.BoolVar(&opt.Hold, "hold", false, "exit with 1 where clients keep less than 0.8 of their rate, or one of their connections fails, while one address attacks (assault-...)")
	f.BoolVar(&opt.Markdown, "markdown", false, "print the table as Markdown")
	f.Func("only", "`TESTS` separated by commas, or how their names begin", func(s string) error {
		opt.Only = append(opt.Only, strings.Split(s, ",")...)
		return nil
	})
	f.Func("peers", "`PEERS` separated by commas", func(s string) error {
		for p := range strings.SplitSeq(s, ",") {
			opt.Peers = append(opt.Peers, bench.Peer(p))
		}
		return nil
	})
	if err := f.Parse(args); err != nil {
		return opt, err
	}
	if f.NArg() > 0 {
		return opt, fmt.Errorf("%q is not a flag: see -help", f.Arg(0))
	}
	if opt.Self, err = os.Executable(); err != nil {
		return opt, err
	}
	return opt, nil
}

// role is this program inside a namespace.
func role(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := fmt.Errorf("%s: too few arguments", args[0])
	switch {
	case args[0] == bench.RolePin && len(args) >= 3:
		var cpu int
		if cpu, err = strconv.Atoi(args[1]); err == nil {
			err = bench.Pin(cpu, args[2:])
		}
	case args[0] != bench.RolePin && len(args) == 2:
		err = bench.Role(args[0], args[1], stdin, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench %s: %v\n", args[0], err)
		return 1
	}
	return 0
}
