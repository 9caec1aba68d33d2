package demo

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestClassify(t *testing.T) {
	op := func(e error) error { return &net.OpError{Op: "read", Err: os.NewSyscallError("read", e)} }
	for _, tc := range []struct {
		err  error
		want Seen
	}{
		{op(syscall.ECONNREFUSED), SeenRefused},
		{op(syscall.ECONNRESET), SeenReset},
		{op(syscall.EPIPE), SeenReset},
		{op(syscall.EHOSTUNREACH), SeenNothing},
		{io.EOF, SeenClosed},
		{fmt.Errorf("x: %w", io.ErrUnexpectedEOF), SeenClosed},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, SeenNothing},
		{context.DeadlineExceeded, SeenNothing},
		{errors.New("tls: something"), SeenOther},
	} {
		if v := classify(tc.err); v.Seen != tc.want || v.Alert != handshake.AlertNone || v.Text == "" {
			t.Errorf("%v: %+v, want %s", tc.err, v, tc.want)
		}
	}
}

// The alert must be read out of what crypto/tls really returns.
func TestRemoteAlert(t *testing.T) {
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = b.Close() }()
		_, _ = b.Read(make([]byte, 1<<14))
		_, _ = b.Write([]byte{21, 3, 3, 0, 2, 2, 112})
	}()
	err := tls.Client(a, &tls.Config{ServerName: "x.test"}).Handshake()
	_ = a.Close()
	<-done
	if v := classify(err); v.Seen != SeenAlert || v.Alert != handshake.AlertUnrecognizedName {
		t.Errorf("%v is %+v", err, v)
	}
	// An alert of our own making is not one that was received.
	if v := classify(&net.OpError{Op: "local error", Err: tls.AlertError(112)}); v.Seen == SeenAlert {
		t.Error("a local alert counts as received")
	}
}

func TestReadAnswer(t *testing.T) {
	for _, tc := range []struct {
		sent  string
		seen  Seen
		alert handshake.Alert
	}{
		{"HTTP/1.1 200 OK\r\n\r\norigin pay: hello", SeenAnswer, handshake.AlertNone},
		{"", SeenClosed, handshake.AlertNone},
		{"HTTP/1.1 403 No\r\n\r\nsomebody else", SeenOther, handshake.AlertNone},
		{"\x15\x03\x01\x00\x02\x02\x0a", SeenAlert, handshake.AlertUnexpectedMessage},
	} {
		a, b := net.Pipe()
		go func() {
			_, _ = io.WriteString(b, tc.sent)
			_ = b.Close()
		}()
		if v := readAnswer(a); v.Seen != tc.seen || v.Alert != tc.alert {
			t.Errorf("%q: %+v", tc.sent, v)
		}
		_ = a.Close()
	}
}

type writes struct {
	net.Conn
	sizes []int
}

func (w *writes) Write(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	return len(p), nil
}

func TestByteByByte(t *testing.T) {
	w := &writes{}
	b := &byteByByte{Conn: w}
	for _, s := range []string{"abc", "defg"} {
		if n, err := b.Write([]byte(s)); n != len(s) || err != nil {
			t.Error(n, err)
		}
	}
	if fmt.Sprint(w.sizes) != "[1 1 1 4]" {
		t.Errorf("writes of %v bytes", w.sizes)
	}
}

// The thief's certificate is the right one, and its key is not.
func TestStolen(t *testing.T) {
	p, err := NewPKI()
	if err != nil {
		t.Fatal(err)
	}
	c, err := stolen(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Leaf.CheckSignatureFrom(p.Staff.Cert); err != nil {
		t.Error(err)
	}
	own := testpki.Must(p.Staff.Issue(payLeaf())).TLS()
	if _, err := tls.X509KeyPair(pemOf(t, own)); err != nil {
		t.Errorf("an honest pair does not fit: %v", err)
	}
	if _, err := tls.X509KeyPair(pemOf(t, c)); err == nil {
		t.Error("the stolen pair fits")
	}
}

func pemOf(t *testing.T, c tls.Certificate) (cert, key []byte) {
	t.Helper()
	key, err := testpki.KeyPEM(c.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	return testpki.CertsPEM(c.Leaf), key
}

func TestRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	r := newRecords(path)
	me, other := netip.MustParseAddrPort("10.77.1.2:1"), netip.MustParseAddrPort("10.77.1.2:2")
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := r.wait(short, me.String()); err == nil {
		t.Fatal("a record without a file")
	}
	add := func(s string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, s); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	add(`{"client":"10.77.1.2:1","id":"first"}` + "\n" + `{"client":"10.77.1.2:1","id":"second"}` + "\n" + `{"client":"10.77`)
	rec, raw, err := r.wait(context.Background(), me.String())
	if err != nil || rec.ID != "first" || len(raw) == 0 {
		t.Errorf("%+v, %v", rec, err)
	}
	go func() {
		time.Sleep(30 * time.Millisecond)
		add(`.1.2:2","id":"third"}` + "\n")
	}()
	if rec, _, err := r.wait(context.Background(), other.String()); err != nil || rec.ID != "third" {
		t.Errorf("%+v, %v", rec, err)
	}
}

// A RST that comes before the request is written is told to the write alone: the
// client saw a reset all the same. What came before the RST counts first.
func TestExchangeAfterReset(t *testing.T) {
	for name, tc := range map[string]struct {
		sent  string
		reset bool
		seen  Seen
	}{
		"reset":              {"", true, SeenReset},
		"an alert, reset":    {"\x15\x03\x01\x00\x02\x02\x0a", true, SeenAlert},
		"an answer, reset":   {"HTTP/1.1 200 OK\r\n\r\norigin pay: hello", true, SeenAnswer},
		"closed":             {"", false, SeenClosed},
		"an answer, closed":  {"HTTP/1.1 200 OK\r\n\r\norigin pay: hello", false, SeenAnswer},
		"an odd one, closed": {"HTTP/1.1 403 No\r\n\r\nsomebody else", false, SeenOther},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ln.Close() }()
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			far, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(far, tc.sent)
			if tc.sent != "" {
				hasCome(t, c, unix.POLLIN)
			}
			if tc.reset {
				_ = far.(*net.TCPConn).SetLinger(0)
				_ = far.Close()
				hasCome(t, c, unix.POLLHUP)
			} else {
				_ = far.(*net.TCPConn).CloseWrite()
				defer func() { _ = far.Close() }()
			}
			if v := exchange(c, []byte("GET / HTTP/1.1\r\n\r\n")); v.Seen != tc.seen {
				t.Errorf("%+v, want %s", v, tc.seen)
			}
		})
	}
}

// hasCome waits for an event of a connection and leaves it to the next call.
func hasCome(t *testing.T, c net.Conn, event int16) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: event}}
		n, err := unix.Poll(poll, 60_000)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(poll, 60_000)
		}
		if n != 1 || err != nil {
			t.Errorf("poll: %d, %v", n, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
