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
	"github.com/sslgate/sslgate/internal/ticket"
)

// flooder puts records in front of the client's flight behind the ServerHello.
type flooder struct {
	*recutter
	plain []byte // a record in the clear
	alert bool   // TLS 1.3: a sealed warning instead
	n     int
	done  bool
}

func (c *flooder) Write(b []byte) (int, error) {
	if c.keys.seen.version == 0 || c.done {
		return c.recutter.Write(b)
	}
	c.done = true
	var flood []byte
	if c.alert {
		c.keys.mu.Lock()
		secret, suite := c.keys.secrets[toServer][0], c.keys.seen.suite
		c.keys.mu.Unlock()
		c.in, c.out = newOpener(suite, secret), newOpener(suite, secret)
	}
	for range c.n {
		if c.alert {
			flood = append(flood, c.out.seal(handshake.RecordAlert, []byte{1, byte(handshake.AlertUserCanceled)})...)
			continue
		}
		flood = append(flood, c.plain...)
	}
	if _, err := c.TCPConn.Write(flood); err != nil {
		return 0, err
	}
	return c.recutter.Write(b)
}

// Records that bring a handshake no further, between the hello and the flight:
// a few are borne where the RFCs have them, thousands are not, and the ledger
// keeps its bounds.
func TestFloodsInHandshake(t *testing.T) {
	f := handshaketest.Fixtures()
	ccs := []byte{handshake.RecordCCS, 3, 3, 0, 1, 1}
	warning := []byte{handshake.RecordAlert, 3, 3, 0, 2, 1, byte(handshake.AlertUserCanceled)}
	empty := []byte{handshake.RecordHandshake, 3, 3, 0, 0}
	for _, c := range []struct {
		name    string
		version uint16
		plain   []byte // nil: a sealed warning
		bears   bool   // four of them
	}{
		{"ChangeCipherSpec", tls.VersionTLS13, ccs, true},
		{"ChangeCipherSpec", tls.VersionTLS12, ccs, false},
		{"sealed warnings", tls.VersionTLS13, nil, true},
		{"warnings", tls.VersionTLS12, warning, true},
		{"empty records", tls.VersionTLS12, empty, false},
		{"empty records", tls.VersionTLS13, empty, false},
		{"data in the clear", tls.VersionTLS12, []byte{handshake.RecordAppData, 3, 3, 0, 1, 0}, false},
	} {
		for _, n := range []int{4, 5000} {
			p := ticketParams(ticket.NewKeys(0))
			cache := newCounted()
			config := clientConfig(c.version, f.Client.TLS())
			config.ClientSessionCache = cache
			o := handshakeWith(t, p, nil, func(conn *net.TCPConn) {
				tp := newTap(handshake.NewLedger(time.Now()), false)
				config.KeyLogWriter = tp
				_ = goClient(config, nil)(&flooder{recutter: &recutter{TCPConn: conn, keys: tp}, plain: c.plain, alert: c.plain == nil, n: n})
			})
			if good := c.bears && n < 10; good != (o.err == nil) || !good && cache.count() != 0 {
				t.Errorf("%s, %s, %d: %v, %d tickets", handshake.VersionName(c.version), c.name, n, o.err, cache.count())
			}
			if e := len(o.l.Entries()); e > handshake.MaxEntries {
				t.Errorf("%s, %s, %d: %d entries", handshake.VersionName(c.version), c.name, n, e)
			}
		}
	}
}

// updater sends KeyUpdates (RFC 8446, section 4.6.3) and data under a client's
// application traffic secret.
type updater struct {
	suite  uint16
	secret []byte
	o      *opener
}

func (u *updater) update() []byte {
	rec := u.o.seal(handshake.RecordHandshake, []byte{handshake.TypeKeyUpdate, 0, 0, 1, 1}) // update_requested
	h, _ := suiteHash(u.suite)
	u.secret, _ = expandLabel(h, u.secret, "traffic upd", len(u.secret))
	u.o = newOpener(u.suite, u.secret)
	return rec
}

