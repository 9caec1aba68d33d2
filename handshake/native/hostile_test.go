package native

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
)

// A message of another type is unexpected, however long it is, and nothing stands inside
// a message (RFC 8446, section 5.1).
func TestOutOfPlace(t *testing.T) {
	const p256 = uint16(tls.ECDSAWithP256AndSHA256)
	none := func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }
	optional := func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthOptional }
	for name, c := range map[string]struct {
		plan   func(*handshake.ServerParams)
		client func(c *rawClient)
	}{
		"a certificate that nobody asked for": {none, func(c *rawClient) { c.say(c.certificate(alice())) }},
		"a proof without a certificate": {optional, func(c *rawClient) {
			c.say(c.certificate(tls.Certificate{}))
			c.say(c.verify(alice(), p256))
		}},
		"a second proof": {optional, func(c *rawClient) {
			c.say(c.certificate(alice()))
			c.say(c.verify(alice(), p256))
			c.say(c.verify(alice(), p256))
		}},
		"a large message in place of Finished": {none, func(c *rawClient) { c.say([]byte{handshake.TypeCertificateVerify, 0xff, 0xff, 0xff}) }},
		"user_canceled inside a message": {optional, func(c *rawClient) {
			msg := c.certificate(alice())
			c.send(handshake.RecordHandshake, msg[:20]...)
			c.send(handshake.RecordAlert, 1, byte(handshake.AlertUserCanceled))
			c.send(handshake.RecordHandshake, msg[20:]...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := handshake.AlertNone
			o := newRig(params(c.plan)).with(t, func(conn *net.TCPConn) {
				raw := newRaw(t, conn)
				raw.sendHello(raw.hi())
				raw.readFlight()
				c.client(raw)
				got = raw.end()
			})
			if o.err == nil || got != handshake.AlertUnexpectedMessage || o.asked != 0 {
				t.Errorf("%v, the client got %s, asked %d times", o.err, got, o.asked)
			}
		})
	}
}

// The same behind the handshake.
func TestOutOfPlaceLater(t *testing.T) {
	for name, c := range map[string]struct {
		client func(c *rawClient)
		alert  handshake.Alert
	}{
		"close_notify inside a message": {func(c *rawClient) { c.send(handshake.RecordHandshake, 24, 0); c.send(handshake.RecordAlert, 1, 0) }, handshake.AlertUnexpectedMessage},
		"a KeyUpdate of two bytes":      {func(c *rawClient) { c.send(handshake.RecordHandshake, 24, 0, 0, 2, 0, 0) }, handshake.AlertDecodeError},
		"a Certificate":                 {func(c *rawClient) { c.send(handshake.RecordHandshake, c.certificate(alice())...) }, handshake.AlertUnexpectedMessage},
	} {
		r := newRig(params())
		var err error
		r.after = func(s *handshake.Session) {
			s.Grant()
			_, err = io.ReadAll(s.Conn)
			_ = s.Conn.Close()
		}
		got := handshake.AlertNone
		r.with(t, func(conn *net.TCPConn) {
			raw := newRaw(t, conn)
			raw.established()
			c.client(raw)
			got = raw.end()
		})
		if err == nil || got != c.alert {
			t.Errorf("%s: read to %v, the client got %s", name, err, got)
		}
	}
}

// change_cipher_spec may not come before the hello (RFC 8446, section 5), also where the
// engine reads it itself.
func TestNothingBeforeHello(t *testing.T) {
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := New(stdtls.New()).Server(testenv.Context(t), far, nil, params(), nil, handshake.NewLedger(time.Now()))
		_ = far.Close()
		done <- err
	}()
	c := newRaw(t, near)
	_, _ = near.Write([]byte{handshake.RecordCCS, 3, 3, 0, 1, 1})
	if got := c.end(); got != handshake.AlertUnexpectedMessage {
		t.Errorf("the client got %s", got)
	}
	if err := testenv.Receive(t, "the server's end", done); err == nil {
		t.Error("let through")
	}
}

// A hello for a resumption alone, whose ticket does not open, is answered with
// missing_extension (RFC 8446, section 4.2.3).
func TestTicketAlone(t *testing.T) {
	got := handshake.AlertNone
	o := newRig(ticketed()).with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		h := c.hi().Without(handshake.ExtSignatureAlgorithms)
		c.sendHello(h.With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, handshaketest.PSKData(1, 1)))
		got = c.end()
	})
	if o.err == nil || o.err.Reason != reason.NoCommonSigAlg || got != handshake.AlertMissingExtension {
		t.Errorf("%v, the client got %s", o.err, got)
	}
}

