package demo

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
)

// origins are the destinations in the server namespace. Each answers one request with a line
// that says who it is and who it saw. It speaks enough HTTP for curl.
type origins struct {
	wg        sync.WaitGroup
	listeners []net.Listener

	mu    sync.Mutex
	count map[netip.AddrPort]int
	open  map[net.Conn]struct{}
}

// maxRequest bounds what an origin reads of one request, in bytes.
const maxRequest = 16 << 10

// startOrigins listens on a port of the server's addresses named by their
// index, IPv4 and IPv6. Those with an entry in certs speak TLS.
func startOrigins(l *lab.Lab, port uint16, names map[int]string, certs map[int]*tls.Certificate) (*origins, error) {
	o := &origins{count: map[netip.AddrPort]int{}, open: map[net.Conn]struct{}{}}
	for i, name := range names {
		for _, six := range []bool{false, true} {
			at := netip.AddrPortFrom(lab.ServerAddr(i, six), port)
			ln, err := l.Listen(lab.Server, "tcp", at.String())
			if err != nil {
				o.Close()
				return nil, fmt.Errorf("start origin %s: %w", name, err)
			}
			o.listeners = append(o.listeners, ln)
			var cfg *tls.Config
			if c := certs[i]; c != nil {
				cfg = &tls.Config{Certificates: []tls.Certificate{*c}}
			}
			o.wg.Go(func() { o.serve(ln, at, name, cfg) })
		}
	}
	return o, nil
}

func (o *origins) serve(ln net.Listener, at netip.AddrPort, name string, cfg *tls.Config) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(5 * time.Millisecond) // out of descriptors: wait for some to be closed
			continue
		}
		o.mu.Lock()
		o.count[at]++
		o.open[c] = struct{}{}
		o.mu.Unlock()
		o.wg.Go(func() {
			o.answer(c, name, cfg)
			o.mu.Lock()
			delete(o.open, c)
			o.mu.Unlock()
		})
	}
}

func (o *origins) answer(raw net.Conn, name string, cfg *tls.Config) {
	conn := raw
	if cfg != nil {
		conn = tls.Server(raw, cfg)
	}
	defer func() { _ = raw.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(io.LimitReader(conn, maxRequest))
	request, err := r.ReadString('\n')
	if err != nil {
		return
	}
	for { // the rest of the request's head
		line, err := r.ReadString('\n')
		if err != nil || strings.TrimRight(line, "\r\n") == "" {
			break
		}
	}
	from, _, _ := net.SplitHostPort(raw.RemoteAddr().String())
	body := fmt.Sprintf("origin %s, asked by %s: %s\n", name, from, strings.TrimSpace(request))
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	// Close in order: our half first, then wait for the other one.
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, _ = io.Copy(io.Discard, r)
	}
}

// Accepted is the number of connections that were accepted at an address so far.
func (o *origins) Accepted(at netip.AddrPort) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count[at]
}

// Close ends the origins and waits for them.
func (o *origins) Close() {
	for _, ln := range o.listeners {
		_ = ln.Close()
	}
	o.mu.Lock()
	for c := range o.open {
		_ = c.Close()
	}
	o.mu.Unlock()
	o.wg.Wait()
}
