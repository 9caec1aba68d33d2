package bench

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// OriginJob is what an origin process is told.
type OriginJob struct {
	// Plain, TLS and Mutual are the ports to listen on, at every address: without TLS, with it,
	// and with a client certificate of the CA in the file Clients.
	Plain, TLS, Mutual []uint16
	Clients            string
	// Cert and Key are the certificate and key files for TLS.
	Cert, Key string
}

// origin serves load's requests and counts the connections.
type origin struct {
	mu       sync.Mutex
	accepted map[netip.Addr]int64 // by the address that was connected to
	open     map[net.Conn]struct{}
}

// serveOrigin runs until in ends. Every line of in is answered on out by a line
// with the numbers of connections accepted so far, by destination address.
func serveOrigin(job OriginJob, in io.Reader, out io.Writer) error {
	debug.SetGCPercent(loadGCPercent)
	o := &origin{accepted: map[netip.Addr]int64{}, open: map[net.Conn]struct{}{}}
	var listeners []net.Listener
	var wg sync.WaitGroup
	defer func() {
		for _, ln := range listeners {
			ln.Close()
		}
		o.mu.Lock()
		for c := range o.open {
			c.Close()
		}
		o.mu.Unlock()
		wg.Wait()
	}()
	listen := func(port uint16, cfg *tls.Config) error {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err := lc.Listen(context.Background(), "tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			return fmt.Errorf("origin: %w", err)
		}
		listeners = append(listeners, ln)
		wg.Go(func() { o.accept(ln, cfg, &wg) })
		return nil
	}
	for _, port := range job.Plain {
		if err := listen(port, nil); err != nil {
			return err
		}
	}
	if len(job.TLS)+len(job.Mutual) > 0 {
		pair, err := tls.LoadX509KeyPair(job.Cert, job.Key)
		if err != nil {
			return fmt.Errorf("origin: %w", err)
		}
		cfg := &tls.Config{
			Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13,
			CurvePreferences: []tls.CurveID{tls.X25519}, DynamicRecordSizingDisabled: true,
		}
		for _, port := range job.TLS {
			if err := listen(port, cfg); err != nil {
				return err
			}
		}
		if cfg, err = mutual(cfg, job.Clients); err != nil {
			return fmt.Errorf("origin: %w", err)
		}
		for _, port := range job.Mutual {
			if err := listen(port, cfg); err != nil {
				return err
			}
		}
	}
	if _, err := fmt.Fprintln(out, readyLine); err != nil {
		return err
	}
	for sc := bufio.NewScanner(in); sc.Scan(); {
		o.mu.Lock()
		b, err := json.Marshal(o.accepted)
		o.mu.Unlock()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n", b); err != nil {
			return err
		}
	}
	return nil
}

// mutual is cfg with a client certificate required, for connections of the one CipherSuite
// that all peers are measured with.
func mutual(cfg *tls.Config, clients string) (*tls.Config, error) {
	pool, err := readPool(clients)
	if err != nil {
		return nil, err
	}
	cfg = cfg.Clone()
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, pool
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		if s.CipherSuite != tls.TLS_AES_128_GCM_SHA256 || s.ServerName != serverName {
			return fmt.Errorf("%s, name %q: all are measured with TLS_AES_128_GCM_SHA256", tls.CipherSuiteName(s.CipherSuite), s.ServerName)
		}
		return nil
	}
	return cfg, nil
}

func (o *origin) accept(ln net.Listener, cfg *tls.Config, wg *sync.WaitGroup) {
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
		if at, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil {
			o.accepted[at.Addr().Unmap()]++
		}
		o.open[c] = struct{}{}
		o.mu.Unlock()
		wg.Go(func() {
			conn := c
			if cfg != nil {
				conn = tls.Server(c, cfg)
			}
			defer func() {
				conn.Close() // with close_notify: without it a gateway may have to send a RST
				o.mu.Lock()
				delete(o.open, c)
				o.mu.Unlock()
			}()
			// The other side sees and reports any error.
			_ = o.serve(conn)
		})
	}
}

// serve answers the one request of a connection.
func (o *origin) serve(c net.Conn) error {
	buf := make([]byte, requestSize)
	req, err := readRequest(c, buf)
	if err != nil {
		return err
	}
	switch req.op {
	case opEcho:
		for {
			if _, err := c.Write(buf); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				return err
			}
		}
	case opUp:
		var n uint64
		b := newBlocks(c)
		for last := false; !last; n += blockSize {
			if last, err = b.receive(); err != nil {
				return err
			}
		}
		_, err = c.Write(request{op: opUp, n: n}.bytes())
		return err
	case opDown:
		b := newBlocks(c)
		for start := time.Now(); ; {
			last := time.Since(start) >= time.Duration(req.n)
			if err := b.send(last); err != nil || last {
				return err
			}
		}
	case opCheckUp:
		h := sha256.New()
		if _, err := io.CopyN(h, c, int64(req.n)); err != nil {
			return err
		}
		_, err = c.Write(h.Sum(nil))
		return err
	case opCheckDown:
		_, err = io.CopyN(c, stream(req.seed), int64(req.n))
		return err
	}
	return fmt.Errorf("unknown operation %d", req.op)
}
