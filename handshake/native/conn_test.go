package native

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// How a session ends is told exactly.
func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		client func(c *rawClient)
		data   string
		want   func(error) bool
		alert  handshake.Alert // of ours
	}{
		"close_notify": {func(c *rawClient) { c.send(handshake.RecordAlert, 1, 0) }, "", is(io.EOF), handshake.AlertNone},
		"data, close_notify": {func(c *rawClient) {
			c.send(handshake.RecordAppData, 'a')
			c.send(handshake.RecordAppData, 'b')
			c.send(handshake.RecordAlert, 1, 0)
		}, "ab", is(io.EOF), handshake.AlertNone},
		"user_canceled before it":   {func(c *rawClient) { c.send(handshake.RecordAlert, 1, 90); c.send(handshake.RecordAlert, 1, 0) }, "", is(io.EOF), handshake.AlertNone},
		"data behind close_notify":  {func(c *rawClient) { c.send(handshake.RecordAlert, 1, 0); c.send(handshake.RecordAppData, 'x') }, "", is(io.EOF), handshake.AlertNone},
		"FIN":                       {func(c *rawClient) { c.send(handshake.RecordAppData, 'a') }, "a", is(handshake.ErrNoCloseNotify), handshake.AlertNone},
		"FIN in a header":           {func(c *rawClient) { _, _ = c.conn.Write([]byte{23, 3}) }, "", is(handshake.ErrTruncated), handshake.AlertNone},
		"FIN in a record":           {func(c *rawClient) { _, _ = c.conn.Write([]byte{23, 3, 3, 0, 40, 1}) }, "", is(handshake.ErrTruncated), handshake.AlertNone},
		"an alert":                  {func(c *rawClient) { c.send(handshake.RecordAlert, 2, 42) }, "", isAlert(handshake.AlertBadCertificate), handshake.AlertNone},
		"an alert of one byte":      {func(c *rawClient) { c.send(handshake.RecordAlert, 2) }, "", notEnd, handshake.AlertDecodeError},
		"an alert in the clear":     {func(c *rawClient) { _, _ = c.conn.Write([]byte{21, 3, 3, 0, 2, 2, 42}) }, "", notEnd, handshake.AlertUnexpectedMessage},
		"another protocol":          {func(c *rawClient) { _, _ = c.conn.Write([]byte("GET / HTTP/1.1\r\n")) }, "", notEnd, handshake.AlertProtocolVersion},
		"a record of 2^14 + 257":    {func(c *rawClient) { _, _ = c.conn.Write([]byte{23, 3, 3, 0x41, 1}) }, "", notEnd, handshake.AlertRecordOverflow},
		"a record changed":          {func(c *rawClient) { _, _ = c.conn.Write(append([]byte{23, 3, 3, 0, 17}, make([]byte, 17)...)) }, "", notEnd, handshake.AlertBadRecordMAC},
		"change_cipher_spec":        {func(c *rawClient) { _, _ = c.conn.Write([]byte{20, 3, 3, 0, 1, 1}) }, "", notEnd, handshake.AlertUnexpectedMessage},
		"a ClientHello":             {func(c *rawClient) { c.send(handshake.RecordHandshake, c.hello...) }, "", notEnd, handshake.AlertUnexpectedMessage},
		"a NewSessionTicket":        {func(c *rawClient) { c.send(handshake.RecordHandshake, 4, 0, 0, 1, 0) }, "", notEnd, handshake.AlertUnexpectedMessage},
		"a KeyUpdate of 2":          {func(c *rawClient) { c.send(handshake.RecordHandshake, 24, 0, 0, 1, 2) }, "", notEnd, handshake.AlertIllegalParameter},
		"data inside a message":     {func(c *rawClient) { c.send(handshake.RecordHandshake, 24, 0); c.send(handshake.RecordAppData, 'x') }, "", notEnd, handshake.AlertUnexpectedMessage},
		"a KeyUpdate and more":      {func(c *rawClient) { c.send(handshake.RecordHandshake, 24, 0, 0, 1, 0, 24) }, "", notEnd, handshake.AlertUnexpectedMessage},
		"two KeyUpdates":            {func(c *rawClient) { c.send(handshake.RecordHandshake, 24, 0, 0, 1, 1, 24, 0, 0, 1, 1) }, "", notEnd, handshake.AlertUnexpectedMessage},
		"user_canceled as fatal":    {func(c *rawClient) { c.send(handshake.RecordAlert, 2, 90); c.send(handshake.RecordAlert, 1, 0) }, "", is(io.EOF), handshake.AlertNone},
		"KeyUpdates without end":    {func(c *rawClient) { c.updates(17) }, "", notEnd, handshake.AlertUnexpectedMessage},
		"empty records without end": {func(c *rawClient) { c.empty(17) }, "", notEnd, handshake.AlertUnexpectedMessage},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(params())
			var data []byte
			var err error
			r.after = func(s *handshake.Session) {
				s.Grant()
				data, err = io.ReadAll(s.Conn)
				if err == nil {
					err = io.EOF
				}
				if _, again := s.Conn.Read(make([]byte, 1)); !errors.Is(again, err) {
					t.Errorf("first %v, then %v", err, again)
				}
				_ = s.Conn.Close()
			}
			got := handshake.AlertNone
			o := r.with(t, func(conn *net.TCPConn) {
				raw := newRaw(t, conn)
				raw.established()
				c.client(raw)
				if c.alert == handshake.AlertNone {
					_ = conn.CloseWrite()
				}
				got = raw.end()
			})
			if o.err != nil || string(data) != c.data || !c.want(err) {
				t.Errorf("%v, read %q and %v", o.err, data, err)
			}
			if c.alert != handshake.AlertNone && (got != c.alert || o.l.AlertSent() != c.alert) {
				t.Errorf("the client got %s, the ledger has %s, want %s", got, o.l.AlertSent(), c.alert)
			}
			if n := r.engine.RecordBuffers(); n != 0 {
				t.Errorf("%d bytes are still lent", n)
			}
		})
	}
}

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

