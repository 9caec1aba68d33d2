package stdtls

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/ticket"
)

// writes counts the writes of a connection.
type writes struct {
	net.Conn
	mu sync.Mutex
	n  int
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	w.n++
	w.mu.Unlock()
	return w.Conn.Write(b)
}

func (w *writes) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// Session tickets go out with the first answer, in one write; without an answer
// a moment later; and with whatever ends the connection. The client can use
// them in each case.
func TestTicketsAreHeld(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, c := range []struct {
		name   string
		answer func(s *handshake.Session) error
	}{
		{"answer", func(s *handshake.Session) error { _, err := s.Conn.Write([]byte("answer")); return err }},
		{"large answer", func(s *handshake.Session) error {
			_, err := s.Conn.Write(make([]byte, 3*handshake.MaxPlaintext))
			return err
		}},
		{"silence", func(*handshake.Session) error { return nil }},
		{"end", func(s *handshake.Session) error { return s.Conn.CloseWrite() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := testenv.TCPPair(t)
			ctx := testenv.Context(t)
			got := make(chan string, 1)
			config := clientConfig(tls.VersionTLS13, f.Client.TLS())
			config.ClientSessionCache = &told{tls.NewLRUClientSessionCache(1), got}
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cc.Close()
			wg.Go(func() { _, _ = io.Copy(io.Discard, tls.Client(cc, config)) })
			hello, conn, err := handshake.Peek(ctx, sc, 0)
			if err != nil {
				t.Fatal(err)
			}
			w := &writes{Conn: conn}
			p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
				p.Ticket = &handshake.TicketRule{Binding: []byte("rule"), Keys: ticket.NewKeys(0)}
			})
			s, err := New().Server(ctx, w, hello, p, nil, handshake.NewLedger(time.Now()))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Conn.Close()
			s.Grant()
			before := w.count()
			if err := c.answer(s); err != nil {
				t.Fatal(err)
			}
			testenv.Receive(t, "the client has a ticket", got)
			if n := w.count() - before; n != 1 {
				t.Errorf("%d writes since the handshake, want 1", n)
			}
		})
	}
}

// told is a session cache that tells of each session it gets.
type told struct {
	tls.ClientSessionCache
	got chan string
}

func (c *told) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	if s != nil {
		c.got <- key
	}
}
