package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/applog"
	"github.com/sslgate/sslgate/internal/dialer"
)

// Options of New. All but Page are required.
type Options struct {
	Backend Backend
	Hub     *Hub
	Metrics http.Handler // GET /metrics
	// Page serves the web page's files on the loopback; nil serves none.
	Page http.Handler
	Log  *zap.Logger
}

// Server answers on the admin socket and, if configured, on the loopback.
type Server struct {
	opt    Options
	mux    *http.ServeMux
	path   string          // of the socket; "" if there is none
	socket os.FileInfo     // by which the socket is known under another name
	ending context.Context // of streams
	end    context.CancelFunc
	doors  []*door
	mu     sync.Mutex                 // of the listeners of doors
	token  atomic.Pointer[validToken] // of the loopback

	boards  boards
	readers chan struct{} // of boards

	hijacked sync.WaitGroup // hand-overs
	entered  sync.WaitGroup // listeners that EnterNetwork has opened
}

type door struct {
	name  string
	ln    net.Listener
	http  *http.Server
	again func() (net.Listener, error) // opens the listener again; nil: of the socket
}

// New makes a server without any listener.
func New(opt Options) *Server {
	s := &Server{opt: opt, boards: boards{backend: opt.Backend, hub: opt.Hub}, readers: make(chan struct{}, maxBoardReaders)}
	s.ending, s.end = context.WithCancel(context.Background())
	s.mux = s.routes()
	return s
}

// ListenSocket opens the socket, mode 0600, and creates its directory (0755) if it is missing.
// It replaces a socket that a crash has left, but not one that a process answers on.
func (s *Server) ListenSocket(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if c, err := dialer.Unix(context.Background(), path, time.Second); err == nil {
		_ = c.Close()
		return fmt.Errorf("admin socket %s is taken by a running gateway: set admin.socket to another path", path)
	}
	if err := s.listenAt(path); err != nil {
		return err
	}
	s.path = path
	return nil
}

func (s *Server) listenAt(path string) error {
	// The socket is created under another name, so that it is never at its place with a
	// wider mode.
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(made) // left by an earlier process with the same PID
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", made)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	s.socket, err = os.Lstat(made)
	if err := errors.Join(err, os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		_ = ln.Close()
		_ = os.Remove(made)
		return fmt.Errorf("admin socket: %w", err)
	}
	s.add("admin socket", ln, s.mux)
	return nil
}

// ListenHTTP listens on a loopback address and returns it, with the chosen port if it was 0.
// guard says which requests need the token.
func (s *Server) ListenHTTP(address string, token *Token) (netip.AddrPort, error) {
	a, err := ParseLoopback(address)
	if err != nil {
		return a, err
	}
	if token == nil {
		return a, errors.New("admin.http needs a token")
	}
	ln, err := listenTCP(a.String())
	if err != nil {
		return a, fmt.Errorf("admin.http: %w", err)
	}
	a = ln.Addr().(*net.TCPAddr).AddrPort()
	s.SetToken(token)
	d := s.add("admin HTTP", ln, s.web(a))
	d.again = func() (net.Listener, error) { return listenTCP(a.String()) }
	return a, nil
}

// listenTCP listens where another process of the same user may listen too: while one takes
// over from another, both do (socket(7), SO_REUSEPORT).
func listenTCP(address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); cerr != nil {
			return cerr
		}
		return err
	}}
	return lc.Listen(context.Background(), "tcp", address)
}

// LeaveNetwork closes the listeners but for the socket: another process has them now.
func (s *Server) LeaveNetwork() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.doors {
		if d.again != nil {
			_ = d.ln.Close()
		}
	}
}

// EnterNetwork opens again what LeaveNetwork has closed. Run must not have ended.
func (s *Server) EnterNetwork() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, d := range s.doors {
		if d.again == nil || s.ending.Err() != nil {
			continue
		}
		ln, err := d.again()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.name, err))
			continue
		}
		d.ln = d.within(ln)
		s.entered.Go(func() { s.serve(d, d.ln) })
	}
	return errors.Join(errs...)
}

// maxConns bounds the connections of one listener: each costs some 10 KiB.
const maxConns = 128

// within bounds the connections of a listener.
func (*door) within(ln net.Listener) net.Listener { return newLimited(ln, maxConns, maxConns) }

func (s *Server) add(name string, ln net.Listener, h http.Handler) *door {
	d := &door{name: name, http: &http.Server{
		Handler: h,
		// The callers are local; these bounds are for a caller that hangs. Streams and
		// profiles set their own deadlines.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(applog.AsDetail(s.opt.Log.WithOptions(zap.IncreaseLevel(zap.WarnLevel)), "HTTP server of the admin interface")),
	}}
	d.ln = d.within(ln)
	s.doors = append(s.doors, d)
	return d
}

// serve serves one listener until it is closed.
func (s *Server) serve(d *door, ln net.Listener) {
	if err := d.http.Serve(ln); s.ending.Err() == nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		// Without the listener the gateway still does its work.
		s.opt.Log.Error("admin listener failed", zap.String("listener", d.name), zap.Error(err))
	}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		s.close()
	})
	defer func() {
		if stop() {
			s.close()
			return
		}
		<-closed
	}()
	var group errgroup.Group
	s.mu.Lock()
	for _, d := range s.doors {
		ln := d.ln
		group.Go(func() error { s.serve(d, ln); return nil })
	}
	s.mu.Unlock()
	err := group.Wait()
	s.removeSocket()
	return err
}

// Close ends a server that was never run.
func (s *Server) Close() {
	s.close()
	for _, d := range s.doors {
		_ = d.ln.Close()
	}
	s.removeSocket()
}

// answerMost is how long requests may still take at the end; one of them may be the request
// that asked for the drain. Streams end at once.
const answerMost = time.Second

func (s *Server) close() {
	s.mu.Lock()
	s.end()
	s.mu.Unlock() // nothing is opened any more
	ctx, cancel := context.WithTimeout(context.Background(), answerMost)
	defer cancel()
	var doors sync.WaitGroup
	for _, d := range s.doors {
		doors.Go(func() {
			if err := d.http.Shutdown(ctx); err != nil {
				_ = d.http.Close()
			}
		})
	}
	doors.Wait()
	s.entered.Wait()
	s.hijacked.Wait()
}
