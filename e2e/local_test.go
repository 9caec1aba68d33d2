package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// here are the gateway's own addresses: of the captured interface and of another.
func here() []netip.Addr {
	return []netip.Addr{
		netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77:1::1"), lab.GatewayAddr(false), lab.GatewayAddr(true),
	}
}

// localService is a service on the gateway's own host. It counts what comes from
// the client's address, which nobody verified.
type localService struct {
	port      uint16
	direct    atomic.Int64 // connections from a client
	bytes     atomic.Int64 // what they sent
	addresses []netip.AddrPort
}

// serveHere listens on the port at all addresses of the gateway's host.
func (w *world) serveHere(port uint16) *localService {
	w.t.Helper()
	s := &localService{port: port}
	for _, a := range here() {
		at := netip.AddrPortFrom(a, port)
		s.addresses = append(s.addresses, at)
		ln, err := w.lab.Listen(lab.Gateway, "tcp", at.String())
		if err != nil {
			w.t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go s.serve(c)
			}
		}()
		w.t.Cleanup(func() { _ = ln.Close(); <-done })
	}
	return s
}

func (s *localService) serve(c net.Conn) {
	defer c.Close()
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	client := from == lab.ClientAddr(false) || from == lab.ClientAddr(true)
	if client {
		s.direct.Add(1)
	}
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if client {
			s.bytes.Add(int64(n))
		}
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("\r\n\r\n")) {
			fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nserved here for %s\n", from)
			return
		}
		_, _ = c.Write(buf[:n])
	}
}

// knockHere tries every way to the host's own service: connects, raw packets whole
// and in fragments.
func (w *world) knockHere(s *localService, sport uint16) {
	w.t.Helper()
	for _, dst := range s.addresses {
		six := dst.Addr().Is6()
		seg := lab.Segment{Src: netip.AddrPortFrom(lab.ClientAddr(six), sport), Dst: dst, Flags: lab.SYN, Seq: 1}
		packets := [][]byte{seg.Packet()}
		frags, err := seg.Fragments(24, sport)
		if err != nil {
			w.t.Fatal(err)
		}
		if packets = append(packets, frags...); six {
			packets = append(packets, seg.BehindOptions())
		}
		if err := w.lab.SendRaw(lab.Client, packets...); err != nil {
			w.t.Fatal(err)
		}
		if got := w.plainHere(dst, 300*time.Millisecond); strings.Contains(got, "served here") {
			w.t.Errorf("%s: %q without a certificate", dst, got)
		}
	}
}

// plainHere asks without TLS and returns the answer; connect is how long it tries.
func (w *world) plainHere(dst netip.AddrPort, connect time.Duration) string {
	ctx, cancel := context.WithTimeout(context.Background(), connect)
	defer cancel()
	c, err := w.lab.Dial(ctx, lab.Client, "tcp", dst.String())
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(max(connect, 2*time.Second)))
	_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	got, _ := io.ReadAll(c)
	return string(got)
}

func (w *world) noneHere(s *localService, when string) {
	w.t.Helper()
	if n, b := s.direct.Load(), s.bytes.Load(); n != 0 || b != 0 {
		w.t.Errorf("%s: %d connections of the client with %d bytes came to the host's own service", when, n, b)
	}
}

// goodHere is a client with a certificate at each address of the host.
func (w *world) goodHere(s *localService, when string) {
	w.t.Helper()
	for _, dst := range s.addresses {
		out, err := w.client("", "curl", "-sS", "-m", "10", "-k", "--noproxy", "*", "--cert", "alice.pem", "--key", "alice.key", "https://"+dst.String()+"/")
		if err != nil || !strings.Contains(out, "served here for "+dst.Addr().String()) {
			w.t.Errorf("%s: a good client at %s: %v\n%s", when, dst, err, out)
		}
	}
}

// In front of a service on its own machine: everything that is delivered to the gateway's own
// host on a captured port is inspected, at each of its addresses. It never passes
// uninspected, whatever happens to the gateway.
func TestLocalService(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	testenv.Tool(t, "ip")
	w := newWorld(t, lab.Options{})
	s := w.serveHere(port)
	other := w.serveHere(9443) // not captured, as admin.metrics would be
	config := w.config(payRule, "")
	if got := w.plainHere(s.addresses[0], testenv.Patience()); !strings.Contains(got, "served here") {
		t.Fatalf("without a gateway: %q", got)
	}
	s.direct.Store(0)
	s.bytes.Store(0)

	if out, err := w.command("guard", "-c", config).CombinedOutput(); err != nil {
		t.Fatalf("guard: %v\n%s", err, out)
	}
	w.knockHere(s, 43000)
	w.noneHere(s, "guard alone, before the first start")
	g := w.start(config)
	w.knockHere(s, 43001)
	w.goodHere(s, "running")
	for _, dst := range s.addresses {
		out, err := w.client("", "curl", "-sS", "-m", "10", "-k", "https://"+dst.String()+"/")
		if err == nil || strings.Contains(out, "served here") {
			t.Errorf("no certificate at %s: %v\n%s", dst, err, out)
		}
	}
	w.noneHere(s, "running")
	for _, dst := range other.addresses {
		if got := w.plainHere(dst, testenv.Patience()); !strings.Contains(got, "served here") {
			t.Errorf("a port that is not captured, %s: %q", dst, got)
		}
	}
	g.stop(syscall.SIGKILL)
	w.knockHere(s, 43002)
	w.noneHere(s, "after kill -9")
	g = w.start(config)
	w.knockHere(s, 43003)
	w.goodHere(s, "restarted")
	g.stop(syscall.SIGTERM)
	w.knockHere(s, 43004)
	w.noneHere(s, "after an orderly stop")
	if out, err := w.lab.Command(lab.Gateway, "ip", "rule").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "0:\tfrom all lookup local") {
		t.Errorf("after an orderly stop the local table is not asked first: %v\n%s", err, out)
	}
	if out, err := w.command("release", "-c", config, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
	for _, dst := range s.addresses {
		if got := w.plainHere(dst, testenv.Patience()); !strings.Contains(got, "served here") {
			t.Errorf("released, %s: %q", dst, got)
		}
	}
}
