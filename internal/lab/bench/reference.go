package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ReferenceJob is the task of a reference gateway: the peers "relay" and "go".
type ReferenceJob struct {
	Listen []ReferenceListener
	// Cert and Key are shown to clients. Clients is the CA of their certificates, Origins the
	// CA of the destination's.
	Cert, Key, Clients, Origins string
	// Own and OwnKey are shown to destinations by listeners with Originate, and Name is what
	// these are verified for.
	Own, OwnKey, Name string
}

// ReferenceListener is one port that TPROXY leads to.
type ReferenceListener struct {
	Port uint16
	// TLS terminates; Reencrypt speaks TLS to the destination as well. Originate speaks TLS to
	// the destination alone, with a certificate.
	TLS, Reencrypt, Originate bool
}

const (
	// referenceBuffer is the size of the copy buffer of each direction, in bytes.
	referenceBuffer = 64 << 10
	// referenceTimeout bounds handshake and dialling.
	referenceTimeout = 10 * time.Second
)

// reference is a simple gateway on kernel sockets. Its only policy is "a certificate of this
// CA", and it writes no record.
type reference struct {
	server, client, own *tls.Config
	buffers             sync.Pool
	wg                  sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// serveReference runs until in ends.
func serveReference(job ReferenceJob, in io.Reader, out io.Writer) error {
	g := &reference{open: map[net.Conn]struct{}{}}
	g.buffers.New = func() any { b := make([]byte, referenceBuffer); return &b }
	if job.Cert != "" {
		if err := g.configure(job); err != nil {
			return err
		}
	}
	var listeners []net.Listener
	defer func() {
		for _, ln := range listeners {
			ln.Close()
		}
		g.mu.Lock()
		g.closed = true
		for c := range g.open {
			c.Close()
		}
		g.mu.Unlock()
		g.wg.Wait()
	}()
	for _, l := range job.Listen {
		if (l.TLS || l.Originate) && g.server == nil {
			return errors.New("reference: TLS without a certificate")
		}
		ln, err := listenTransparent(l.Port)
		if err != nil {
			return err
		}
		listeners = append(listeners, ln)
		g.wg.Go(func() { g.accept(ln, l) })
	}
	if _, err := fmt.Fprintln(out, readyLine); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, in)
	return err
}

func (g *reference) configure(job ReferenceJob) error {
	pair, err := tls.LoadX509KeyPair(job.Cert, job.Key)
	if err != nil {
		return err
	}
	own, err := tls.LoadX509KeyPair(job.Own, job.OwnKey)
	if err != nil {
		return err
	}
	pools := make([]*x509.CertPool, 2)
	for i, file := range []string{job.Clients, job.Origins} {
		if pools[i], err = readPool(file); err != nil {
			return err
		}
	}
	g.server = &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, // the client says which
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pools[0],
		DynamicRecordSizingDisabled: true,
	}
	g.client = &tls.Config{RootCAs: pools[1], MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true}
	g.own = g.client.Clone()
	g.own.Certificates, g.own.ServerName = []tls.Certificate{own}, job.Name
	return nil
}

// readPool reads the certificates of a PEM file.
func readPool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// listenTransparent listens for connections to any address (IP_TRANSPARENT,
// ip(7)): the local address of an accepted one is the original destination.
func listenTransparent(port uint16) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
		})
		return errors.Join(err, failed)
	}}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return nil, fmt.Errorf("listen behind TPROXY: %w", err)
	}
	return ln, nil
}

func (g *reference) accept(ln net.Listener, l ReferenceListener) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(5 * time.Millisecond) // out of descriptors: wait for some to be closed
			continue
		}
		g.wg.Go(func() {
			defer g.keep(c)()
			// The client sees the error; nothing is recorded here.
			_ = g.serve(c, l)
		})
	}
}

// keep registers a connection; the returned function closes it.
func (g *reference) keep(c net.Conn) func() {
	g.mu.Lock()
	g.open[c] = struct{}{}
	if g.closed {
		c.Close()
	}
	g.mu.Unlock()
	return func() {
		c.Close()
		g.mu.Lock()
		delete(g.open, c)
		g.mu.Unlock()
	}
}

// halfCloser is a connection whose sending side can be ended alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func (g *reference) serve(c net.Conn, l ReferenceListener) error {
	ctx, cancel := context.WithTimeout(context.Background(), referenceTimeout)
	defer cancel()
	client, ok := c.(halfCloser)
	if !ok {
		return errors.New("not a TCP connection")
	}
	var name string
	if l.TLS {
		t := tls.Server(c, g.server)
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		client, name = t, t.ConnectionState().ServerName
	}
	// As in sslgate the destination is dialled when the client is verified.
	d, err := (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, "tcp4", c.LocalAddr().String())
	if err != nil {
		return err
	}
	defer g.keep(d)()
	dest, ok := d.(halfCloser)
	if !ok {
		return errors.New("not a TCP connection")
	}
	if l.Reencrypt || l.Originate {
		cfg := g.own
		if l.Reencrypt {
			cfg = g.client.Clone()
			cfg.ServerName = name
		}
		t := tls.Client(d, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		dest = t
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.copy(dest, client)
	}()
	g.copy(client, dest)
	<-done
	return nil
}

// copy moves one direction through user space; an error ends both.
func (g *reference) copy(dst, src halfCloser) {
	buf := g.buffers.Get().(*[]byte)
	defer g.buffers.Put(buf)
	// The wrappers hide ReadFrom and WriteTo, which would use splice in the kernel.
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *buf)
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		dst.Close()
		src.Close()
	}
}
