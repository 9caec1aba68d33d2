package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// dialTLS connects as alice from the client's namespace.
func (w *world) dialTLS(six bool, cfg *tls.Config) (*tls.Conn, error) {
	w.t.Helper()
	return w.dialTLSTo(server(six), cfg)
}

// dialTLSTo is dialTLS to another destination.
func (w *world) dialTLSTo(to string, cfg *tls.Config) (*tls.Conn, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	raw, err := w.lab.Dial(ctx, lab.Client, "tcp", to)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{RootCAs: w.ca.Pool(), ServerName: "pay.example"}
	if cfg != nil {
		c = cfg.Clone()
		c.RootCAs, c.ServerName = w.ca.Pool(), "pay.example"
	}
	if c.Certificates == nil {
		pair, err := tls.LoadX509KeyPair(w.dir+"/alice.pem", w.dir+"/alice.key")
		if err != nil {
			w.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn, nil
}

// Data arrives unchanged: both directions at once, both versions, both families, over a path
// with offload and without, and over a 1400-byte hop, whose ICMP too-big message must reach
// the sender.
func TestBytesArriveUnchanged(t *testing.T) {
	for _, c := range []struct {
		name string
		tun  string // what is said of it beside its name
		gro  bool   // the gateway receives segments put together
		opt  lab.Options
	}{
		{"offload", "", false, lab.Options{}},
		{"offload, GRO", "", true, lab.Options{}},
		{"plain", `, offload: "off"`, false, lab.Options{}},
		{"plain, GRO", `, offload: "off"`, true, lab.Options{}},
		{"hop 1400", "", false, lab.Options{HopMTU: 1400}},
		{"MTU 1280", ", mtu: 1280", true, lab.Options{ClientMTU: 1280, ServerMTU: 1280}},
		{"MTU 1280, plain", `, mtu: 1280, offload: "off"`, false, lab.Options{ClientMTU: 1280, ServerMTU: 1280}},
		{"MTU 9000", ", mtu: 9000", true, lab.Options{ClientMTU: 9000, ServerMTU: 9000}},
		{"MTU 9000, plain", `, mtu: 9000, offload: "off"`, false, lab.Options{ClientMTU: 9000, ServerMTU: 9000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.opt)
			w.origin(server(false), serveEcho)
			w.origin(server(true), serveEcho)
			w.config(payRule, "")
			w.patient()
			text := strings.Replace(w.read("sslgate.yaml"), "{name: sslgate0}", "{name: sslgate0"+c.tun+"}", 1)
			if c.gro {
				text = strings.Replace(text, "capture: {", "capture: {gro: auto, ", 1)
			}
			if !strings.Contains(text, "sslgate0"+c.tun+"}") || c.gro != strings.Contains(text, "gro: auto") {
				t.Fatalf("the configuration is another one:\n%s", text)
			}
			config := w.pem("sslgate.yaml", []byte(text))
			w.start(config)
			for _, six := range []bool{false, true} {
				for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					conn, err := w.dialTLS(six, &tls.Config{MinVersion: version, MaxVersion: version})
					if err != nil {
						t.Fatal(err)
					}
					echo(t, conn, 8<<20)
					_ = conn.Close()
				}
			}
			for _, r := range w.records(4) {
				if r.str("end") != "closed" || r["bytes_up"] != float64(8<<20) || r["bytes_down"] != float64(8<<20) {
					t.Errorf("record: %v %v %v %v", r.str("reason"), r.str("end"), r["bytes_up"], r["bytes_down"])
				}
			}
		})
	}
}

// echo sends n random bytes, half-closes, and wants the same back.
func echo(t *testing.T, conn *tls.Conn, n int64) {
	t.Helper()
	if err := tryEcho(conn, n); err != nil {
		t.Fatal(err)
	}
}

func tryEcho(conn *tls.Conn, n int64) error {
	sent := sha256.New()
	errc := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, io.TeeReader(io.LimitReader(rand.Reader, n), sent))
		errc <- errors.Join(err, conn.CloseWrite())
	}()
	got := sha256.New()
	m, err := io.Copy(got, conn)
	if err := errors.Join(err, <-errc); err != nil {
		return fmt.Errorf("after %d bytes: %w", m, err)
	}
	if m != n || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		return fmt.Errorf("%d bytes came back of %d, or others than were sent", m, n)
	}
	return nil
}

// A client that closes without close_notify may have been cut off by an attacker:
// a plain destination, which has no other sign of it, sees a RST, not an orderly end.
func TestTruncationIsPassedOnAsReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	seen := make(chan error, 2)
	w.origin(server(false), func(c net.Conn) {
		_ = c.SetDeadline(testenv.Deadline())
		_, err := io.Copy(io.Discard, c)
		seen <- err
	})
	w.start(w.config(payRule, ""))
	for i, orderly := range []bool{true, false} {
		conn, err := w.dialTLS(false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("half a message")); err != nil {
			t.Fatal(err)
		}
		if orderly {
			_ = conn.Close()
		} else {
			_ = conn.NetConn().Close()
		}
		err = <-seen
		if orderly != (err == nil) || !orderly && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("orderly=%v: the destination saw %v", orderly, err)
		}
		want := map[bool]string{true: "closed", false: "closed_without_notify"}[orderly]
		if r := w.last(i + 1); r.str("end") != want {
			t.Errorf("orderly=%v: end %s, want %s", orderly, r.str("end"), want)
		}
	}
}

// SIGTERM drains: no new flows, live ones go on until the deadline, which
// ends them.
func TestDrain(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	g := w.start(w.config(payRule, ""))
	quick, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	slow, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !g.stderr.wait("draining", g.cmd.Done()) {
		t.Fatalf("no word of draining:\n%s", g.stderr.String())
	}
	if c, err := w.dialTLS(false, nil); err == nil {
		_ = c.Close()
		t.Error("a new flow was taken while draining")
	}
	echo(t, quick, 1<<20) // still works
	_ = quick.Close()
	if _, err := slow.Read(make([]byte, 1)); err == nil {
		t.Error("a flow outlived the drain deadline")
	}
	<-g.cmd.Done()
	if took := time.Since(begin); took < 2*time.Second || took > testenv.Patience() {
		t.Errorf("drained in %v, the deadline is 3s", took)
	}
	ends := map[string]int{}
	for _, r := range w.records(3) {
		ends[r.str("end")]++
	}
	if ends["closed"] != 1 || ends["drain_deadline"] != 1 {
		t.Errorf("ends: %v", ends)
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	b, err := w.client("", "cat", name)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}
