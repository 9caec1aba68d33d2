package passing

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// tape is both directions of one connection.
type tape struct{ client, server []byte }

// recorded is a connection whose one end keeps what goes by.
type recorded struct {
	net.Conn
	mu      *sync.Mutex
	in, out *[]byte
}

func (c recorded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	*c.in = append(*c.in, b[:n]...)
	c.mu.Unlock()
	return n, err
}

func (c recorded) Write(b []byte) (int, error) {
	c.mu.Lock()
	*c.out = append(*c.out, b...)
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// record makes a real handshake and some data, and keeps what went over the wire. A
// handshake that fails is kept too.
func record(t testing.TB, client, server *tls.Config) tape {
	t.Helper()
	near, far := testenv.TCPPair(t)
	var mu sync.Mutex
	var tp tape
	c := tls.Client(recorded{near, &mu, &tp.server, &tp.client}, client)
	s := tls.Server(far, server)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer far.Close()
		_, _ = io.Copy(s, s) // echoes, until the client is gone
	})
	if _, err := c.Write([]byte("hello")); err == nil {
		_, _ = io.ReadFull(c, make([]byte, 5))
	}
	_ = near.Close()
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	return tp
}

// play gives a tape to a Reader in pieces of random sizes.
func play(tp tape, seed uint64) Seen {
	r := rand.New(rand.NewPCG(seed, 1))
	reader := New(false)
	feed := func(b []byte, to func([]byte) bool) {
		for len(b) > 0 {
			n := len(b)
			if seed != 0 {
				n = min(n, 1+r.IntN(1+r.IntN(2000)))
			}
			if !to(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
	feed(tp.client, reader.Client)
	feed(tp.server, reader.Server)
	return reader.Seen()
}

type pki struct {
	roots        *x509.CertPool
	server, user tls.Certificate
}

var testPKI = sync.OnceValue(func() pki {
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "CA"}))
	p := pki{roots: x509.NewCertPool()}
	p.roots.AddCert(ca.Cert)
	p.server = testpki.Must(ca.Issue(testpki.Leaf{CN: "server", DNS: []string{"pay.example"}})).TLS()
	p.user = testpki.Must(ca.Issue(testpki.Leaf{CN: "user"})).TLS()
	return p
})

func configs() (client, server *tls.Config) {
	p := testPKI()
	return &tls.Config{RootCAs: p.roots, ServerName: "pay.example", NextProtos: []string{"h2"}, Certificates: []tls.Certificate{p.user}},
		&tls.Config{Certificates: []tls.Certificate{p.server}, NextProtos: []string{"h2"}, ClientAuth: tls.RequestClientCert}
}

func describe(s Seen) string {
	out := ""
	if s.Hello != nil {
		out += "hello " + s.Hello.ServerName
	}
	if st := s.State; st != nil {
		// Which CipherSuite it is depends on the machine's AES.
		out += fmt.Sprintf("; %s %s alpn %q resumed %v retried %v", handshake.VersionName(st.Version), handshake.GroupName(st.Group), st.ALPN, st.Resumed, st.HelloRetry)
	}
	if s.Asked {
		out += "; asked"
	}
	if s.Client != nil {
		out += "; client " + s.Client.Subject.CommonName
	}
	if s.Destination != nil {
		out += "; destination " + s.Destination.Subject.CommonName
	}
	if s.Alert != handshake.AlertNone {
		out += fmt.Sprintf("; alert %s by client %v", s.Alert, s.ByClient)
	}
	return out
}

