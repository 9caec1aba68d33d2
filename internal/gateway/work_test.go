package gateway

import (
	"bytes"
	"crypto/tls"
	"io"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// old is a client of TLS 1.1 and before.
func old(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }

// Each flow is charged by what it has cost: the dearer the client's keys and
// the longer what it sends, the more; what is refused at its first bytes little.
func TestFlowsAreChargedByWork(t *testing.T) {
	h := newHouse(t, mtls(), nil, limited(Limits{HandshakesPerSecond: 10000}))
	n := 0
	charged := func(name string, do func()) float64 {
		t.Helper()
		before := h.gw.Handshakes().Work
		do()
		n++
		waitUntil(t, func() bool { return len(h.records.all(t)) == n })
		w := h.gw.Handshakes().Work - before
		t.Logf("%-28s %.2f", name, w)
		return w
	}
	handshake := func(cert *tls.Certificate, change func(*tls.Config)) func() {
		return func() {
			conn, err := h.tlsClient(server4, cert, change)
			if err == nil {
				_, _ = conn.Read(make([]byte, 1)) // in TLS 1.3 a refusal comes now
				_ = conn.Close()
			}
		}
	}
	ends := func(cert *tls.Certificate) func() {
		return func() {
			conn, err := h.tlsClient(server4, cert, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = conn.Write([]byte("x")); err == nil {
				_, err = io.ReadFull(conn, make([]byte, 1))
			}
			if err != nil {
				t.Error(err)
			}
			_ = conn.Close()
		}
	}
	sends := func(b []byte) func() {
		return func() {
			c := h.dial(server4)
			_, _ = c.Write(b)
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}
	p521 := testpki.Must(testpki.Must(h.ca.Intermediate(testpki.Options{Key: testpki.P521})).Issue(testpki.Leaf{Key: testpki.P521, DNS: []string{"alice.example"}})).TLS()
	stranger := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{Key: testpki.P521})).Issue(testpki.Leaf{Key: testpki.P521})).TLS()

	usual := charged("an ordinary handshake", ends(h.alice()))
	if usual < 0.3 || usual > 2 {
		t.Errorf("an ordinary handshake is charged as %.2f of one", usual)
	}
	if w := charged("P-521, leaf and CA", ends(&p521)); w < usual+3 {
		t.Errorf("with P-521: %.2f", w)
	}
	if w := charged("a stranger's P-521", handshake(&stranger, nil)); w > usual+0.5 {
		t.Errorf("a stranger: %.2f, its keys were used", w)
	}
	if w := charged("a version of no rule", handshake(nil, old)); w > 0.3 {
		t.Errorf("refused at its hello: %.2f", w)
	}
	if w := charged("plain HTTP", sends([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))); w <= 0 || w > 0.3 {
		t.Errorf("plain HTTP: %.2f", w)
	}
	long := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3}, bytes.Repeat([]byte{0xff}, 0x3ffc-2)...)
	if w := charged("16 KiB that do not decode", sends(long)); w < 0.2 {
		t.Errorf("16 KiB that do not decode: %.2f", w)
	}
}

// The policy's decision about a hello comes after the turn, and so does the answer to a
// non-hello: while there is no turn to give, nothing is decided.
func TestHelloWaitsForItsTurn(t *testing.T) {
	for name, first := range map[string]func(h *house){
		"a version of no rule": func(h *house) {
			cfg := &tls.Config{ServerName: "pay.example"}
			old(cfg)
			_ = tls.Client(h.dial(server4), cfg).Handshake()
		},
		"plain HTTP": func(h *house) {
			c := h.dial(server4)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, mtls(), nil, limited(Limits{Handshakes: 1, HandshakesPerClient: 1, HandshakesPerSecond: 1000}))
			turn, err := h.gw.turns.Begin(t.Context(), client6)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				first(h)
			}()
			waitUntil(t, func() bool { return h.gw.Handshakes().Waiting == 1 })
			if n := len(h.records.all(t)); n != 0 {
				t.Errorf("%d records, nobody had a turn", n)
			}
			turn.End()
			<-done
			waitUntil(t, func() bool { return len(h.records.all(t)) == 1 })
		})
	}
}