// KeyUpdates that ask for one in return are answered as long as data goes on:
// thousands, at fifteen for each byte. Without data the seventeenth ends the
// connection, as do empty records and warnings; nothing is waited for.
func TestFloodsAfterHandshake(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, c := range []struct {
		name   string
		rounds int
		round  func(u *updater) []byte
		ends   bool
	}{
		{"KeyUpdates between data", 300, func(u *updater) (b []byte) {
			for range 15 {
				b = append(b, u.update()...)
			}
			return append(b, u.o.seal(handshake.RecordAppData, []byte("x"))...)
		}, false},
		{"KeyUpdates alone", 300, func(u *updater) []byte { return u.update() }, true},
		{"empty records", 3000, func(u *updater) []byte { return u.o.seal(handshake.RecordAppData, nil) }, true},
		{"warnings", 3000, func(u *updater) []byte {
			return u.o.seal(handshake.RecordAlert, []byte{1, byte(handshake.AlertUserCanceled)})
		}, true},
		{"ChangeCipherSpec", 3000, func(*updater) []byte { return []byte{handshake.RecordCCS, 3, 3, 0, 1, 1} }, true},
		{"a second Certificate", 1, func(u *updater) []byte {
			return u.o.seal(handshake.RecordHandshake, []byte{handshake.TypeCertificate, 0, 0, 4, 0, 0, 0, 0})
		}, true},
		{"a second hello", 1, func(u *updater) []byte {
			return u.o.seal(handshake.RecordHandshake, []byte{handshake.TypeClientHello, 0, 0, 1, 0})
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := testenv.TCPPair(t)
			ctx := testenv.Context(t)
			tp := newTap(handshake.NewLedger(time.Now()), false)
			config := clientConfig(tls.VersionTLS13, f.Client.TLS())
			config.KeyLogWriter = tp
			client := tls.Client(cc, config)
			shaken := make(chan error, 1)
			go func() { shaken <- client.HandshakeContext(ctx) }()
			hello, conn, err := handshake.Peek(ctx, sc, 0)
			if err != nil {
				t.Fatal(err)
			}
			l := handshake.NewLedger(time.Now())
			s, err := New().Server(ctx, conn, hello, handshaketest.ServerParams(), nil, l)
			if err = errors.Join(err, <-shaken); err != nil {
				t.Fatal(err)
			}
			s.Grant()
			u := &updater{suite: s.Suite, secret: tp.secrets[toServer][1]}
			u.o = newOpener(u.suite, u.secret)
			go func() {
				for range c.rounds {
					if _, err := cc.Write(c.round(u)); err != nil {
						return
					}
				}
				_ = cc.CloseWrite()
			}()
			answered := make(chan int64, 1)
			go func() { n, _ := io.Copy(io.Discard, cc); answered <- n }()
			_ = s.Conn.SetDeadline(testenv.Deadline())
			data, err := io.ReadAll(s.Conn)
			records, answers := s.Conn.(handshake.RecordCounter).Received()
			_ = s.Conn.Close()
			n := <-answered
			if !c.ends && (records != 16*c.rounds || answers != 15*c.rounds) {
				t.Errorf("%d records and %d answers were counted", records, answers)
			}
			switch {
			case c.ends && (errors.Is(err, handshake.ErrNoCloseNotify) || err == nil || len(data) != 0):
				t.Errorf("ended with %v after %d bytes", err, len(data))
			case c.ends && l.AlertSent() == handshake.AlertNone:
				t.Error("the alert that ended it is not in the ledger")
			case c.ends && n > 4096:
				t.Errorf("%d bytes were answered", n)
			case !c.ends && (!errors.Is(err, handshake.ErrNoCloseNotify) || len(data) != c.rounds || n < int64(15*c.rounds*20)):
				t.Errorf("ended with %v after %d bytes, %d answered", err, len(data), n)
			}
		})
	}
}

// BenchmarkData is where the weights of work.Data come from: a record with n bytes of data,
// and a KeyUpdate with its answer.
func BenchmarkData(b *testing.B) {
	f := handshaketest.Fixtures()
	for _, c := range []struct {
		name    string
		data    int
		updates int
	}{
		{"1 byte", 1, 0}, {"100 bytes", 100, 0}, {"500 bytes", 500, 0}, {"1000 bytes", 1000, 0}, {"16384 bytes", 16384, 0}, {"15 KeyUpdates and 1 byte", 1, 15},
	} {
		b.Run(c.name, func(b *testing.B) {
			cc, sc := testenv.TCPPair(b)
			ctx := testenv.Context(b)
			tp := newTap(handshake.NewLedger(time.Now()), false)
			config := clientConfig(tls.VersionTLS13, f.Client.TLS())
			config.KeyLogWriter = tp
			client := tls.Client(cc, config)
			shaken := make(chan error, 1)
			go func() { shaken <- client.HandshakeContext(ctx) }()
			hello, conn, err := handshake.Peek(ctx, sc, 0)
			if err != nil {
				b.Fatal(err)
			}
			s, err := New().Server(ctx, conn, hello, handshaketest.ServerParams(), nil, handshake.NewLedger(time.Now()))
			if err = errors.Join(err, <-shaken); err != nil {
				b.Fatal(err)
			}
			s.Grant()
			u := &updater{suite: s.Suite, secret: tp.secrets[toServer][1]}
			u.o = newOpener(u.suite, u.secret)
			var flood []byte
			for range b.N {
				for range c.updates {
					flood = append(flood, u.update()...)
				}
				flood = append(flood, u.o.seal(handshake.RecordAppData, make([]byte, c.data))...)
			}
			go func() {
				_, _ = cc.Write(flood)
				_ = cc.CloseWrite()
			}()
			drained := make(chan struct{})
			go func() { _, _ = io.Copy(io.Discard, cc); close(drained) }()
			b.ResetTimer()
			cpu := testenv.CPU(func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{s.Conn}) })
			b.StopTimer()
			b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/op")
			records, answers := s.Conn.(handshake.RecordCounter).Received()
			b.ReportMetric(float64(records)/float64(b.N), "records/op")
			b.ReportMetric(float64(answers)/float64(b.N), "answers/op")
			_ = s.Conn.Close()
			<-drained
		})
	}
}
