package stdtls

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// session makes a finished handshake and hands out both ends.
func session(t *testing.T, version uint16) (*handshake.Session, *tls.Conn, *net.TCPConn, *handshake.Ledger) {
	t.Helper()
	cc, sc := testenv.TCPPair(t)
	ctx := testenv.Context(t)
	type result struct {
		s   *handshake.Session
		err error
	}
	done := make(chan result, 1)
	l := handshake.NewLedger(time.Now())
	go func() {
		s, err := New().Server(ctx, sc, nil, handshaketest.ServerParams(), nil, l)
		done <- result{s, err}
	}()
	tc := tls.Client(cc, clientConfig(version, handshaketest.Fixtures().Client.TLS()))
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	r.s.Grant()
	_ = r.s.Conn.SetDeadline(testenv.Deadline())
	_ = tc.SetDeadline(testenv.Deadline())
	return r.s, tc, cc, l
}

// A FIN without close_notify is not an orderly end; one inside a record is told
// apart.
func TestReadEnds(t *testing.T) {
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			end  func(*tls.Conn, *net.TCPConn)
			want error
		}{
			"close_notify": {func(tc *tls.Conn, _ *net.TCPConn) { _ = tc.CloseWrite() }, io.EOF},
			"close_notify and FIN": {func(tc *tls.Conn, raw *net.TCPConn) {
				_ = tc.CloseWrite()
				_ = raw.CloseWrite()
			}, io.EOF},
			"FIN": {func(_ *tls.Conn, raw *net.TCPConn) { _ = raw.CloseWrite() }, handshake.ErrNoCloseNotify},
			"FIN in a record": {func(_ *tls.Conn, raw *net.TCPConn) {
				_, _ = raw.Write([]byte{handshake.RecordAppData, 3, 3, 0, 100, 1, 2, 3})
				_ = raw.CloseWrite()
			}, handshake.ErrTruncated},
		} {
			s, tc, raw, _ := session(t, version)
			if _, err := tc.Write([]byte("data")); err != nil {
				t.Fatal(err)
			}
			tt.end(tc, raw)
			var got []byte
			var err error
			for err == nil {
				buf := make([]byte, 100)
				var n int
				n, err = s.Conn.Read(buf)
				got = append(got, buf[:n]...)
			}
			if string(got) != "data" || !errors.Is(err, tt.want) {
				t.Errorf("%s, %s: %q, %v", handshake.VersionName(version), name, got, err)
			}
			if _, again := s.Conn.Read(make([]byte, 1)); !errors.Is(again, tt.want) {
				t.Errorf("%s, %s: second read %v", handshake.VersionName(version), name, again)
			}
		}
	}
}

// eofWithData returns the last bytes together with io.EOF, as an io.Reader may.
type eofWithData struct {
	net.Conn
	data []byte
}

func (c *eofWithData) Read(b []byte) (int, error) {
	n := copy(b, c.data)
	c.data = c.data[n:]
	if len(c.data) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// A connection below that returns its last data together with io.EOF does not
// turn a close_notify into a truncation.
func TestEOFWithData(t *testing.T) {
	c := &tapConn{Conn: &eofWithData{data: []byte{handshake.RecordAppData, 3, 3, 0, 3, 1, 2, 3}}, tap: newTap(handshake.NewLedger(time.Now()), true)}
	c.detach(false)
	for _, want := range []int{handshake.RecordHeader, 3} {
		if n, err := c.Read(make([]byte, 10)); n != want || err != nil || c.eof.Load() {
			t.Fatalf("read: %d, %v, eof %v", n, err, c.eof.Load())
		}
	}
	if n, err := c.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) || !c.eof.Load() {
		t.Fatalf("last read: %d, %v, eof %v", n, err, c.eof.Load())
	}
}

// Half-close keeps the other direction open, and the peer sees close_notify
// and then FIN.
func TestCloseWrite(t *testing.T) {
	for _, version := range bothVersions {
		s, tc, raw, _ := session(t, version)
		if err := s.Conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(tc); err != nil || len(data) != 0 {
			t.Errorf("client read %q, %v", data, err)
		}
		if n, err := raw.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("no FIN: %d, %v", n, err)
		}
		if _, err := tc.Write([]byte("still here")); err != nil {
			t.Fatal(err)
		}
		_ = tc.CloseWrite()
		if data, err := io.ReadAll(s.Conn); err != nil || string(data) != "still here" {
			t.Errorf("read %q, %v", data, err)
		}
	}
}

// An alert after the handshake arrives as an error with its number and in the
// ledger.
func TestAlertAfterHandshake(t *testing.T) {
	for _, version := range bothVersions {
		s, tc, _, l := session(t, version)
		// A record that does not decrypt: the client answers bad_record_mac.
		junk := append([]byte{handshake.RecordAppData, 3, 3, 0, 64}, make([]byte, 64)...)
		if _, err := s.Conn.(*sessionConn).NetConn().Write(junk); err != nil {
			t.Fatal(err)
		}
		if _, err := tc.Read(make([]byte, 1)); err == nil {
			t.Fatal("the client read junk")
		}
		_, err := s.Conn.Read(make([]byte, 1))
		var ae *handshake.AlertError
		if !errors.As(err, &ae) || ae.Alert != handshake.AlertBadRecordMAC || l.AlertReceived() != handshake.AlertBadRecordMAC {
			t.Errorf("%s: %v, ledger %s", handshake.VersionName(version), err, l.AlertReceived())
		}
		if _, again := s.Conn.Read(make([]byte, 1)); !errors.As(again, &ae) {
			t.Errorf("second read: %v", again)
		}
		alerts := 0
		for _, e := range l.Entries() {
			if e.Message == handshake.MsgAlert {
				alerts++
			}
		}
		if alerts != 1 {
			t.Errorf("%d alerts in the ledger", alerts)
		}
	}
}
