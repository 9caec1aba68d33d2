package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// checkTimeout bounds every connection of LoadCheck.
const checkTimeout = 20 * time.Second

// check proves that a peer does what it will be measured at. It must carry bytes unchanged both
// ways, in several flows at once. If it terminates TLS, it must show a certificate that verifies,
// and refuse clients without one.
func (l *load) check() error {
	cfg := l.tls
	if cfg != nil {
		cfg = cfg.Clone()
		cfg.InsecureSkipVerify = false
		if err := l.checkRefused(cfg); err != nil {
			return err
		}
	}
	errs := make([]error, 2*l.job.Flows)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			op, dir := byte(opCheckUp), "upload"
			if i%2 == 1 {
				op, dir = opCheckDown, "download"
			}
			if err := l.checkStream(cfg, op); err != nil {
				errs[i] = fmt.Errorf("%s: %w", dir, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *load) checkStream(cfg *tls.Config, op byte) error {
	c, err := l.checked(cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	return l.compare(c, op)
}

// compare moves one checked stream.
func (l *load) compare(c net.Conn, op byte) error {
	seed := rand.Uint64()
	want, err := streamSum(seed, l.job.Bytes)
	if err != nil {
		return err
	}
	if _, err := c.Write(request{op: op, n: l.job.Bytes, seed: seed}.bytes()); err != nil {
		return err
	}
	var got []byte
	if op == opCheckUp {
		if _, err := io.CopyN(c, stream(seed), int64(l.job.Bytes)); err != nil {
			return err
		}
		got = make([]byte, sha256.Size)
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
	} else {
		h := sha256.New()
		if _, err := io.CopyN(h, c, int64(l.job.Bytes)); err != nil {
			return err
		}
		got = h.Sum(nil)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("SHA-256 of %d bytes is %x, want %x", l.job.Bytes, got, want)
	}
	return nil
}

func (l *load) checked(cfg *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), connTimeout)
	defer cancel()
	c, err := l.dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*tls.Conn); ok {
		s := t.ConnectionState()
		if s.Version != tls.VersionTLS13 || s.CipherSuite != tls.TLS_AES_128_GCM_SHA256 || s.CurveID != tls.X25519 {
			c.Close()
			return nil, fmt.Errorf("%s, %s, %v was negotiated: all are measured with TLS 1.3, TLS_AES_128_GCM_SHA256, X25519",
				tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite), s.CurveID)
		}
	}
	return c, c.SetDeadline(time.Now().Add(checkTimeout))
}

// checkRefused fails unless a client without a certificate is refused. In TLS 1.3 the client
// learns that only with its first read.
func (l *load) checkRefused(cfg *tls.Config) error {
	cfg = cfg.Clone()
	cfg.Certificates = nil
	c, err := l.checked(cfg)
	if err != nil {
		return refusal(err)
	}
	defer c.Close()
	if err := echo(c, request{op: opEcho}.bytes(), make([]byte, requestSize)); err != nil {
		return refusal(err)
	}
	return errors.New("a client without a certificate was let in")
}

// refusal is nil if err is how a peer refuses: an alert, a reset or an end.
func refusal(err error) error {
	var alert *net.OpError
	if errors.As(err, &alert) && !alert.Timeout() && alert.Op != "dial" || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("a client without a certificate: %w", err)
}
