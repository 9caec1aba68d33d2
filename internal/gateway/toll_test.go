package gateway

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake/native"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/work"
)

// A client that sends one-byte records is charged for them, and is read no faster than its
// share of work allows. Its data arrives, it can make further handshakes, and data in usual
// records costs nothing.
func TestSmallRecordsAreCharged(t *testing.T) {
	const perSecond, records = 4, 2000 // a share so small that every machine is faster
	for name, engine := range map[string]option{
		"stdtls": func(c *Config) { c.Engine = stdtls.New() },
		"native": func(c *Config) { c.Engine = native.New(stdtls.New()) },
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan int64, 10)
			sink := func(c net.Conn) {
				n, _ := io.Copy(io.Discard, c)
				got <- n
				_ = c.Close()
			}
			h := newHouse(t, mtls(), sink, engine, limited(Limits{HandshakesPerSecond: perSecond}))
			sends := func(piece []byte, times int) (charged float64, took time.Duration) {
				t.Helper()
				conn, err := h.tlsClient(server4, h.alice(), nil)
				if err != nil {
					t.Fatal(err)
				}
				before, began := h.gw.Handshakes().Work, time.Now()
				for range times {
					if _, err := conn.Write(piece); err != nil {
						t.Fatal(err)
					}
				}
				_ = conn.Close()
				if n, want := <-got, int64(times*len(piece)); n != want {
					t.Fatalf("%d of %d bytes have arrived", n, want)
				}
				return h.gw.Handshakes().Work - before, time.Since(began)
			}
			if w, _ := sends(bytes.Repeat([]byte("x"), 1000), records/10); w > 2 {
				t.Errorf("data in usual records is charged as %.1f handshakes", w)
			}
			if n := h.gw.Handshakes().Paced; n != 0 {
				t.Errorf("%d pauses in usual records", n)
			}
			want := float64(work.Data(records, 0, 0)) / float64(work.Ordinary)
			w, took := sends([]byte("x"), records)
			if w < want*0.9 || w > want*1.1+2 {
				t.Errorf("%d records of one byte are charged as %.1f handshakes, want %.1f", records, w, want)
			}
			// The bucket of a second may be full at the beginning.
			if least := time.Duration((want - perSecond) / perSecond * float64(time.Second)); took < least {
				t.Errorf("%.1f handshakes' work was done in %v, at %d a second", w, took, perSecond)
			}
			if h.gw.Handshakes().Paced == 0 {
				t.Error("no pause was counted")
			}
			if conn, err := h.tlsClient(server4, h.alice(), nil); err != nil {
				t.Error(err)
			} else {
				_ = conn.Close()
				<-got
			}
		})
	}
}
