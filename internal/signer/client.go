package signer

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/escape"
)

const (
	// maxIdle is how many connections are kept for the next signatures, and maxBusy how many
	// there are at once. Who finds no place waits for one until its deadline.
	maxIdle, maxBusy = 8, 64
	maxKeys          = 256 // of one signer
)

// ErrPeer says that another process listens than may.
var ErrPeer = errors.New("is not the socket of whom it should be")

// ErrNoKey says that the signer does not have the key of a certificate.
var ErrNoKey = errors.New("the signer does not have the key of the certificate")

// Client speaks with the signer behind one socket. It is safe for many goroutines, and keeps
// connections open between signatures; Close ends those.
type Client struct {
	path    string
	timeout time.Duration
	places  chan struct{}

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

// New makes a Client of a socket. Nothing is opened yet. timeout bounds each question, the
// wait for a place and the connecting included.
func New(path string, timeout time.Duration) *Client {
	return &Client{path: path, timeout: timeout, places: make(chan struct{}, maxBusy)}
}

// conn is one connection. One goroutine at a time uses it.
type conn struct {
	*net.UnixConn
	r *bufio.Reader
}

// Keys asks which keys the signer has.
func (c *Client) Keys(ctx context.Context) ([]KeyInfo, error) {
	r, err := c.ask(ctx, &Request{Do: doKeys})
	if err != nil {
		return nil, err
	}
	if len(r.Keys) > maxKeys {
		return nil, c.failed(fmt.Errorf("it says that it has %d keys, more than %d", len(r.Keys), maxKeys))
	}
	return r.Keys, nil
}

// Among looks for the key among those that the signer says it has, and returns the schemes
// that it signs with, nil for all of its kind. ErrNoKey: it has others.
func (k *Remote) Among(keys []KeyInfo) ([]tls.SignatureScheme, error) {
	for _, x := range keys {
		if nameOf(x.Public) == k.name {
			return x.Schemes, nil
		}
	}
	return nil, k.c.failed(ErrNoKey)
}

// Remote is a private key that the signer has. It is a crypto.Signer.
type Remote struct {
	c    *Client
	pub  crypto.PublicKey
	name string
}

// Remote is the key of a public one, whether or not the signer can be asked now.
func (c *Client) Remote(pub crypto.PublicKey) (*Remote, error) {
	name, err := Name(pub)
	if err != nil {
		return nil, err
	}
	switch pub.(type) {
	case interface{ Equal(crypto.PublicKey) bool }:
		return &Remote{c: c, pub: pub, name: name}, nil
	}
	return nil, fmt.Errorf("a key of type %T cannot be a signer's", pub)
}

// Public is the public key.
func (k *Remote) Public() crypto.PublicKey { return k.pub }

// Sign is SignContext without a context: the client's timeout bounds it all the same.
func (k *Remote) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts)
}

// SignContext has a digest signed, as crypto.Signer describes it. It returns at the end of
// ctx or of the client's timeout at the latest. The signature is verified.
func (k *Remote) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, err := schemeOf(k.pub, opts)
	if err != nil {
		return nil, err
	}
	r, err := k.c.ask(ctx, &Request{Do: doSign, Key: k.name, Scheme: scheme, Digest: digest})
	if err != nil {
		return nil, err
	}
	if o, err := optionsOf(scheme); err != nil {
		return nil, err
	} else if err := verify(k.pub, digest, r.Signature, o); err != nil {
		return nil, k.c.failed(err)
	}
	return r.Signature, nil
}

// Close ends the connections that are kept. Signatures that are under way end as they would.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, x := range c.idle {
		_ = x.Close()
	}
	c.idle = nil
}

func (c *Client) failed(err error) error { return fmt.Errorf("signer %s: %w", c.path, err) }

// ask is one question with its answer. A connection that was kept may have ended since: then
// it is asked anew on another one, once. To sign twice does no harm.
func (c *Client) ask(ctx context.Context, q *Request) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
		return nil, c.failed(fmt.Errorf("%d questions wait for its answers already", maxBusy))
	}
	for {
		x, kept, err := c.take(ctx)
		if err != nil {
			return nil, c.failed(err)
		}
		r, err := x.ask(ctx, q)
		switch {
		case err == nil:
			c.keep(x)
		default:
			_ = x.Close()
			late := ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)
			if kept && !late {
				continue
			}
			if late {
				err = fmt.Errorf("no answer within %s", c.timeout)
			}
			return nil, c.failed(err)
		}
		if r.Error != "" {
			return nil, c.failed(errors.New(escape.String(r.Error, 200)))
		}
		return r, nil
	}
}

// take is a connection, of those that were kept if there is one.
func (c *Client) take(ctx context.Context) (x *conn, kept bool, err error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		x = c.idle[n-1]
		c.idle = c.idle[:n-1]
	}
	c.mu.Unlock()
	if x != nil {
		return x, true, nil
	}
	dialled, err := dialer.Mark(0).Dialer().DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, false, err
	}
	raw, ok := dialled.(*net.UnixConn)
	if !ok {
		_ = dialled.Close()
		return nil, false, ErrPeer
	}
	if err := CheckPeer(raw, c.path); err != nil {
		_ = raw.Close()
		return nil, false, err
	}
	return &conn{raw, bufio.NewReaderSize(raw, MaxMessage)}, false, nil
}

func (c *Client) keep(x *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdle {
		_ = x.Close()
		return
	}
	c.idle = append(c.idle, x)
}

// CheckPeer looks at who listens on the socket at a path (SO_PEERCRED, unix(7)): root, our own
// user, or the owner of the socket's directory, which others must not be able to write. So
// nobody else can put a socket of his in the place of it. The error is ErrPeer for others.
func CheckPeer(raw *net.UnixConn, path string) error {
	uid, err := peerOf(raw)
	if err != nil {
		return err
	}
	if uid == 0 || int(uid) == unix.Geteuid() {
		return nil
	}
	var dir unix.Stat_t
	if err := unix.Stat(filepath.Dir(path), &dir); err != nil {
		return err
	}
	if dir.Uid == uid && dir.Mode&0o022 == 0 {
		return nil
	}
	return fmt.Errorf("%s %w: user %d listens, who is neither root nor %d nor the owner of the directory, or others may write there", path, ErrPeer, uid, unix.Geteuid())
}

// peerOf is the user at the other end.
func peerOf(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return cred.Uid, nil
}

// ask is one question on this connection, until the end of ctx.
func (x *conn) ask(ctx context.Context, q *Request) (*Response, error) {
	deadline, _ := ctx.Deadline()
	if err := x.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = x.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := write(x, q); err != nil {
		return nil, err
	}
	var r Response
	if err := read(x.r, &r); err != nil {
		return nil, err
	}
	if x.r.Buffered() > 0 {
		return nil, errors.New("it says more than it was asked for")
	}
	if !stop() { // the deadline of this question may still be set, on a connection of the next
		return nil, ctx.Err()
	}
	return &r, nil
}

var _ crypto.Signer = (*Remote)(nil)