func isAlert(a handshake.Alert) func(error) bool {
	return func(err error) bool {
		var e *handshake.AlertError
		return errors.As(err, &e) && e.Alert == a
	}
}

// notEnd is an error that no orderly end and no truncation has.
func notEnd(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, handshake.ErrNoCloseNotify) && !errors.Is(err, handshake.ErrTruncated)
}

// updates sends KeyUpdates without anything between them.
func (c *rawClient) updates(n int) {
	for range n {
		c.send(handshake.RecordHandshake, 24, 0, 0, 1, 0)
		c.out.Update()
	}
}

// empty sends records of application data without content, the first ones of its epoch.
func (c *rawClient) empty(n int) {
	for i := range n {
		_, _ = c.conn.Write(c.sealed(uint64(i), handshake.RecordAppData, nil, 0))
	}
}

// sealed is a record of application data's first epoch, with padding.
func (c *rawClient) sealed(seq uint64, typ uint8, content []byte, padding int) []byte {
	aead, nonce := c.app.Protection()
	for i := range 8 {
		nonce[4+i] ^= byte(seq >> (56 - 8*i))
	}
	inner := append(append(bytes.Clone(content), typ), make([]byte, padding)...)
	n := len(inner) + aead.Overhead()
	header := []byte{handshake.RecordAppData, 3, 3, byte(n >> 8), byte(n)}
	return aead.Seal(header, nonce[:], inner, header)
}

