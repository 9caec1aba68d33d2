package signer

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a Server. A gateway keeps at most maxBusy connections; a second one beside it,
// while one takes over from the other, as many again.
const (
	maxConns    = 4 * maxBusy
	idleFor     = 10 * time.Minute // a connection without a question
	answerFor   = 10 * time.Second // the rest of a question, and the writing of its answer
	maxDigest   = 4096             // bytes; what ed25519 signs in TLS has less than 200
	acceptPause = 100 * time.Millisecond
)

// Key is one that a Server signs with.
type Key struct {
	crypto.Signer
	// Schemes are what it can; nil: all of its kind.
	Schemes []tls.SignatureScheme
}

// Server is a signer: it has keys, and signs what may ask it to. Only digests of TLS's
// schemes are signed; it never gives a key away.
type Server struct {
	keys  map[string]Key
	infos []KeyInfo
	uids  []uint32
}

// NewServer makes a signer of keys. uids are the users whose processes may ask, besides root
// and the signer's own.
func NewServer(keys []Key, uids ...uint32) (*Server, error) {
	s := &Server{keys: map[string]Key{}, uids: append(slices.Clone(uids), 0, uint32(unix.Geteuid()))}
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			return nil, err
		}
		s.keys[nameOf(der)] = k
		s.infos = append(s.infos, KeyInfo{Public: der, Schemes: k.Schemes})
	}
	if len(s.infos) > maxKeys {
		return nil, fmt.Errorf("%d keys, more than %d", len(s.infos), maxKeys)
	}
	return s, nil
}

// Serve answers on a listener until ctx ends, and then returns nil once all connections have
// ended. It closes the listener.
func (s *Server) Serve(ctx context.Context, ln *net.UnixListener) error {
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	var all sync.WaitGroup
	defer all.Wait()
	given := ctx // who closes the listener may run before a context that depends on it has ended
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	places := make(chan struct{}, maxConns)
	for {
		c, err := ln.AcceptUnix()
		switch {
		case err == nil:
		case given.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // too many open files
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		all.Go(func() {
			defer func() { <-places }()
			s.serve(ctx, c)
		})
	}
}

// serve answers on one connection until it ends, or says what is no question.
func (s *Server) serve(ctx context.Context, c *net.UnixConn) {
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	uid, err := peerOf(c)
	if err != nil {
		return
	}
	if !s.mayAsk(uid) { // at once: a stranger who says nothing must not keep a place
		if c.SetDeadline(time.Now().Add(answerFor)) == nil {
			_ = write(c, s.answer(uid, nil))
		}
		return
	}
	r := bufio.NewReaderSize(c, MaxMessage)
	for {
		if c.SetDeadline(time.Now().Add(idleFor)) != nil {
			return
		}
		if _, err := r.Peek(1); err != nil {
			return
		}
		if c.SetDeadline(time.Now().Add(answerFor)) != nil {
			return
		}
		var q Request
		if err := read(r, &q); err != nil {
			_ = write(c, &Response{Error: err.Error()})
			return
		}
		answer := s.answer(uid, &q)
		if c.SetDeadline(time.Now().Add(answerFor)) != nil || write(c, answer) != nil {
			return
		}
	}
}

func (s *Server) mayAsk(uid uint32) bool { return slices.Contains(s.uids, uid) }

// answer is what the process of a user is told. A stranger is told the same whatever it asks.
func (s *Server) answer(uid uint32, q *Request) *Response {
	refuse := func(format string, args ...any) *Response { return &Response{Error: fmt.Sprintf(format, args...)} }
	if !s.mayAsk(uid) {
		return refuse("user %d may not ask this signer", uid)
	}
	switch q.Do {
	case doKeys:
		return &Response{Keys: s.infos}
	case doSign:
	default:
		return refuse("there are %q and %q to do", doKeys, doSign)
	}
	k, ok := s.keys[q.Key]
	if !ok {
		return refuse("there is no such key")
	}
	if k.Schemes != nil && !slices.Contains(k.Schemes, q.Scheme) {
		return refuse("the key does not sign with scheme %d", uint16(q.Scheme))
	}
	opts, err := optionsOf(q.Scheme)
	if err != nil {
		return refuse("%v", err)
	}
	if id, err := schemeOf(k.Public(), opts); err != nil || id != q.Scheme {
		return refuse("scheme %d is none of the key", uint16(q.Scheme))
	}
	if n := len(q.Digest); n == 0 || n > maxDigest || opts.HashFunc() != 0 && n != opts.HashFunc().Size() {
		return refuse("a digest of %d bytes does not fit the scheme", n)
	}
	signature, err := k.Sign(rand.Reader, q.Digest, opts)
	if err != nil {
		return refuse("cannot sign: %v", err)
	}
	return &Response{Signature: signature}
}

// Listen listens where nobody does: a socket that a process has left behind is taken away.
// Its group may
// connect; whose process may ask is looked at besides. The umask of the process is changed
// meanwhile: it is for the start of a program.
func Listen(path string) (*net.UnixListener, error) {
	at := &net.UnixAddr{Name: path, Net: "unix"}
	if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSocket != 0 {
		if c, err := net.DialUnix("unix", nil, at); err == nil {
			return nil, errors.Join(fmt.Errorf("%s: another process listens there", path), c.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	old := unix.Umask(0o117)
	defer unix.Umask(old)
	ln, err := net.ListenUnix("unix", at)
	if err != nil {
		return nil, fmt.Errorf("%w (is there a directory %s, that this user may write?)", err, filepath.Dir(path))
	}
	return ln, nil
}
