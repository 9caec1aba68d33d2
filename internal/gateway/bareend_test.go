package gateway

import (
	"crypto/tls"
	"io"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A client that takes nothing for longer than bareGrace still gets the whole answer: the waiting
// data counts as in transit.
func TestSlowReaderAfterABareEnd(t *testing.T) {
	testenv.Slow(t)
	t.Parallel()
	h, origins := endsHouse(t, "terminated")
	raw := h.dial(server4)
	raw.SetReceiveBuffer(64 << 10)
	client := endpoint{raw: &watched{Conn: raw}}
	client.tls = tls.Client(client.raw, &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*h.alice()}})
	if err := client.tls.Handshake(); err != nil {
		t.Fatal(err)
	}
	origin := <-origins
	if _, err := client.tls.Write([]byte("ask")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(origin.conn(), make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20 // more than all buffers on the way
	go func() {
		defer origin.finish("FIN")
		if _, err := origin.conn().Write(make([]byte, size)); err != nil {
			t.Error(err)
		}
	}()
	h.moved(false, 256<<10)
	client.finish("FIN")
	h.until("the FIN is seen", func() bool {
		for _, l := range h.gw.registry.all() {
			l.mu.Lock()
			r := l.relay
			l.mu.Unlock()
			if r != nil && r.half.Load() {
				return true
			}
		}
		return false
	})
	time.Sleep(2*bareGrace + bareGrace/2)
	if got, end := client.read(); len(got) != size || end != "orderly" {
		t.Errorf("%d bytes of %d, then %s", len(got), size, end)
	}
	_ = client.raw.Close()
	origin.over()
	if r := h.record(1); r.str("end") != "closed_without_notify" {
		t.Errorf("end %s (%s)", r.str("end"), r.str("end_detail"))
	}
}

// The grace begins with the FIN, however long ago the last byte was.
func TestBareGraceBeginsWithTheFIN(t *testing.T) {
	t.Parallel()
	r := &relay{began: time.Now().Add(-time.Minute), over: make(chan struct{})}
	r.client.done, r.dest.done = make(chan struct{}), make(chan struct{})
	fin := time.Now()
	r.awaitQuiet(&r.dest, &r.client)
	if took := time.Since(fin); took < bareGrace {
		t.Errorf("it waited for %v", took)
	}
}
