package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
)

const (
	// startTimeout bounds how long a program may take to be ready.
	startTimeout = 20 * time.Second
	// stopTimeout bounds an orderly end; then comes SIGKILL.
	stopTimeout = 8 * time.Second
	// logTail is how much of a program's log an error shows, in bytes.
	logTail = 2 << 10
)

// child is a program running in a namespace on one CPU. Its standard error is
// a file.
type child struct {
	name string
	cmd  *lab.Cmd
	in   *os.File
	out  *os.File
	rd   *bufio.Reader
	log  string
	free func() bool // cancels the kill by the end of the context
}

// start runs argv in ns on a CPU until it is stopped or ctx ends.
func (s *site) start(ctx context.Context, ns lab.NS, cpu int, name string, env []string, argv ...string) (c *child, err error) {
	c = &child{name: name, log: filepath.Join(s.dir, name+".log")}
	argv = append([]string{RolePin, strconv.Itoa(cpu)}, argv...)
	c.cmd = s.lab.Command(ns, s.self, argv...)
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Dir = s.dir
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		inW.Close()
		return nil, err
	}
	defer outW.Close()
	c.in, c.out, c.rd = inW, outR, bufio.NewReader(outR)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = inR, outW, log
	if err := c.cmd.Start(); err != nil {
		inW.Close()
		outR.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c.free = context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() })
	return c, nil
}

// startRole runs one of this program's own roles.
func (s *site) startRole(ctx context.Context, ns lab.NS, cpu int, role string, job any) (*child, error) {
	b, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	c, err := s.start(ctx, ns, cpu, role, nil, s.self, role, string(b))
	if err != nil {
		return nil, err
	}
	line, err := c.line(startTimeout)
	if err == nil && line != readyLine {
		err = fmt.Errorf("%s said %q and not %q", role, line, readyLine)
	}
	if err != nil {
		return nil, errors.Join(err, c.kill())
	}
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// say writes one line to the program.
func (c *child) say(line string) error {
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		return c.fail(err)
	}
	return nil
}

// line reads one line of the program's output.
func (c *child) line(timeout time.Duration) (string, error) {
	if err := c.out.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	line, err := c.rd.ReadString('\n')
	if err != nil {
		return "", c.fail(err)
	}
	return strings.TrimSuffix(line, "\n"), nil
}

// fail adds the end of the program's log to an error.
func (c *child) fail(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	text, rerr := os.ReadFile(c.log)
	if rerr != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	text = text[max(0, len(text)-logTail):]
	return fmt.Errorf("%s: %w\n%s", c.name, err, strings.TrimSpace(string(text)))
}

// logged says whether the program's log holds a word.
func (c *child) logged(word string) bool {
	text, err := os.ReadFile(c.log)
	return err == nil && strings.Contains(string(text), word)
}

// await polls until ok, the program's end or startTimeout.
func (c *child) await(ok func() bool) error {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return nil
		}
		select {
		case <-c.cmd.Done():
			return c.fail(fmt.Errorf("ended before it was ready (%w)", c.cmd.Wait()))
		default:
		}
		if time.Now().After(deadline) {
			return c.fail(errors.New("did not become ready"))
		}
	}
}

// stop ends the program: first by the end of its input, then by the signal, at last by SIGKILL.
func (c *child) stop(sig syscall.Signal) error {
	defer c.free()
	c.in.Close()
	defer c.out.Close()
	if sig != 0 {
		_ = c.cmd.Process.Signal(sig) // it may have ended
	}
	select {
	case <-c.cmd.Done():
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(c.fail(errors.New("did not stop")), c.kill())
	}
}

func (c *child) kill() error {
	defer c.free()
	c.in.Close()
	defer c.out.Close()
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-c.cmd.Done()
	return nil
}
