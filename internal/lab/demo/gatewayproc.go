package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
)

// Process is the real gateway, running in a gateway's namespace.
type Process struct {
	cmd *lab.Cmd
	log *tail
}

// startTimeout is how long the gateway may take to report that it is ready, and stopTimeout
// how long it may take to end. They are long because the machine may be busy.
const (
	startTimeout = time.Minute
	stopTimeout  = time.Minute
)

// StartGateway runs `binary run -c configFile` in a gateway's namespace of the lab and waits
// until it says that it is ready.
func StartGateway(ctx context.Context, l *lab.Lab, ns lab.NS, binary, configFile string) (*Process, error) {
	p := &Process{cmd: l.Command(ns, binary, "run", "-c", configFile), log: newTail()}
	p.cmd.Stderr = p.log
	p.cmd.Stdout = p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case <-p.log.ready:
		return p, nil
	case <-p.cmd.Done():
		return nil, fmt.Errorf("the gateway ended before it was ready (%w):\n%s", p.cmd.Wait(), p.log)
	case <-ctx.Done():
		_ = p.Kill()
		return nil, fmt.Errorf("the gateway did not become ready (%w):\n%s", ctx.Err(), p.log)
	}
}

// Kill ends the gateway with SIGKILL, as a crash would.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_ = p.cmd.Wait() // says "killed"
	return nil
}

// Stop ends the gateway in order (SIGTERM), or with SIGKILL after the time
// that draining may take.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("the gateway had ended by itself: %w\n%s", errors.Join(err, p.cmd.Wait()), p.log)
	}
	select {
	case <-p.cmd.Done():
		if err := p.cmd.Wait(); err != nil {
			return fmt.Errorf("the gateway did not stop in order: %w\n%s", err, p.log)
		}
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("the gateway did not stop on SIGTERM\n%s", p.log), p.Kill())
	}
}

// Log is the last part of the gateway's log.
func (p *Process) Log() string { return p.log.String() }

// tail keeps the end of the gateway's log and sees when it is ready.
type tail struct {
	mu    sync.Mutex
	buf   []byte
	ready chan struct{}
	seen  bool
}

// maxTail is how much of the log is kept, in bytes: enough for the lines
// around a failure.
const maxTail = 8 << 10

func newTail() *tail { return &tail{ready: make(chan struct{})} }

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if !t.seen && (bytes.Contains(t.buf, []byte(`"ready"`)) || bytes.Contains(t.buf, []byte("\tready"))) {
		t.seen = true
		close(t.ready)
	}
	if len(t.buf) > 2*maxTail {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-maxTail:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buf
	if len(b) > maxTail {
		b = b[len(b)-maxTail:]
	}
	return "  | " + strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "\n  | ")
}