// A key exchange that fails is charged: half of it was computed.
func TestBadShareIsCharged(t *testing.T) {
	o := newRig(params()).with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		c.sendHello(c.hi().With(handshake.ExtKeyShare, c.share(make([]byte, 32))))
		c.end()
	})
	if least := work.KeyExchange(tls.X25519, nil); o.err == nil || o.l.Spent() < least {
		t.Errorf("%v, %d units of at least %d", o.err, o.l.Spent(), least)
	}
}

// Whatever ends a handshake, its secrets are gone.
func TestSecretsAreCleared(t *testing.T) {
	for name, client := range map[string]func(c *rawClient){
		"well":      func(c *rawClient) { c.answer() },
		"no proof":  func(c *rawClient) { c.say(c.certificate(alice())); c.say(c.finished()) },
		"an alert":  func(c *rawClient) { c.send(handshake.RecordAlert, 2, 42) },
		"a FIN":     func(*rawClient) {},
		"bad chain": func(c *rawClient) { c.say(c.certificate(tls.Certificate{Certificate: [][]byte{{0x30, 1, 2}}})) },
	} {
		near, far := net.Pipe()
		s := New(stdtls.New()).newServer(testenv.Context(t), far, nil, params(), nil, handshake.NewLedger(time.Now()))
		done := make(chan error, 1)
		go func() {
			err := s.run()
			_ = far.Close()
			done <- err
		}()
		c := newRaw(t, near)
		c.sendHello(c.hi())
		c.readFlight()
		client(c)
		_ = near.Close()
		_ = testenv.Receive(t, "the server's end", done)
		if len(s.secrets) != 3 {
			t.Fatalf("%s: %d secrets", name, len(s.secrets))
		}
		for i, secret := range s.secrets {
			room := reflect.ValueOf(secret).Elem().FieldByName("room")
			value := room.Slice(0, room.Len()).Bytes()
			if len(value) == 0 || !bytes.Equal(value, make([]byte, len(value))) {
				t.Errorf("%s: secret %d is still there", name, i)
			}
		}
	}
}

// A refused resumption has not come past step 6.
func TestRefusedResumptionReached(t *testing.T) {
	r := newRig(ticketed())
	config := clientConfig(alice())
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if o, _, err := r.withGo(t, config); err != nil || o.err != nil {
		t.Fatal(err, o.err)
	}
	r.check = func(_ *handshake.Peer, s *handshake.State) error {
		if !s.Resumed {
			t.Error("not resumed")
		}
		return handshake.Refuse(handshake.StepClientVerified, reason.Revoked, "")
	}
	o, _, _ := r.withGo(t, config)
	if o.err == nil || o.l.Reached() >= handshake.StepClientVerified {
		t.Errorf("%v, reached %v", o.err, o.l.Reached())
	}
}

// badSealer makes no tickets.
type badSealer struct{ handshake.TicketSealer }

func (badSealer) Seal(_, _ []byte, _ time.Time) ([]byte, error) {
	return nil, errors.New("no randomness")
}

// What fails on our side is not the client's fault.
func TestOurFault(t *testing.T) {
	p := ticketed()
	p.Ticket.Keys = badSealer{p.Ticket.Keys}
	config := clientConfig(alice())
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	o, _, err := newRig(p).withGo(t, config)
	if o.err == nil || o.err.Side != handshake.SideUs || o.err.Reason != reason.Internal || alertSeen(err) != handshake.AlertInternalError {
		t.Errorf("%+v, the client got %v", o.err, err)
	}
}

// Behind a bare FIN what is written is refused, and that is no reset; reading goes on,
// KeyUpdates with it.
func TestAfterOurEnd(t *testing.T) {
	for name, end := range map[string]func(handshake.Conn) error{
		"close_notify": func(c handshake.Conn) error { return c.CloseWrite() },
		"a bare FIN":   func(c handshake.Conn) error { return c.(handshake.BareCloser).CloseWriteBare() },
	} {
		r := newRig(params())
		ended := make(chan struct{})
		r.after = func(s *handshake.Session) {
			s.Grant()
			if err := end(s.Conn); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			close(ended)
			if n, err := s.Conn.Write([]byte("x")); err == nil || n != 0 || handshake.IsReset(err) {
				t.Errorf("%s: %d bytes written, %v", name, n, err)
			}
			if got, err := io.ReadAll(s.Conn); err != nil || string(got) != "abc" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			_ = s.Conn.Close()
		}
		r.with(t, func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			c.established()
			<-ended
			for _, b := range []byte("abc") {
				c.send(handshake.RecordHandshake, 24, 0, 0, 1, 1)
				c.out.Update()
				c.send(handshake.RecordAppData, b)
			}
			c.send(handshake.RecordAlert, 1, 0)
			want := handshake.AlertCloseNotify
			if name == "a bare FIN" {
				want = handshake.AlertNone
			}
			if got := c.end(); got != want {
				t.Errorf("%s: the client got %s", name, got)
			}
		})
		if n := r.engine.RecordBuffers(); n != 0 {
			t.Errorf("%s: %d bytes are lent", name, n)
		}
	}
}