// Padding is taken off (RFC 8446, section 5.4), empty records do no harm.
func TestPadding(t *testing.T) {
	r := newRig(params())
	var got []byte
	var err error
	r.after = func(s *handshake.Session) {
		s.Grant()
		got, err = io.ReadAll(s.Conn)
		_ = s.Conn.Close()
	}
	o := r.with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		c.established()
		for i, s := range []struct {
			content string
			padding int
		}{{"a", 1}, {"", 100}, {"b", 16382}, {"", 0}, {"c\x00\x00", 255}, {strings.Repeat("d", 16384), 0}} {
			_, _ = conn.Write(c.sealed(uint64(i), handshake.RecordAppData, []byte(s.content), s.padding))
		}
		_, _ = conn.Write(c.sealed(6, handshake.RecordAlert, []byte{1, 0}, 9))
		c.end()
	})
	if o.err != nil || err != nil || string(got) != "abc\x00\x00"+strings.Repeat("d", 16384) {
		t.Errorf("%v, %v, %d bytes", o.err, err, len(got))
	}
}

// Data of every size arrives both ways, with KeyUpdates of both sides between.
func TestBulk(t *testing.T) {
	for _, suite := range handshake.Suites13() {
		up, down := make([]byte, 1<<20+77), make([]byte, 1<<20+99)
		_, _ = rand.Read(up)
		_, _ = rand.Read(down)
		r := newRig(params(func(p *handshake.ServerParams) { p.Profile.Suites13 = []uint16{suite} }))
		r.after = func(s *handshake.Session) {
			s.Grant()
			done := make(chan error, 1)
			go func() {
				_, err := s.Conn.Write(down[:1])
				for at := 1; err == nil && at < len(down); {
					n := min(len(down)-at, 1+at*3)
					_, err = s.Conn.Write(down[at : at+n])
					at += n
				}
				done <- errors.Join(err, s.Conn.CloseWrite())
			}()
			got, err := io.ReadAll(s.Conn)
			if err != nil || !bytes.Equal(got, up) {
				t.Errorf("%d bytes came, %v", len(got), err)
			}
			if err := testenv.Receive(t, "the end of the writing", done); err != nil {
				t.Error(err)
			}
			_ = s.Conn.Close()
		}
		o := r.with(t, func(conn *net.TCPConn) {
			_ = conn.SetDeadline(testenv.Deadline())
			tc := tls.Client(conn, clientConfig(alice()))
			done := make(chan error, 1)
			go func() {
				_, err := tc.Write(up)
				done <- errors.Join(err, tc.CloseWrite())
			}()
			got, err := io.ReadAll(tc)
			if err != nil || !bytes.Equal(got, down) {
				t.Errorf("%d bytes came, %v", len(got), err)
			}
			if err := testenv.Receive(t, "the end of the writing", done); err != nil {
				t.Error(err)
			}
		})
		if o.err != nil {
			t.Error(o.err)
		}
		if n := r.engine.RecordBuffers(); n != 0 {
			t.Errorf("%d bytes are still lent", n)
		}
	}
}

// KeyUpdates are obeyed and answered: what comes behind opens with the next keys alone.
func TestKeyUpdate(t *testing.T) {
	r := newRig(params())
	r.after = func(s *handshake.Session) {
		s.Grant()
		_, _ = io.Copy(s.Conn, s.Conn)
		if records, answers := s.Conn.(handshake.RecordCounter).Received(); records != 7 || answers != 3 {
			t.Errorf("%d records and %d answers were counted", records, answers)
		}
		_ = s.Conn.Close()
	}
	o := r.with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		c.established()
		for i := range 3 {
			c.send(handshake.RecordHandshake, 24, 0, 0, 1, 1)
			c.out.Update()
			c.send(handshake.RecordAppData, byte(i))
			if msg := c.next(); !bytes.Equal(msg, []byte{24, 0, 0, 1, 0}) {
				t.Fatalf("%x in place of a KeyUpdate", msg)
			}
			c.server = c.server.Next()
			c.in.SetKeys(c.server)
			if typ, content, err := c.in.Next(); err != nil || typ != handshake.RecordAppData || !bytes.Equal(content, []byte{byte(i)}) {
				t.Fatalf("%d %x, %v", typ, content, err)
			}
		}
		c.send(handshake.RecordAlert, 1, 0)
		c.end()
	})
	if o.err != nil {
		t.Error(o.err)
	}
}

