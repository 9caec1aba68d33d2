package stdtls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/ticket"
)

// mangler changes one record of what a client sends behind its hello.
type mangler struct {
	*net.TCPConn
	skip   func(rec []byte) bool // records that are left as they are
	change func(rec []byte) []byte
	done   bool
	first  bool
	keys   *tap // where set, is fed with what the server sends
}

func (c *mangler) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if c.keys != nil {
		c.keys.feed(toClient, b[:n])
	}
	return n, err
}

func (c *mangler) Write(b []byte) (int, error) {
	var out []byte
	for rest := b; len(rest) >= handshake.RecordHeader; {
		n := handshake.RecordHeader + handshake.RecordLen(rest)
		rec := bytes.Clone(rest[:n])
		switch {
		case !c.first:
			c.first = true // the hello
		case !c.done && !c.skip(rec):
			c.done, rec = true, c.change(rec)
		}
		out = append(out, rec...)
		rest = rest[n:]
	}
	if _, err := c.TCPConn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// What crypto/tls answers to something that the tap cannot follow is told all the
// same: the alert in the ledger is the one that the client has got.
func TestAlertSentIsTold(t *testing.T) {
	f := handshaketest.Fixtures()
	last := func(rec []byte) []byte { rec[len(rec)-1] ^= 1; return rec }
	notSealed := func(rec []byte) bool { return rec[0] != handshake.RecordAppData }
	notPlain := func(rec []byte) bool { return rec[0] != handshake.RecordHandshake }
	sealed12 := false // set by the ChangeCipherSpec
	behindCCS := func(rec []byte) bool {
		was := sealed12
		sealed12 = sealed12 || rec[0] == handshake.RecordCCS
		return !was
	}
	announces := func(typ uint8, n int) func([]byte) []byte {
		return func(rec []byte) []byte {
			rec[5], rec[6], rec[7], rec[8] = typ, byte(n>>16), byte(n>>8), byte(n)
			return rec
		}
	}
	for _, c := range []struct {
		name    string
		version uint16
		skip    func([]byte) bool
		change  func([]byte) []byte
		want    handshake.Alert
	}{
		{"1.3 bad record MAC", tls.VersionTLS13, notSealed, last, handshake.AlertBadRecordMAC},
		{"1.3 a sealed record that is too short", tls.VersionTLS13, notSealed, func([]byte) []byte { return []byte{handshake.RecordAppData, 3, 3, 0, 1, 0} }, handshake.AlertBadRecordMAC},
		{"1.3 a record too long", tls.VersionTLS13, notSealed, func(rec []byte) []byte { rec[3], rec[4] = 0xff, 0xff; return rec }, handshake.AlertRecordOverflow},
		{"1.3 of no known type", tls.VersionTLS13, notSealed, func(rec []byte) []byte { rec[0] = 99; return rec }, handshake.AlertBadRecordMAC},
		{"1.2 a Certificate too long", tls.VersionTLS12, notPlain, announces(handshake.TypeCertificate, maxCertMessage+1), handshake.AlertInternalError},
		{"1.2 a key exchange too long", tls.VersionTLS12, notPlain, announces(handshake.TypeClientKeyExchange, maxMessage+1), handshake.AlertInternalError},
		{"1.2 a record too long", tls.VersionTLS12, notPlain, func(rec []byte) []byte { rec[3], rec[4] = 0xff, 0xff; return rec }, handshake.AlertRecordOverflow},
		{"1.2 of no known type", tls.VersionTLS12, notPlain, func(rec []byte) []byte { rec[0] = 99; return rec }, handshake.AlertUnexpectedMessage},
		{"1.2 data in the clear", tls.VersionTLS12, notPlain, func(rec []byte) []byte { rec[0] = handshake.RecordAppData; return rec }, handshake.AlertUnexpectedMessage},
		{"1.2 bad record MAC", tls.VersionTLS12, behindCCS, last, handshake.AlertBadRecordMAC},
		{"1.2 data in place of the Finished", tls.VersionTLS12, behindCCS, func(rec []byte) []byte { rec[0] = handshake.RecordAppData; return rec }, handshake.AlertBadRecordMAC},
	} {
		t.Run(c.name, func(t *testing.T) {
			sealed12 = false
			var err error
			p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.MaxChainBytes = 1 << 20 })
			o := handshakeWith(t, p, nil, func(conn *net.TCPConn) {
				tc := tls.Client(&mangler{TCPConn: conn, skip: c.skip, change: c.change}, clientConfig(c.version, f.Client.TLS()))
				if err = tc.Handshake(); err == nil {
					_, err = tc.Read(make([]byte, 1))
				}
			})
			if o.err == nil {
				t.Fatal("no refusal")
			}
			got, ok := remoteAlert(err)
			if sent := o.l.AlertSent(); !ok || got != c.want || sent != got {
				t.Errorf("the client got %v, the ledger has %s, want %s; %v", err, sent, c.want, o.err)
			}
			if o.err.Wanted != c.want {
				t.Errorf("the error has %s", o.err.Wanted)
			}
		})
	}
}

