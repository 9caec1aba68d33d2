package signer

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// listen opens a socket in a directory of its own: a path has at most 108 bytes.
func listen(t *testing.T) (*net.UnixListener, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "signer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return ln, path
}

// serving runs a signer, and returns its socket and what ends it.
func serving(t *testing.T, keys ...Key) (path string, stop func()) {
	t.Helper()
	s := testpki.Must(NewServer(keys))
	ln, path := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return path, stop
}

func client(t *testing.T, path string) *Client {
	c := New(path, testenv.Patience())
	t.Cleanup(c.Close)
	return c
}

// Each key signs with each scheme of its kind, and what others would have signed is refused.
func TestSigns(t *testing.T) {
	kinds := []testpki.KeyKind{testpki.P256, testpki.P384, testpki.RSA2048, testpki.Ed25519}
	var keys []Key
	for _, kind := range kinds {
		keys = append(keys, Key{Signer: testpki.Must(testpki.NewKey(kind))})
	}
	path, _ := serving(t, keys...)
	c := client(t, path)
	if got, err := c.Keys(t.Context()); err != nil || len(got) != len(keys) {
		t.Fatal(got, err)
	}
	pss := func(h crypto.Hash) crypto.SignerOpts {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	for i, ways := range [][]crypto.SignerOpts{
		{crypto.SHA256, crypto.SHA384, crypto.SHA512},
		{crypto.SHA256, crypto.SHA384, crypto.SHA512},
		{crypto.SHA256, crypto.SHA384, crypto.SHA512, pss(crypto.SHA256), pss(crypto.SHA384), pss(crypto.SHA512)},
		{crypto.Hash(0)},
	} {
		k := testpki.Must(c.Remote(keys[i].Public()))
		for _, opts := range ways {
			digest := []byte("what is signed itself")
			if h := opts.HashFunc(); h != 0 {
				digest = make([]byte, h.Size())
				_, _ = rand.Read(digest)
			}
			if _, err := k.Sign(nil, digest, opts); err != nil { // which verifies it
				t.Errorf("%T %v: %v", k.Public(), opts, err)
			}
			if _, err := k.Sign(nil, digest[1:], opts); opts.HashFunc() != 0 && err == nil {
				t.Errorf("%T %v: a digest that is too short was signed", k.Public(), opts)
			}
		}
	}
	rsaKey, ecKey := testpki.Must(c.Remote(keys[2].Public())), testpki.Must(c.Remote(keys[0].Public()))
	for what, err := range map[string]error{
		"SHA-1":             second(rsaKey.Sign(nil, make([]byte, 20), crypto.SHA1)),
		"PSS with an EC":    second(ecKey.Sign(nil, make([]byte, 32), pss(crypto.SHA256))),
		"no hash":           second(ecKey.Sign(nil, make([]byte, 32), crypto.Hash(0))),
		"a key of another":  second(testpki.Must(c.Remote(testpki.Must(testpki.NewKey(testpki.P256)).Public())).Sign(nil, make([]byte, 32), crypto.SHA256)),
		"a scheme of 65535": second(c.ask(t.Context(), &Request{Do: doSign, Key: ecKey.name, Scheme: 65535, Digest: make([]byte, 32)})),
		"of another kind":   second(c.ask(t.Context(), &Request{Do: doSign, Key: ecKey.name, Scheme: tls.PSSWithSHA256, Digest: make([]byte, 32)})),
		"something else":    second(c.ask(t.Context(), &Request{Do: "export", Key: ecKey.name})),
	} {
		if err == nil {
			t.Errorf("%s: done", what)
		}
	}
	if _, err := testpki.Must(c.Remote(testpki.Must(testpki.NewKey(testpki.P256)).Public())).Among(nil); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// A signer that comes back is asked anew, although the kept connections have ended; one that
// is not there is an error at once.
func TestSignerThatComesBack(t *testing.T) {
	key := testpki.Must(testpki.NewKey(testpki.P256))
	path, stop := serving(t, Key{Signer: key})
	c := client(t, path)
	k := testpki.Must(c.Remote(key.Public()))
	sign := func() error { return second(k.Sign(nil, make([]byte, 32), crypto.SHA256)) }
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if err := sign(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	stop()
	begun := time.Now()
	if err := sign(); err == nil || time.Since(begun) > testenv.Patience()/2 {
		t.Errorf("a signer that is gone: %v after %s", err, time.Since(begun))
	}
	ln := testpki.Must(net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- testpki.Must(NewServer([]Key{{Signer: key}})).Serve(ctx, ln) }()
	if err := sign(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever a signer answers, or does not, is an error in time, and no signature.
func TestBadSigners(t *testing.T) {
	key, other := testpki.Must(testpki.NewKey(testpki.P256)), testpki.Must(testpki.NewKey(testpki.P256))
	wrong := testpki.Must(other.Sign(rand.Reader, make([]byte, 32), crypto.SHA256))
	for name, answer := range map[string]func(net.Conn){
		"hangs":           func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"closes":          func(net.Conn) {},
		"half a line":     func(c net.Conn) { _, _ = c.Write([]byte(`{"signature":`)) },
		"no JSON":         func(c net.Conn) { _, _ = c.Write([]byte("hello\n")) },
		"a long line":     func(c net.Conn) { _, _ = c.Write([]byte(strings.Repeat(" ", 2*MaxMessage))) },
		"too much":        func(c net.Conn) { _, _ = c.Write([]byte("{}\n{}\n")) },
		"two in a line":   func(c net.Conn) { _, _ = c.Write([]byte("{}{}\n")) },
		"nothing":         func(c net.Conn) { _, _ = c.Write([]byte("{}\n")) },
		"an error":        func(c net.Conn) { _ = write(c, &Response{Error: "no \x1b[2J"}) },
		"another's":       func(c net.Conn) { _ = write(c, &Response{Signature: wrong}) },
		"of another kind": func(c net.Conn) { _, _ = c.Write([]byte(`{"signature":7}` + "\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			ln, path := listen(t)
			var all sync.WaitGroup
			defer all.Wait()
			defer ln.Close()
			all.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					all.Go(func() {
						defer conn.Close()
						_, _ = bufio.NewReader(conn).ReadString('\n')
						answer(conn)
					})
				}
			})
			c := New(path, 50*time.Millisecond)
			if name != "hangs" {
				c = New(path, testenv.Patience())
			}
			defer c.Close()
			begun := time.Now()
			sig, err := testpki.Must(c.Remote(key.Public())).Sign(nil, make([]byte, 32), crypto.SHA256)
			if err == nil || sig != nil || strings.ContainsRune(err.Error(), 0x1b) || time.Since(begun) > testenv.Patience()/2 {
				t.Errorf("%q after %s", fmt.Sprint(err), time.Since(begun))
			}
		})
	}
}

// Whose process may ask, and who may listen.
func TestPeers(t *testing.T) {
	s := testpki.Must(NewServer([]Key{{Signer: testpki.Must(testpki.NewKey(testpki.P256))}}, 4711))
	for uid, want := range map[uint32]bool{0: true, uint32(os.Geteuid()): true, 4711: true, 4712: false} {
		if r := s.answer(uid, &Request{Do: doKeys}); (r.Error == "") != want || (len(r.Keys) == 1) != want {
			t.Errorf("user %d: %+v", uid, r)
		}
	}
	ln, path := listen(t)
	defer ln.Close()
	raw := testpki.Must(net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"}))
	defer raw.Close()
	if uid, err := peerOf(raw); err != nil || uid != uint32(os.Geteuid()) {
		t.Errorf("user %d, %v", uid, err)
	}
	if err := CheckPeer(raw, path); err != nil {
		t.Error(err)
	}
}

// Whoever may not ask is told so at once, and keeps nobody from asking.
func TestStrangersKeepNoPlace(t *testing.T) {
	s := testpki.Must(NewServer([]Key{{Signer: testpki.Must(testpki.NewKey(testpki.P256))}}))
	s.uids = []uint32{4711}
	ln, path := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, ln) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for i := range maxConns + 1 {
		c := testpki.Must(net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"}))
		defer c.Close()
		if err := c.SetDeadline(testenv.Deadline()); err != nil {
			t.Fatal(err)
		}
		if said, err := io.ReadAll(c); err != nil || !strings.Contains(string(said), "may not ask") {
			t.Fatalf("connection %d: %q, %v", i, said, err)
		}
	}
}

// What a stranger says to a signer is answered with an error, and with no signature unless
// it is a question of TLS for a key that is there.
func FuzzAnswer(f *testing.F) {
	key := testpki.Must(testpki.NewKey(testpki.P256))
	s := testpki.Must(NewServer([]Key{{Signer: key}}))
	name := testpki.Must(Name(key.Public()))
	f.Add([]byte(`{"do":"keys"}` + "\n"))
	f.Add([]byte(`{"do":"sign","key":"` + name + `","scheme":1027,"digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var q Request
		if err := read(bufio.NewReaderSize(strings.NewReader(string(line)), MaxMessage), &q); err != nil {
			return
		}
		r := s.answer(0, &q)
		if len(r.Signature) == 0 {
			return
		}
		opts, err := optionsOf(q.Scheme)
		if err != nil || q.Do != doSign || q.Key != name || verify(key.Public(), q.Digest, r.Signature, opts) != nil {
			t.Errorf("signed %+v", q)
		}
	})
}

// A socket that a dead process has left is taken over, one of a living process is not, and
// strangers cannot connect.
func TestListen(t *testing.T) {
	ln, path := listen(t)
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Error(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := Listen(filepath.Join(filepath.Dir(path), "none", "s.sock")); err == nil || !strings.Contains(err.Error(), "is there a directory") {
		t.Error(err)
	}
}
