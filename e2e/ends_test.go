package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// Many servers and clients end with a FIN and no close_notify. All that they have sent before
// arrives, ten times out of ten, in both directions, and as curl sees it. The record says how
// the flow ended, and counts what arrived.
func TestEndWithoutCloseNotify(t *testing.T) {
	t.Parallel()
	const size = 1_000_000
	w := newWorld(t, lab.Options{})
	pair, err := tls.LoadX509KeyPair(w.dir+"/pay.pem", w.dir+"/pay.key")
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan int64, 1)
	w.origin(server(false), func(raw net.Conn) {
		_ = raw.SetDeadline(testenv.Deadline())
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}})
		ask := make([]byte, 4)
		if _, err := io.ReadFull(c, ask); err != nil {
			return
		}
		if string(ask) == "PUT " {
			n, _ := io.Copy(io.Discard, c)
			arrived <- n
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", size)
		_, _ = c.Write(make([]byte, size))
		_ = raw.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, raw)
	})
	w.start(w.config(`
    - name: pay
      to: ["*:443"]
      identity: pay
      client: {certificate: required, authorities: [staff]}
      destination: {tls: verify, authorities: [staff], name: pay.example}
`, ""))
	flows := 0
	ended := func(key string, least int, ends ...string) {
		t.Helper()
		flows++
		if r := w.last(flows); !slices.Contains(ends, r.str("end")) || r[key].(float64) < float64(least) {
			t.Errorf("flow %d: end %s (%s), %v %s", flows, r.str("end"), r.str("end_detail"), r[key], key)
		}
	}
	for range 10 {
		out, err := w.client("", "curl", "-sS", "--max-time", "20", "--cacert", "ca.pem", "--cert", "alice.pem", "--key", "alice.key",
			"--resolve", "pay.example:443:"+lab.ServerAddr(0, false).String(), "-o", "/dev/null", "-w", "%{size_download}", "https://pay.example/")
		if err != nil || out != fmt.Sprint(size) {
			t.Errorf("curl: %q, %v", out, err)
		}
		ended("bytes_down", size, "closed_without_notify", "closed") // curl may have said that it is done before
	}
	for range 10 {
		conn, err := w.dialTLS(false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(append([]byte("PUT "), make([]byte, size)...)); err != nil {
			t.Fatal(err)
		}
		_ = conn.NetConn().Close()
		if n := <-arrived; n != size {
			t.Errorf("%d bytes of %d arrived", n, size)
		}
		ended("bytes_up", size+4, "closed_without_notify")
	}
}
