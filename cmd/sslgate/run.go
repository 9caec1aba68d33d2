package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/internal/applog"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/service"
)

func newRunCmd(stdout, stderr io.Writer) *cobra.Command {
	var file string
	var over takeOver
	cmd := &cobra.Command{
		Use:   "run [FILE]",
		Short: "Run the gateway until SIGTERM",
		Long: `Run the gateway: set guard and steering, open the TUN, decide and relay every
captured flow, write one audit record for each.

SIGHUP reloads the configuration, all of it or nothing. SIGTERM or SIGINT
drains: no new flows are taken and the live ones have limits.drain to end; a
second signal ends them at once. Unless fail is "open", captured traffic goes
nowhere after that, until the next start or "sslgate release".

Exit code 0: it was stopped by a signal. 1: it failed. 2: the configuration is
not usable. 3: "sslgate drain" was asked for, and nothing should start it again.`,
		Example: "  sslgate run -c sslgate.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := configFile(cmd, file, args)
			if err != nil {
				return err
			}
			opt := service.Options{File: file, Stdout: stdout, Version: version(), Sandbox: true}
			rt, found, err := runtimeOf(cmd.Context(), &opt, stderr)
			if err != nil {
				return err
			}
			if opt.Fleet != nil {
				defer opt.Fleet.Close()
			}
			for _, f := range found {
				level := zapcore.ErrorLevel
				if f.Warning {
					level = zapcore.WarnLevel
				}
				fmt.Fprint(applog.At(level, stderr), f.Format(isTerminal(stderr)))
			}
			if rt == nil {
				return &exitError{code: 2, err: fmt.Errorf("%s is not usable; nothing was started or changed", file)}
			}
			if opt.Log == nil {
				logTo(&opt, rt.Config, stderr)
			}
			defer func() { _ = opt.Log.Sync() }() // what was left out last; standard error may not be a file that syncs
			if p := os.Getenv(profileEnv); p != "" {
				opt.Writable = append(opt.Writable, filepath.Dir(p))
			}
			if opt.TakeOver, err = over.options(); err != nil {
				return err
			}
			if over.on {
				// Its output may be a pipe to a terminal that is closed once sslgate upgrade has
				// ended: then lines are lost, and the gateway is not.
				signal.Ignore(syscall.SIGPIPE)
			}
			defer profileOnSignal(opt.Log)()
			return ranUntil(service.Run(cmd.Context(), rt, opt))
		},
	}
	configFlag(cmd, &file)
	over.flags(cmd)
	return cmd
}

// logTo makes the log of a gateway.
func logTo(opt *service.Options, c *config.Config, stderr io.Writer) {
	log, level := applog.New(c.Log.Level, c.Log.Format, stderr)
	opt.Log, opt.Level = log, &level
}

// runtimeOf is the configuration to run, of opt.File or of the fleet that it names.
func runtimeOf(ctx context.Context, opt *service.Options, stderr io.Writer) (*config.Runtime, []config.Finding, error) {
	own, found := config.InFleet(opt.File)
	if own == nil && found == nil {
		return checkUntilSignal(ctx, opt.File)
	}
	if own == nil {
		return nil, found, nil
	}
	var err error
	if opt.File, err = filepath.Abs(opt.File); err != nil {
		return nil, nil, err
	}
	logTo(opt, own, stderr)
	start, err := startInFleet(ctx, opt.File, own, opt.Log)
	if err != nil {
		return nil, nil, &exitError{code: 1, err: err}
	}
	opt.Fleet, opt.Bundle = start.member, start.bundle
	opt.Writable = append(opt.Writable, own.Fleet.State)
	return start.rt, append(start.found, hostFindings(start.rt)...), nil
}

// exitDrained is the exit code after which dist/systemd/sslgate.service does not restart.
const exitDrained = 3

// ranUntil returns the exit code for the error with which the gateway has ended.
func ranUntil(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, service.ErrDrained):
		return &exitError{code: exitDrained, err: err}
	default:
		return &exitError{code: 1, err: err}
	}
}

// profileEnv names a file. If it is set, SIGUSR2 starts a CPU profile of the gateway, written
// to FILE.part, and the next SIGUSR2 ends it and renames it to FILE. scripts/bench --profile
// uses it.
const profileEnv = "SSLGATE_PPROF"

// profileOnSignal serves profileEnv until the returned function is called. It does nothing if
// profileEnv is not set.
func profileOnSignal(log *zap.Logger) (stop func()) {
	path := os.Getenv(profileEnv)
	if path == "" {
		return func() {}
	}
	toggle := make(chan os.Signal, 1)
	signal.Notify(toggle, syscall.SIGUSR2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var part *os.File
		for range toggle {
			var err error
			if part == nil {
				part, err = startProfile(path + ".part")
			} else {
				err = endProfile(part, path)
				part = nil
			}
			if err != nil {
				log.Warn("no CPU profile", zap.Error(err))
			}
		}
		if part != nil {
			if err := endProfile(part, path); err != nil {
				log.Warn("no CPU profile", zap.Error(err))
			}
		}
	}()
	return func() {
		signal.Stop(toggle)
		close(toggle)
		<-done
	}
}

func startProfile(path string) (*os.File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("start profile: %w", err), f.Close())
	}
	return f, nil
}

func endProfile(f *os.File, path string) error {
	pprof.StopCPUProfile()
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
