package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"go.uber.org/zap"
)

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
