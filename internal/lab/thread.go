package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// space is one namespace: a descriptor that holds it, and a thread that lives in it. Commands
// are started from that thread, so that they inherit the namespace and, by their parent death
// signal, end with it.
type space struct {
	handle netns.NsHandle
	path   string // "" for an ephemeral one
	work   chan func()
	done   chan struct{}
	once   sync.Once
}

// newSpace makes a namespace; path, where not empty, is where it is kept.
func newSpace(path string) (*space, error) {
	return startSpace(path, func() (netns.NsHandle, error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return netns.None(), fmt.Errorf("unshare: %w", err)
		}
		h, err := netns.Get()
		if err == nil && path != "" {
			if err = mountNamed(path); err != nil {
				_ = h.Close()
			}
		}
		return h, err
	})
}

// openSpace uses an existing namespace and owns the handle from then on.
func openSpace(h netns.NsHandle, path string) (*space, error) {
	return startSpace(path, func() (netns.NsHandle, error) {
		if err := netns.Set(h); err != nil {
			_ = h.Close()
			return netns.None(), err
		}
		return h, nil
	})
}

func startSpace(path string, enter func() (netns.NsHandle, error)) (*space, error) {
	s := &space{path: path, work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go onThread(func() {
		defer close(s.done)
		var err error
		s.handle, err = enter()
		ready <- err
		if err != nil {
			return
		}
		for f := range s.work {
			f()
		}
	})
	if err := <-ready; err != nil {
		<-s.done
		return nil, err
	}
	return s, nil
}

// onThread runs f on a thread that ends with it, so that nothing else ever runs in the wrong
// namespace. It never uses the process's first thread: that thread cannot end, and would hold
// the namespace for as long as the process lives.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f() // stays locked, so the thread ends with this goroutine
		return
	}
	// This goroutine keeps the first thread while it waits, so the other one gets another.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
	runtime.UnlockOSThread()
}

// on runs f on the thread of the namespace.
func (s *space) on(f func() error) error {
	res := make(chan error)
	s.work <- func() { res <- f() }
	return <-res
}

func (s *space) close(remove bool) error {
	var err error
	s.once.Do(func() {
		close(s.work)
		<-s.done
		err = s.handle.Close()
		if remove && s.path != "" {
			err = errors.Join(err, unmountNamed(s.path))
		}
	})
	return err
}

// mountNamed keeps the thread's namespace at path, as `ip netns add` does.
func mountNamed(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists: a lab is up already, or was left behind; `sslgate lab down` removes it: %w", path, ErrHelp)
	}
	if err != nil {
		return err
	}
	_ = f.Close()
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("keep namespace at %s: %w", path, err), os.Remove(path))
	}
	return nil
}

func unmountNamed(path string) error {
	// EINVAL: the file is no mount; a crash before the mount has left it.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Do runs fn on a thread of its own inside the namespace and returns its
// error. Sockets that fn opens belong to the namespace, also after Do. fn
// must not start goroutines that expect to be inside, and must not end by
// runtime.Goexit (testing.T.Fatal).
func (l *Lab) Do(ns NS, fn func() error) error {
	s, err := l.space(ns)
	if err != nil {
		return err
	}
	res := make(chan error, 1)
	go onThread(func() {
		left := errors.New("the function inside the namespace did not return")
		defer func() { res <- left }()
		if err := netns.Set(s.handle); err != nil {
			left = fmt.Errorf("enter namespace %s: %w", ns, err)
			return
		}
		left = fn()
	})
	return <-res
}

// Dial connects from inside the namespace. The address is a literal one:
// names would be resolved outside.
func (l *Lab) Dial(ctx context.Context, ns NS, network, address string) (net.Conn, error) {
	return l.DialFrom(ctx, ns, 0, network, address)
}

// DialFrom is Dial from a given local port, 0 for any.
func (l *Lab) DialFrom(ctx context.Context, ns NS, port uint16, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial in %s: %w", ns, err)
	}
	var d net.Dialer
	switch {
	case port == 0:
	case strings.HasPrefix(network, "tcp"):
		d.LocalAddr = &net.TCPAddr{Port: int(port)}
	default:
		d.LocalAddr = &net.UDPAddr{Port: int(port)}
	}
	var c net.Conn
	err := l.Do(ns, func() (err error) {
		// With one literal address net.Dialer opens the socket on this thread.
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Dialer returns Dial bound to a namespace, in the shape of
// net.Dialer.DialContext.
func (l *Lab) Dialer(ns NS) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.Dial(ctx, ns, network, address)
	}
}

// Listen listens inside the namespace; the address is a literal one.
func (l *Lab) Listen(ns NS, network, address string) (net.Listener, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("listen in %s: %w", ns, err)
	}
	var ln net.Listener
	err := l.Do(ns, func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err = lc.Listen(context.Background(), network, address)
		return err
	})
	return ln, err
}

// Exec replaces this process by a command inside the namespace. It returns
// only if that fails.
func (l *Lab) Exec(ns NS, argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	// The thread that calls execve becomes the process, with its namespace.
	return l.Do(ns, func() error { return syscall.Exec(path, argv, os.Environ()) })
}

// Cmd is a command inside a namespace. Use its own Start, Run, Output and
// CombinedOutput. It is killed when the lab is closed or the process dies.
type Cmd struct {
	*exec.Cmd
	lab  *Lab
	ns   NS
	gone chan struct{}
	err  error
}

// Command prepares a command inside the namespace.
func (l *Lab) Command(ns NS, name string, args ...string) *Cmd {
	c := &Cmd{Cmd: exec.Command(name, args...), lab: l, ns: ns, gone: make(chan struct{})}
	// A grandchild that keeps the output open must not keep Wait.
	c.WaitDelay = 2 * time.Second
	return c
}

// Start starts the command on the namespace's thread.
func (c *Cmd) Start() error {
	s, err := c.lab.space(c.ns)
	if err != nil {
		return err
	}
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	c.lab.mu.Lock()
	defer c.lab.mu.Unlock()
	if c.lab.closed {
		return fmt.Errorf("start in %s: the lab is closed", c.ns)
	}
	if err := s.on(c.Cmd.Start); err != nil {
		return err
	}
	c.lab.cmds[c] = struct{}{}
	go func() {
		c.err = c.Cmd.Wait()
		c.lab.mu.Lock()
		delete(c.lab.cmds, c)
		c.lab.mu.Unlock()
		close(c.gone)
	}()
	return nil
}

// Wait waits for the end of the command and returns what exec.Cmd.Wait does.
// It may be called more than once.
func (c *Cmd) Wait() error {
	<-c.gone
	return c.err
}

// Done is closed when the command has ended.
func (c *Cmd) Done() <-chan struct{} { return c.gone }

// Run starts the command and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns its standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// CombinedOutput runs the command and returns both its outputs.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}
