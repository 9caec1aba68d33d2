package stdtls

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// A client that does not accept our certificate: step 3, with its alert.
func TestClientRefuses(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			config func(*tls.Config)
			alert  handshake.Alert
		}{
			// Go's client sends bad_certificate whatever is wrong.
			"unknown CA": {func(c *tls.Config) { c.RootCAs = f.Other.Pool() }, handshake.AlertBadCertificate},
			"wrong name": {func(c *tls.Config) { c.ServerName = "elsewhere.test" }, handshake.AlertBadCertificate},
		} {
			config := clientConfig(version, f.Client.TLS())
			tt.config(config)
			o, _, err := withGo(t, handshaketest.ServerParams(), config)
			if err == nil || o.err == nil || o.err.Reason != reason.ClientRefused || o.err.Step != handshake.StepServerVerified {
				t.Fatalf("%s, %s: client %v, server %v", handshake.VersionName(version), name, err, o.err)
			}
			if o.err.Received != tt.alert || o.l.AlertReceived() != tt.alert || o.l.AlertSent() != handshake.AlertNone {
				t.Errorf("%s, %s: received %s, ledger %s", handshake.VersionName(version), name, o.err.Received, o.l.AlertReceived())
			}
			if o.l.Reached() != handshake.StepServerHello {
				t.Errorf("%s, %s: reached %s", handshake.VersionName(version), name, o.l.Reached())
			}
			last := o.l.Entries()[len(o.l.Entries())-1]
			if last.Message != handshake.MsgAlert || last.Step != handshake.StepServerVerified || last.From != handshake.SidePeer {
				t.Errorf("%s: last entry %+v", name, last)
			}
		}
	}
}

// stopAfter lets a client send a number of bytes after its hello and then does
// something else.
type stopAfter struct {
	net.Conn
	writes, limit int
	then          func()
}

func (c *stopAfter) Write(b []byte) (int, error) {
	if c.writes++; c.writes > c.limit {
		c.then()
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// expiring is a context whose deadline comes when the test says so.
type expiring struct {
	context.Context
	over chan struct{}
}

func (c *expiring) Done() <-chan struct{} { return c.over }

func (c *expiring) Err() error {
	select {
	case <-c.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// The connection ends, or falls silent until the deadline, after the client's hello.
func TestServerInterrupted(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			then func(*net.TCPConn, *expiring)
			want reason.Code
		}{
			"silent": {func(_ *net.TCPConn, ctx *expiring) { close(ctx.over) }, reason.HandshakeTimeout},
			"FIN":    {func(c *net.TCPConn, _ *expiring) { _ = c.CloseWrite() }, reason.HandshakeEOF},
			"RST":    {func(c *net.TCPConn, _ *expiring) { _ = c.SetLinger(0); _ = c.Close() }, reason.HandshakeReset},
		} {
			cc, sc := testenv.TCPPair(t)
			ctx := &expiring{t.Context(), make(chan struct{})}
			done := make(chan outcome, 1)
			go func() { done <- serve(ctx, sc, handshaketest.ServerParams(), nil) }()
			then := sync.OnceFunc(func() { tt.then(cc, ctx) })
			tc := tls.Client(&stopAfter{Conn: cc, limit: 1, then: then}, clientConfig(version, f.Client.TLS()))
			_ = cc.SetDeadline(testenv.Deadline())
			_ = tc.Handshake()
			_, _ = io.Copy(io.Discard, cc)
			_ = cc.Close()
			o := testenv.Receive(t, "the handshake ends", done)
			if o.err == nil || o.err.Reason != tt.want || o.err.Step < handshake.StepServerVerified || o.err.Wanted != handshake.AlertNone {
				t.Errorf("%s, %s: %v", handshake.VersionName(version), name, o.err)
			}
		}
	}
}

// Somebody else ends the handshake: a drain.
func TestServerCancelled(t *testing.T) {
	cc, sc := testenv.TCPPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan outcome, 1)
	go func() { done <- serve(ctx, sc, handshaketest.ServerParams(), nil) }()
	tc := tls.Client(&stopAfter{Conn: cc, limit: 1, then: cancel}, clientConfig(0))
	_ = tc.Handshake()
	if o := <-done; o.err == nil || o.err.Reason != reason.Draining || o.err.Side != handshake.SideUs {
		t.Errorf("got %v", o.err)
	}
}

// dripConn sends one byte at a time.
type dripConn struct {
	net.Conn
	wait time.Duration
}

func (c *dripConn) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(c.wait)
	}
	return len(b), nil
}

