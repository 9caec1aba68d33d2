// Command soak loads a real gateway with every sort of client for as long as
// wanted; scripts/soak builds and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/internal/lab/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: 0 is good, 1 means that something is wrong with the gateway, 2
// wrong usage or a machine that cannot run it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opt, err := options(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "soak: %v\n", err)
		return 2
	}
	if opt.handOvers {
		err = soak.RunUpgrades(ctx, soak.UpgradeOptions{Binary: opt.Binary, Engine: opt.Engine, Dir: opt.Dir, N: opt.upgrades, Seed: opt.seed}, stdout, stderr)
	} else {
		err = soak.Run(ctx, opt.Options, stdout, stderr)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, soak.ErrUsage):
		fmt.Fprintf(stderr, "soak: %v\n", err)
		return 2
	}
	fmt.Fprintf(stderr, "soak: %v\n", err)
	return 1
}

// chosen are the options of either sort of run.
type chosen struct {
	soak.Options
	upgrades  int
	handOvers bool // upgrades was given
	seed      uint64
}

func options(args []string, stderr io.Writer) (opt chosen, err error) {
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, "Usage: scripts/soak [--race] [flags] [TIME]\nLoads a gateway with every sort of client for TIME (default 30m), as root.\n\n")
		f.PrintDefaults()
	}
	f.StringVar(&opt.Binary, "sslgate", "bin/sslgate", "the sslgate `binary`")
	f.BoolVar(&opt.Race, "race", false, "the binary has the race detector")
	f.BoolVar(&opt.Local, "local", false, "half of the clients are programs of the gateway's host, the other half clients of services on it")
	f.BoolVar(&opt.JSON, "json", false, "print the report as one JSON object")
	f.StringVar(&opt.Engine, "engine", "", "what makes the handshakes, `std` or native")
	f.StringVar(&opt.Dir, "dir", "", "keep configuration and audit log in `DIR`")
	f.StringVar(&opt.Inject, "inject", "", "make a `fault` that the run must find: corrupt, lost-record or held")
	f.IntVar(&opt.upgrades, "upgrades", 0, "make `N` hand-overs under load instead; scripts/upgrades does")
	f.Uint64Var(&opt.seed, "seed", uint64(time.Now().UnixNano()), "of the moments at which a process is killed, with -upgrades")
	if err := f.Parse(args); err != nil {
		return opt, err
	}
	f.Visit(func(set *flag.Flag) { opt.handOvers = opt.handOvers || set.Name == "upgrades" })
	if opt.handOvers && f.NArg() > 0 {
		return opt, fmt.Errorf("%q is one argument too many", f.Arg(0))
	}
	opt.For = 30 * time.Minute
	if f.NArg() > 1 {
		return opt, fmt.Errorf("%q is one argument too many", f.Arg(1))
	}
	if f.NArg() == 1 {
		if opt.For, err = time.ParseDuration(f.Arg(0)); err != nil {
			return opt, fmt.Errorf("%q is no time: 2m, 30m or 8h", f.Arg(0))
		}
	}
	return opt, nil
}
