package stdtls

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// heard counts what was read of a destination.
type heard struct {
	net.Conn
	n atomic.Int64
}

func (c *heard) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// A destination that sends whatever it likes, for as long as it likes, at each
// stage of its handshake has the flow end, in bounded time, after no more bytes
// than one message may have.
func TestHostileDestinations(t *testing.T) {
	record := func(typ byte, b ...byte) []byte {
		return append([]byte{typ, 3, 3, byte(len(b) >> 8), byte(len(b))}, b...)
	}
	message := func(typ byte, b ...byte) []byte {
		return append([]byte{typ, byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))}, b...)
	}
	hello := func(random [32]byte, suite uint16, exts ...byte) []byte {
		b := append([]byte{3, 3}, random[:]...)
		b = append(b, 0, byte(suite>>8), byte(suite), 0, byte(len(exts)>>8), byte(len(exts)))
		return record(handshake.RecordHandshake, message(handshake.TypeServerHello, append(b, exts...)...)...)
	}
	v13 := []byte{0, 43, 0, 2, 3, 4}
	retry := hello(sha256.Sum256([]byte("HelloRetryRequest")), tls.TLS_AES_128_GCM_SHA256, append(bytes.Clone(v13), 0, 51, 0, 2, 0, 23)...)
	plain12 := hello([32]byte{1}, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	share := func(group uint16, key ...byte) []byte {
		e := append(bytes.Clone(v13), 0, 51, 0, byte(4+len(key)), byte(group>>8), byte(group), 0, byte(len(key)))
		return hello([32]byte{1}, tls.TLS_AES_128_GCM_SHA256, append(e, key...)...)
	}
	full := func(typ byte) []byte { return record(typ, make([]byte, handshake.MaxPlaintext)...) }
	const endless = 1 << 20
	for name, c := range map[string]struct {
		first  []byte
		repeat []byte
		n      int
		drip   time.Duration
	}{
		"closes at once":                   {},
		"garbage":                          {repeat: bytes.Repeat([]byte{0xa5}, 1000), n: endless},
		"ChangeCipherSpec without end":     {repeat: record(handshake.RecordCCS, 1), n: endless},
		"warnings without end":             {repeat: record(handshake.RecordAlert, 1, byte(handshake.AlertUserCanceled)), n: endless},
		"warnings behind its hello":        {first: plain12, repeat: record(handshake.RecordAlert, 1, byte(handshake.AlertUserCanceled)), n: endless},
		"empty records":                    {first: plain12, repeat: record(handshake.RecordHandshake), n: endless},
		"HelloRetryRequests without end":   {repeat: retry, n: endless},
		"hellos without end":               {repeat: plain12, n: endless},
		"a hello of 16 MB":                 {first: record(handshake.RecordHandshake, handshake.TypeServerHello, 0xff, 0xff, 0xff), repeat: full(handshake.RecordHandshake), n: endless},
		"a Certificate of 16 MB":           {first: append(bytes.Clone(plain12), record(handshake.RecordHandshake, handshake.TypeCertificate, 0xff, 0xff, 0xff)...), repeat: full(handshake.RecordHandshake), n: endless},
		"a CertificateRequest of 16 MB":    {first: append(bytes.Clone(plain12), record(handshake.RecordHandshake, handshake.TypeCertificateRequest, 0xff, 0xff, 0xff)...), repeat: full(handshake.RecordHandshake), n: endless},
		"a key share that is no point":     {first: share(uint16(tls.CurveP256), bytes.Repeat([]byte{4}, 65)...)},
		"a key share of zeros":             {first: share(uint16(tls.X25519), make([]byte, 32)...)},
		"a key share of a group not asked": {first: share(uint16(tls.CurveP521), make([]byte, 133)...)},
		"an encrypted flight of garbage":   {first: share(uint16(tls.X25519), bytes.Repeat([]byte{9}, 32)...), repeat: full(handshake.RecordAppData), n: endless},
		"a fatal alert":                    {first: record(handshake.RecordAlert, 2, byte(handshake.AlertInternalError))},
		"a byte now and then":              {first: []byte{handshake.RecordHandshake, 3, 3, 0x3e, 0x80}, repeat: []byte{handshake.TypeServerHello}, n: endless, drip: 20 * time.Millisecond},
		"an unknown CipherSuite":           {first: hello([32]byte{1}, 0x1301)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cc, sc := testenv.TCPPair(t)
			within := testenv.Patience()
			if c.drip > 0 {
				within = time.Second // the deadline alone ends it
			}
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cc.Close()
			wg.Go(func() { _, _ = io.Copy(io.Discard, sc) })
			wg.Go(func() {
				defer sc.Close()
				if _, err := sc.Write(c.first); err != nil {
					return
				}
				for range c.n {
					if _, err := sc.Write(c.repeat); err != nil {
						return
					}
					time.Sleep(c.drip) // the pace of the attack; nothing waits for it
				}
			})
			r, l := &heard{Conn: cc}, handshake.NewLedger(time.Now())
			s, err := New().Client(ctx, r, clientParams(), nil, l)
			if s != nil || err == nil || handshake.AsError(err).Reason == "" {
				t.Fatalf("session %v, %v", s != nil, err)
			}
			if ctx.Err() != nil && c.drip == 0 {
				t.Errorf("only the deadline ended it: %v", err)
			}
			if n := r.n.Load(); n > maxCertMessage+readAhead {
				t.Errorf("%d bytes were taken", n)
			}
			if n := len(l.Entries()); n > handshake.MaxEntries {
				t.Errorf("%d entries", n)
			}
		})
	}
}

