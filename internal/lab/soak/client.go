package soak

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

// try is one connection of a client.
type try struct {
	*site
	want  want
	bulk  uint64 // the most bytes that a bulk transfer moves
	c     *counted
	tls   *tls.Conn
	asked bool
	shook time.Duration // until the end of the handshake
}

// ports hands out the clients' local ports, so that the port of a failed connection is known too.
type ports struct{ next atomic.Uint32 }

const (
	firstPort = 20000
	// portCount is more than the ports in TIME_WAIT (60 s) at several hundred connections a
	// second. If a port is still in TIME_WAIT, the next one is used.
	portCount = 44000
)

func (p *ports) take() uint16 { return uint16(firstPort + p.next.Add(1)%portCount) }

// connect opens a TCP connection and sets its key. err is the answer of the other side.
func (t *try) connect(ctx context.Context, p *ports, server int, port uint16) (net.Conn, error) {
	six := rand.IntN(2) == 1
	t.want.begun = time.Now()
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	for {
		local := p.take()
		from, client, to := t.ends(server, six)
		t.want.key = key{netip.AddrPortFrom(client, local), netip.AddrPortFrom(to, port)}
		c, err := t.lab.DialFrom(ctx, from, local, "tcp", t.want.destination.String())
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			continue // in TIME_WAIT: nothing was sent
		}
		if err != nil {
			return nil, err
		}
		_ = c.SetDeadline(time.Now().Add(opTimeout))
		t.c = &counted{Conn: c}
		return c, nil
	}
}

// speak makes the TLS handshake; the later request goes through TLS.
func (t *try) speak(raw net.Conn, change func(*tls.Config)) error {
	cfg := &tls.Config{
		RootCAs: t.gatewayCA.Pool(), ServerName: serverName, Certificates: []tls.Certificate{t.alice},
		MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12 + uint16(rand.IntN(2)),
	}
	if change != nil {
		change(cfg)
	}
	t.tls = tls.Client(raw, cfg)
	t.c = &counted{Conn: t.tls}
	err := t.tls.Handshake()
	t.shook = time.Since(t.want.begun)
	return err
}

// closeWrite half-closes, with a close_notify if TLS is used.
func (t *try) closeWrite() error {
	if t.tls != nil {
		return t.tls.CloseWrite()
	}
	c, ok := t.c.Conn.(*net.TCPConn)
	if !ok {
		return errors.New("no TCP connection")
	}
	return c.CloseWrite()
}

var errCorrupt = errors.New("other bytes came than were sent")

// ask makes one transfer and compares every byte by SHA-256.
func (t *try) ask(op byte, n uint64) error {
	req := request{op: op, id: t.want.id, seed: rand.Uint64(), n: n}
	if _, err := t.c.Write(req.bytes()); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	t.asked = true
	same := func(what string, a, b []byte) error {
		if !bytes.Equal(a, b) {
			return fmt.Errorf("%s: %w", what, errCorrupt)
		}
		return nil
	}
	switch op {
	case opUp:
		sent, err := sendStream(t.c, req.seed, n)
		if err != nil {
			return fmt.Errorf("upload: %w", err)
		}
		sum := make([]byte, sumSize)
		if _, err := io.ReadFull(t.c, sum); err != nil {
			return fmt.Errorf("sum of the upload: %w", err)
		}
		return same("upload", sum, sent)
	case opDown:
		return t.download(req, n)
	case opBoth:
		type sent struct {
			sum []byte
			err error
		}
		up := make(chan sent, 1)
		go func() {
			sum, err := sendStream(t.c, req.seed, n)
			up <- sent{sum, err}
		}()
		err := t.download(req, n)
		s := <-up
		if err := errors.Join(err, s.err); err != nil {
			return err
		}
		sum := make([]byte, sumSize)
		if _, err := io.ReadFull(t.c, sum); err != nil {
			return fmt.Errorf("sum of the upload: %w", err)
		}
		return same("upload", sum, s.sum)
	}
	return t.echo(n)
}

// download reads n bytes and their sum, and compares them with the expected stream of the seed.
func (t *try) download(req request, n uint64) error {
	got, err := receiveStream(t.c, n)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	sum := make([]byte, sumSize)
	if _, err := io.ReadFull(t.c, sum); err != nil {
		return fmt.Errorf("sum of the download: %w", err)
	}
	want, err := receiveStream(stream(down(req.seed), n), n)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) || !bytes.Equal(got, sum) {
		return fmt.Errorf("download: %w", errCorrupt)
	}
	return nil
}

// echo sends n bytes, at most chunk, and expects them back.
func (t *try) echo(n uint64) error {
	b := make([]byte, min(n, chunk))
	if _, err := io.ReadFull(stream(rand.Uint64(), uint64(len(b))), b); err != nil {
		return err
	}
	if _, err := t.c.Write(b); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	back := make([]byte, len(b))
	if _, err := io.ReadFull(t.c, back); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	if !bytes.Equal(b, back) {
		return fmt.Errorf("echo: %w", errCorrupt)
	}
	return nil
}

// end closes in order: half-close, wait for the end of the other side, close.
func (t *try) end() error {
	if err := t.closeWrite(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	switch n, err := io.Copy(io.Discard, onlyReader{t.c}); {
	case err != nil:
		return fmt.Errorf("wait for the close: %w", err)
	case n > 0:
		return fmt.Errorf("%d bytes more than were expected: %w", n, errCorrupt)
	}
	t.want.exact = true
	return nil
}

// whole makes one transfer and ends in order.
func (t *try) whole(op byte, n uint64) error {
	if err := t.ask(op, n); err != nil {
		return err
	}
	return t.end()
}

// refused makes a handshake and a request, and must see one of them fail.
func (t *try) refused(raw net.Conn, change func(*tls.Config)) error {
	if err := t.speak(raw, change); err != nil {
		return nil //nolint:nilerr // as it must be
	}
	if err := t.ask(opEcho, 16); err != nil {
		return nil //nolint:nilerr // as it must be; in TLS 1.3 the refusal comes after the client's handshake
	}
	return errors.New("served, and should have been refused")
}