// Real handshakes, cut anyhow: what is in the clear is read.
func TestRealHandshakes(t *testing.T) {
	cache := tls.NewLRUClientSessionCache(4)
	for _, c := range []struct {
		name   string
		change func(client, server *tls.Config)
		want   string
	}{
		{"TLS 1.3", nil, `hello pay.example; TLS 1.3 X25519MLKEM768 alpn "" resumed false retried false`},
		{"TLS 1.3 with a HelloRetryRequest", func(_, s *tls.Config) { s.CurvePreferences = []tls.CurveID{tls.CurveP384} }, `hello pay.example; TLS 1.3 secp384r1 alpn "" resumed false retried true`},
		{"TLS 1.2", func(c, _ *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, `hello pay.example; TLS 1.2 X25519 alpn "h2" resumed false retried false; asked; client user; destination server`},
		{"TLS 1.2, kept", func(c, _ *tls.Config) { c.MaxVersion, c.ClientSessionCache = tls.VersionTLS12, cache }, `hello pay.example; TLS 1.2 X25519 alpn "h2" resumed false retried false; asked; client user; destination server`},
		{"TLS 1.2, resumed", func(c, _ *tls.Config) { c.MaxVersion, c.ClientSessionCache = tls.VersionTLS12, cache }, `hello pay.example; TLS 1.2 0x0000 alpn "h2" resumed true retried false`},
		{"no version in common", func(c, s *tls.Config) { c.MaxVersion, s.MinVersion = tls.VersionTLS12, tls.VersionTLS13 }, `hello pay.example; alert protocol_version(70) by client false`},
		{"a name that is not the server's", func(c, _ *tls.Config) { c.MaxVersion, c.ServerName = tls.VersionTLS12, "other.example" }, `hello other.example; TLS 1.2 X25519 alpn "h2" resumed false retried false; asked; destination server; alert bad_certificate(42) by client true`},
	} {
		client, server := configs()
		server.SetSessionTicketKeys([][32]byte{{1}})
		if c.change != nil {
			c.change(client, server)
		}
		tp := record(t, client, server)
		for seed := range uint64(20) {
			if d := cmp.Diff(c.want, describe(play(tp, seed))); d != "" {
				t.Errorf("%s, cut as %d: %s", c.name, seed, d)
				break
			}
		}
	}
}

// What is no TLS, or no end of it, is given up within bounds, and nothing stays behind.
func TestBounds(t *testing.T) {
	record := func(n int) []byte { return append([]byte{22, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...) }
	for name, b := range map[string][]byte{
		"another protocol": bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 100),
		"an endless hello": append([]byte{22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}, make([]byte, 1<<20)...),
		"empty messages":   bytes.Repeat(record(16384), 100),
		"empty records":    bytes.Repeat(record(0), 100000),
		"one byte each":    bytes.Repeat([]byte{22, 3, 1, 0, 1, 1}, 1<<20),
		"a long record":    append([]byte{22, 3, 3, 0xff, 0xff}, make([]byte, 1<<16)...),
	} {
		for _, server := range []bool{false, true} {
			var r Reader
			to := r.Client
			if server {
				to = r.Server
			}
			given := 0
			for rest := b; len(rest) > 0; {
				n := min(len(rest), 1000)
				more := to(rest[:n])
				given += n
				if rest = rest[n:]; !more {
					break
				}
				if r.Held() > 3*maxMessage {
					t.Fatalf("%s: %d bytes are held", name, r.Held())
				}
			}
			if given > maxBytes+2000 && len(b) > given {
				t.Errorf("%s: %d bytes were read", name, given)
			}
			if to([]byte{22}) && given == len(b) && len(b) > maxBytes {
				t.Errorf("%s: it never ends", name)
			}
			if s := r.Seen(); s.Hello != nil || s.State != nil || s.Client != nil || s.Destination != nil {
				t.Errorf("%s: %s", name, describe(s))
			}
		}
	}
}

// Bytes of strangers: the same is seen however they are cut, and within bounds.
func FuzzReader(f *testing.F) {
	client, server := configs()
	client.MaxVersion = tls.VersionTLS12
	tp := record(f, client, server)
	f.Add(tp.client, tp.server, uint64(1))
	client.MaxVersion = tls.VersionTLS13
	tp = record(f, client, server)
	f.Add(tp.client, tp.server, uint64(2))
	f.Fuzz(func(t *testing.T, client, server []byte, seed uint64) {
		whole := describe(play(tape{client, server}, 0))
		if cut := describe(play(tape{client, server}, seed|1)); cut != whole {
			t.Errorf("whole: %s\ncut: %s", whole, cut)
		}
	})
}

// What a connection costs.
func BenchmarkReader(b *testing.B) {
	client, server := configs()
	client.MaxVersion = tls.VersionTLS12
	tp := record(b, client, server)
	b.ReportAllocs()
	for b.Loop() {
		var r Reader
		r.Client(tp.client)
		r.Server(tp.server)
		r.Seen()
	}
}