// A client that broke the protocol while a write waited for it gets the alert for that
// behind the data, and no close_notify: that would say that this was all.
func TestNoOrderlyEndBehindBreach(t *testing.T) {
	near, far := net.Pipe()
	read := make(chan error, 1)
	done := make(chan error, 1)
	go func() {
		defer func() { _ = far.Close() }()
		s, err := New(stdtls.New()).Server(testenv.Context(t), far, nil, params(), nil, handshake.NewLedger(time.Now()))
		if err != nil {
			read <- err
			done <- err
			return
		}
		s.Grant()
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			_, _ = s.Conn.Write(make([]byte, 1<<18))
		}()
		_, err = s.Conn.Read(make([]byte, 1))
		read <- err
		<-wrote
		if _, err := s.Conn.Write([]byte("more")); err == nil {
			err = errors.New("written to a client that broke the protocol")
			done <- err
			return
		}
		_ = s.Conn.Close()
		done <- nil
	}()
	c := newRaw(t, near)
	c.established()
	_, _, _ = c.in.Next() // the write has begun
	_, _ = near.Write(append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...))
	if err := testenv.Receive(t, "the end of the reading", read); !notEnd(err) {
		t.Fatal(err)
	}
	if got := c.end(); got != handshake.AlertBadRecordMAC {
		t.Errorf("the client got %s", got)
	}
	if err := testenv.Receive(t, "the server's end", done); err != nil {
		t.Error(err)
	}
}

// Everything at once, for the race detector: reads, writes, KeyUpdates, the grant's timer
// and Close.
func TestAtOnce(t *testing.T) {
	r := newRig(ticketed())
	r.after = func(s *handshake.Session) {
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _, _ = s.Conn.Write(bytes.Repeat([]byte("x"), 40000)) })
			wg.Go(func() { _, _ = s.Conn.Read(make([]byte, 100)) })
			wg.Go(func() { s.Conn.(handshake.ReadWaiter).WaitRead() })
			wg.Go(s.Grant)
		}
		wg.Go(func() { time.Sleep(10 * time.Millisecond); _ = s.Conn.CloseWrite() })
		time.Sleep(20 * time.Millisecond)
		_ = s.Conn.Close()
		_ = s.Conn.Close()
		wg.Wait()
	}
	r.with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		c.sendHello(c.hi().With(handshake.ExtPSKModes, []byte{1, 1}))
		c.readFlight()
		application := c.master.Client(c.transcript.Sum())
		c.answer()
		c.out.SetKeys(application)
		for i := range 10 {
			c.send(handshake.RecordHandshake, 24, 0, 0, 1, 1)
			c.out.Update()
			c.send(handshake.RecordAppData, byte(i))
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	if n := r.engine.RecordBuffers(); n != 0 {
		t.Errorf("%d bytes are lent", n)
	}
}

// A deadline or an end of the context, at whatever time, leaves nothing lent.
func TestCutAnywhere(t *testing.T) {
	for i := range 12 {
		near, far := net.Pipe()
		engine := New(stdtls.New())
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			s, err := engine.Server(ctx, far, nil, params(), func(*handshake.Peer, *handshake.State) error {
				if i == 11 {
					cancel()
				}
				return nil
			}, handshake.NewLedger(time.Now()))
			if err == nil {
				_ = s.Conn.Close()
			}
			done <- err
		}()
		c := newRaw(t, near)
		go func() {
			if i == 0 {
				cancel()
				return
			}
			c.sendHello(c.hi())
			if i < 3 {
				cancel()
				return
			}
			c.readFlight()
			if i < 6 {
				cancel()
				return
			}
			c.say(c.certificate(alice()))
			if i < 9 {
				cancel()
				return
			}
			c.say(c.verify(alice(), uint16(tls.ECDSAWithP256AndSHA256)))
			if i == 9 {
				cancel()
				return
			}
			c.say(c.finished())
			c.end()
		}()
		err := testenv.Receive(t, "the server's end", done)
		if i != 10 && (err == nil || handshake.AsError(err).Reason != reason.Draining) {
			t.Errorf("%d: %v", i, err)
		}
		cancel()
		_ = near.Close()
		if n := engine.RecordBuffers(); n != 0 {
			t.Errorf("%d: %d bytes are lent", i, n)
		}
	}
}