// Behind its handshake too: tickets, KeyUpdates and certificate requests without
// end, and without data between them, end the flow; nothing of them is kept.
func TestHostileDestinationsAfterHandshake(t *testing.T) {
	ticket := append([]byte{handshake.TypeNewSessionTicket, 0, 0x3e, 0x8d, 0, 0, 14, 16, 1, 2, 3, 4, 0, 0x3e, 0x80}, make([]byte, 16000)...)
	ticket = append(ticket, 0, 0)
	for name, content := range map[string][]byte{
		"tickets":               ticket,
		"KeyUpdate":             {handshake.TypeKeyUpdate, 0, 0, 1, 0}, // only the first fits its key
		"CertificateRequest":    {handshake.TypeCertificateRequest, 0, 0, 3, 0, 0, 0},
		"HelloRequest":          {0, 0, 0, 0},
		"a message nobody uses": {99, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cc, sc := testenv.TCPPair(t)
			ctx := testenv.Context(t)
			keys := newTap(handshake.NewLedger(time.Now()), true)
			config := serverConfig(tls.VersionTLS13, handshaketest.Fixtures().Gateway)
			config.ClientAuth, config.SessionTicketsDisabled, config.KeyLogWriter = tls.NoClientCert, true, keys
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cc.Close()
			wg.Go(func() {
				defer sc.Close()
				server := tls.Server(sc, config)
				if err := server.HandshakeContext(ctx); err != nil {
					t.Error(err)
					return
				}
				o := newOpener(server.ConnectionState().CipherSuite, keys.secrets[toClient][1])
				for range 5000 {
					if _, err := sc.Write(o.seal(handshake.RecordHandshake, content)); err != nil {
						return
					}
				}
			})
			r := &heard{Conn: cc}
			s, err := New().Client(ctx, r, clientParams(), nil, handshake.NewLedger(time.Now()))
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Conn.SetDeadline(testenv.Deadline())
			n, err := s.Conn.Read(make([]byte, 100))
			var timeout net.Error
			if n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("%d bytes, %v", n, err)
			}
			if got := r.n.Load(); got > 1<<20 {
				t.Errorf("%d bytes were taken", got)
			}
			_ = s.Conn.Close()
		})
	}
}