// A passed deadline can be moved: nothing that was read is lost.
func TestReadDeadline(t *testing.T) {
	r := newRig(params())
	stage := make(chan struct{})
	r.after = func(s *handshake.Session) {
		s.Grant()
		for range 2 { // before the record, and inside it
			_ = s.Conn.SetReadDeadline(time.Unix(1, 0))
			if _, err := s.Conn.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v", err)
			}
			_ = s.Conn.SetReadDeadline(time.Time{})
			stage <- struct{}{}
			<-stage
		}
		b := make([]byte, 9)
		if n, err := s.Conn.Read(b); string(b[:n]) != "data" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		_ = s.Conn.Close()
	}
	r.with(t, func(conn *net.TCPConn) {
		c := newRaw(t, conn)
		c.established()
		sealed := c.sealed(0, handshake.RecordAppData, []byte("data"), 0)
		<-stage
		_, _ = conn.Write(sealed[:3])
		stage <- struct{}{}
		<-stage
		_, _ = conn.Write(sealed[3:])
		stage <- struct{}{}
		c.end()
	})
}

// What the connection below is able to do is found through ours, but for what would go
// round TLS.
func TestAbilities(t *testing.T) {
	buffers := &record.Buffers{}
	session := func(below net.Conn) *conn {
		return &conn{Conn: below, in: record.NewReader(below, buffers), out: record.NewWriter(below, buffers), err: errClosed}
	}
	handshaketest.KeepsAbilities(t, func(below net.Conn) net.Conn { return session(below) }, "HalfCloser", "ReadWaiter")
	able := &handshaketest.Able{}
	if s := session(able); s.CloseWriteBare() != nil || len(able.Used) == 0 || able.Used[len(able.Used)-1] != "HalfCloser" {
		t.Errorf("a FIN alone: %v", able.Used)
	}
	if err := session(&handshaketest.ScriptedConn{}).CloseWriteBare(); !errors.Is(err, handshake.ErrNoHalfClose) {
		t.Errorf("a FIN where there is none: %v", err)
	}
}

// A record is opened in the caller's buffer where it fits, and beside it where it does not:
// either way all comes, in order, whatever the sizes are.
func TestReadSizes(t *testing.T) {
	const total = 1 << 20
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, size := range []int{1, 100, 4 << 10, handshake.MaxPlaintext - 1, handshake.MaxPlaintext, handshake.MaxPlaintext + 1, 65160, 260176} {
			want := make([]byte, min(total, 512*size))
			for i := range want {
				want[i] = byte(i * 7 / 3)
			}
			p := params()
			p.Profile.MinVersion = tls.VersionTLS12
			r := newRig(p)
			var got []byte
			var end error
			done := make(chan struct{})
			r.after = func(s *handshake.Session) {
				defer close(done)
				s.Grant()
				_, _ = s.Conn.Write([]byte("ok"))
				b := make([]byte, size)
				for end == nil {
					var n int
					n, end = s.Conn.Read(b)
					got = append(got, b[:n]...)
				}
				_ = s.Conn.Close()
			}
			config := clientConfig(alice())
			config.MinVersion, config.MaxVersion = tls.VersionTLS12, version
			cc, sc := testenv.TCPPair(t)
			go r.serve(testenv.Context(t), sc)
			c := tls.Client(cc, config)
			if _, err := c.Write(want); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			<-done
			_ = c.Close()
			if !errors.Is(end, io.EOF) || !bytes.Equal(got, want) {
				t.Errorf("%s, %d bytes at once: %d of %d came, %v", tls.VersionName(version), size, len(got), len(want), end)
			}
		}
	}
}
