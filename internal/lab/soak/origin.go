package soak

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
)

// served is what an origin has seen of one connection.
type served struct {
	in, out int64 // bytes read and written, with requests and sums
}

// origin serves soak clients at its addresses. Everything it accepts is
// counted.
type origin struct {
	lab   *lab.Lab
	addrs []string
	here  []string    // on the gateway's host
	tls   *tls.Config // nil: plain
	book  *book
	// corrupt flips one bit of one download, once, where it is set.
	corrupt *atomic.Bool

	accepted atomic.Int64
	wg       sync.WaitGroup

	mu        sync.Mutex
	listeners []net.Listener
	conns     map[net.Conn]struct{}
}

// opTimeout bounds one connection: the largest transfer at a tenth of the slowest observed rate.
const opTimeout = 2 * time.Minute

func (o *origin) start() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns = map[net.Conn]struct{}{}
	for ns, addrs := range map[lab.NS][]string{lab.Server: o.addrs, lab.Gateway: o.here} {
		for _, addr := range addrs {
			ln, err := o.lab.Listen(ns, "tcp", addr)
			if err != nil {
				return err
			}
			o.listeners = append(o.listeners, ln)
			o.wg.Go(func() { o.accept(ln) })
		}
	}
	return nil
}

// stop closes the listeners and resets what is open, as a killed process does.
func (o *origin) stop() {
	o.mu.Lock()
	for _, ln := range o.listeners {
		_ = ln.Close()
	}
	o.listeners = nil
	for c := range o.conns {
		reset(c)
	}
	o.mu.Unlock()
	o.wg.Wait()
}

func (o *origin) accept(ln net.Listener) {
	for {
		raw, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(5 * time.Millisecond) // out of descriptors: wait for some to be closed
			continue
		}
		o.accepted.Add(1)
		o.mu.Lock()
		o.conns[raw] = struct{}{}
		o.mu.Unlock()
		o.wg.Go(func() {
			_ = raw.SetDeadline(time.Now().Add(opTimeout))
			c := raw
			if o.tls != nil {
				c = tls.Server(raw, o.tls)
			}
			o.serve(&counted{Conn: c})
			_ = c.Close()
			o.mu.Lock()
			delete(o.conns, raw)
			o.mu.Unlock()
		})
	}
}

// serve answers one request. The other side sees any error; the account is kept in any case.
func (o *origin) serve(c *counted) {
	b := make([]byte, requestSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return // a client that was cut off before its request
	}
	req, err := parseRequest(b)
	if err != nil {
		o.book.complain("an origin was asked for something that no client sends: %v", err)
		return
	}
	defer func() { o.book.served(req.id, served{c.in.Load(), c.out.Load()}) }()
	switch req.op {
	case opUp:
		sum, err := receiveStream(c, req.n)
		if err == nil {
			_, _ = c.Write(sum)
		}
	case opDown:
		w := io.Writer(c)
		if o.corrupt != nil && o.corrupt.CompareAndSwap(true, false) {
			w = &flip{w: c}
		}
		if sum, err := sendStream(w, down(req.seed), req.n); err == nil {
			_, _ = c.Write(sum)
		}
	case opBoth:
		got := make(chan []byte, 1)
		go func() {
			sum, err := receiveStream(c, req.n)
			if err != nil {
				sum = nil
			}
			got <- sum
		}()
		sent, err := sendStream(c, down(req.seed), req.n)
		sum := <-got
		if err == nil && sum != nil {
			_, _ = c.Write(append(sent, sum...))
		}
	case opEcho:
		_, _ = io.CopyBuffer(onlyWriter{c}, onlyReader{c}, make([]byte, chunk))
	}
	// The client closes first. Wait for its close_notify, so that both accounts end in the
	// same way.
	_, _ = io.CopyN(io.Discard, c, 1)
}

// onlyReader hides WriteTo.
type onlyReader struct{ io.Reader }

// flip changes one bit of the first write.
type flip struct {
	w    io.Writer
	done bool
}

func (f *flip) Write(p []byte) (int, error) {
	if f.done || len(p) == 0 {
		return f.w.Write(p)
	}
	f.done = true
	q := append([]byte(nil), p...)
	q[len(q)/2] ^= 1
	return f.w.Write(q)
}

// counted counts what an application reads and writes.
type counted struct {
	net.Conn
	in, out atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(int64(n))
	return n, err
}

// reset closes a TCP connection with a RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed socket
	}
	_ = c.Close()
}