// Any segmentation is read; but dripping does not outlast the deadline.
func TestServerDrip(t *testing.T) {
	f := handshaketest.Fixtures()
	var err error
	o := handshakeWith(t, handshaketest.ServerParams(), nil, func(c *net.TCPConn) {
		err = goClient(clientConfig(tls.VersionTLS13, f.Client.TLS()), nil)(&dripConn{c, 0})
	})
	if err != nil || o.err != nil {
		t.Fatalf("client %v, server %v", err, o.err)
	}
	cc, sc := testenv.TCPPair(t)
	ctx := &expiring{t.Context(), make(chan struct{})}
	done := make(chan outcome, 1)
	go func() { done <- serve(ctx, sc, handshaketest.ServerParams(), nil) }()
	hello := true
	tc := tls.Client(writeFunc{cc, func(b []byte) (int, error) {
		if hello {
			hello = false
			return cc.Write(b)
		}
		if _, err := cc.Write(b[:10]); err != nil {
			return 0, err
		}
		close(ctx.over)
		// At this pace the rest of the flight takes ten seconds and more.
		return (&dripConn{Conn: cc, wait: 20 * time.Millisecond}).Write(b[10:])
	}}, clientConfig(tls.VersionTLS13, f.Client.TLS()))
	_ = tc.Handshake()
	_ = cc.Close()
	if o = testenv.Receive(t, "the handshake ends", done); o.err == nil || o.err.Reason != reason.HandshakeTimeout {
		t.Errorf("got %v", o.err)
	}
}

type writeFunc struct {
	net.Conn
	write func([]byte) (int, error)
}

func (c writeFunc) Write(b []byte) (int, error) { return c.write(b) }

// A Finished that does not fit is not taken for a missing proof of possession,
// although TLS 1.3 has the same alert for both.
func TestBadFinished(t *testing.T) {
	f := handshaketest.Fixtures()
	keys := newTap(handshake.NewLedger(time.Now()), false) // only to catch the client's secrets
	config := clientConfig(tls.VersionTLS13, f.Client.TLS())
	config.KeyLogWriter = keys
	config.CipherSuites = nil
	var err error
	o := handshakeWith(t, handshaketest.ServerParams(), nil, func(c *net.TCPConn) {
		forge := &forger{Conn: c, keys: keys}
		tc := tls.Client(forge, config)
		if err = tc.Handshake(); err == nil {
			_, err = tc.Read(make([]byte, 1))
		}
	})
	if o.err == nil || o.err.Reason != reason.HandshakeFailed || o.err.Step != handshake.StepClientFinished || o.err.Wanted != handshake.AlertDecryptError {
		t.Fatalf("got %v", o.err)
	}
	if o.err.Peer == nil || o.err.Peer.Proven {
		t.Errorf("peer %+v", o.err.Peer)
	}
	if got := alertSeen(t, err); got != handshake.AlertDecryptError {
		t.Errorf("client saw %s", got)
	}
}

// forger replaces the client's Finished by a wrong one under the right keys.
type forger struct {
	net.Conn
	keys *tap
}

func (c *forger) Write(b []byte) (int, error) {
	secret := c.keys.secrets[toServer][0]
	if secret == nil {
		return c.Conn.Write(b)
	}
	var out []byte
	var o *opener
	for rest := b; len(rest) >= handshake.RecordHeader; {
		n := handshake.RecordHeader + handshake.RecordLen(rest)
		rec := append([]byte(nil), rest[:n]...)
		rest = rest[n:]
		if rec[0] != handshake.RecordAppData {
			out = append(out, rec...)
			continue
		}
		if o == nil {
			// The suite is the test's own; with 32 bytes of secret it is one with SHA-256.
			o = newOpener(tls.TLS_AES_128_GCM_SHA256, secret)
		}
		seq := o.seq
		content, typ, ok := o.open(rec[handshake.RecordHeader:])
		if ok && len(content) > 4 && content[0] == handshake.TypeFinished {
			content[len(content)-1] ^= 1
			o.seq = seq
			rec = o.aead.Seal(rec[:handshake.RecordHeader:handshake.RecordHeader], o.nonce(), append(content, typ), rec[:handshake.RecordHeader])
		}
		out = append(out, rec...)
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Pins the reflection on crypto/tls's unexported alert type.
func TestRemoteAlert(t *testing.T) {
	cc, sc := testenv.TCPPair(t)
	go func() { _ = handshake.SendAlert(sc, handshake.AlertAccessDenied, 0) }()
	err := tls.Client(cc, &tls.Config{ServerName: "x"}).Handshake()
	if a, ok := remoteAlert(err); !ok || a != handshake.AlertAccessDenied {
		t.Errorf("got %s, %v of %v", a, ok, err)
	}
	for _, err := range []error{nil, io.EOF, &net.OpError{Op: "remote error"}, &net.OpError{Op: "read", Err: io.EOF}} {
		if a, ok := remoteAlert(err); ok {
			t.Errorf("%v is read as alert %s", err, a)
		}
	}
}