// In TLS 1.2 with a resumed session our Finished comes first, so that what follows
// is sealed and only crypto/tls knows it.
func TestAlertSentIsToldWhenResumed(t *testing.T) {
	f := handshaketest.Fixtures()
	p := ticketParams(ticket.NewKeys(0))
	config := clientConfig(tls.VersionTLS12, f.Client.TLS())
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if o, _, err := withGo(t, p, config); o.err != nil || err != nil {
		t.Fatal(o.err, err)
	}
	ccs := false
	var err error
	o := handshakeWith(t, p, nil, func(conn *net.TCPConn) {
		tc := tls.Client(&mangler{
			TCPConn: conn,
			skip:    func(rec []byte) bool { was := ccs; ccs = ccs || rec[0] == handshake.RecordCCS; return !was },
			change:  func(rec []byte) []byte { rec[len(rec)-1] ^= 1; return rec },
		}, config)
		if err = tc.Handshake(); err == nil {
			_, err = tc.Read(make([]byte, 1))
		}
	})
	got, ok := remoteAlert(err)
	if sent := o.l.AlertSent(); o.err == nil || !ok || got != handshake.AlertBadRecordMAC || sent != got {
		t.Errorf("the client got %v, the ledger has %s; %v", err, o.l.AlertSent(), o.err)
	}
}

// After the handshake too.
func TestAlertSentAfterHandshake(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for name, c := range map[string]struct {
			change func([]byte) []byte
			want   handshake.Alert
		}{
			"bad record MAC":    {func(rec []byte) []byte { rec[len(rec)-1] ^= 1; return rec }, handshake.AlertBadRecordMAC},
			"a record too long": {func(rec []byte) []byte { rec[3], rec[4] = 0xff, 0xff; return rec }, handshake.AlertRecordOverflow},
			"of no known type":  {func(rec []byte) []byte { rec[0] = 99; return rec }, handshake.AlertBadRecordMAC},
			"another version":   {func(rec []byte) []byte { rec[1], rec[2] = 2, 9; return rec }, handshake.AlertProtocolVersion},
		} {
			t.Run(handshake.VersionName(version)+" "+name, func(t *testing.T) {
				o := outcome{}
				cc, sc := testenv.TCPPair(t)
				m := &mangler{TCPConn: cc, first: true, done: true, skip: func([]byte) bool { return false }, change: c.change}
				client := tls.Client(m, clientConfig(version, f.Client.TLS()))
				done := make(chan error, 1)
				go func() { done <- client.Handshake() }()
				hello, conn, err := handshake.Peek(t.Context(), sc, 0)
				if err != nil {
					t.Fatal(err)
				}
				o.l = handshake.NewLedger(time.Now())
				s, err := New().Server(t.Context(), conn, hello, handshaketest.ServerParams(), nil, o.l)
				if err = errors.Join(err, <-done); err != nil {
					t.Fatal(err)
				}
				s.Grant()
				m.done = false
				if _, err := client.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				go func() {
					_ = client.SetReadDeadline(testenv.Deadline())
					_, err := client.Read(make([]byte, 1))
					done <- err
				}()
				if _, err := io.ReadAll(s.Conn); err == nil {
					t.Error("an orderly end")
				}
				got, ok := remoteAlert(<-done)
				if sent := o.l.AlertSent(); !ok || got != c.want || sent != got {
					t.Errorf("the client got %s, the ledger has %s, want %s", got, sent, c.want)
				}
				_ = s.Conn.Close()
			})
		}
	}
}
