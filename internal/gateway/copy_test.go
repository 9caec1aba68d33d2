package gateway

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/policy"
)

// A bypassed upload that is cut off, by either side, ends as that and its record
// has at least what arrived.
func TestUploadCutOff(t *testing.T) {
	const before = 4 << 20
	for _, c := range []struct {
		end    string
		origin bool
	}{{"destination_reset", true}, {"client_reset", false}} {
		t.Run(c.end, func(t *testing.T) {
			var got atomic.Int64
			enough, over := make(chan struct{}), make(chan struct{})
			h := bulkHouse(t, 1500, true, "bypass", func(conn handshake.Conn) {
				defer close(over)
				n, _ := io.CopyN(io.Discard, struct{ io.Reader }{conn}, before)
				got.Store(n)
				close(enough)
				if c.origin {
					acknowledge(t, conn.(*net.TCPConn))
					_ = conn.(*net.TCPConn).SetLinger(0)
					_ = conn.Close()
					return
				}
				n, err := io.Copy(io.Discard, struct{ io.Reader }{conn})
				got.Add(n)
				if !isReset(err) {
					t.Errorf("origin: %v", err)
				}
			})
			conn := h.bulkDial("bypass", tls.VersionTLS13, server4)
			if !c.origin {
				go func() {
					<-enough
					conn.(interface{ Reset() }).Reset()
				}()
			}
			buf := make([]byte, 100_000)
			for {
				if _, err := conn.Write(buf); err != nil {
					break
				}
			}
			<-over
			r := h.record(1)
			if up := int64(r["bytes_up"].(float64)); r.str("end") != c.end || up < got.Load() || got.Load() < before {
				t.Errorf("end %s (%s), %d bytes by the record, %d arrived", r.str("end"), r.str("end_detail"), up, got.Load())
			}
			h.wantNothingLent()
		})
	}
}

// acknowledge has the kernel send an acknowledgement that it delays (tcp(7),
// TCP_QUICKACK): a RST does not tell the peer what arrived.
func acknowledge(t *testing.T, conn *net.TCPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	control := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	})
	if err := errors.Join(control, err); err != nil {
		t.Error(err)
	}
}

// A flow that is bypassed by its hello's name is relayed from the hello on, and
// all of it arrives.
func TestUploadAfterHello(t *testing.T) {
	const size = 8<<20 + 4321
	spec := mtls()
	spec.Rules[0] = policy.RuleSpec{Name: "pay", To: spec.Rules[0].To, SNI: []string{"pay.example"}, Action: "bypass"}
	sums := make(chan [32]byte, 1)
	var h *house
	ready := make(chan struct{})
	h = newHouse(t, spec, func(c net.Conn) {
		<-ready
		conn := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{h.server}})
		sum, err := sumOf(conn)
		if err != nil {
			t.Error(err)
		}
		sums <- sum
		_ = conn.Close()
	})
	close(ready)
	conn, err := h.tlsClient(server4, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := sendRandom(conn, size, 5)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-sums; got != sum {
		t.Error("other bytes arrived")
	}
	if _, err := io.Copy(io.Discard, conn); err != nil { // session tickets: unread they make a reset
		t.Error(err)
	}
	_ = conn.Close()
	if r := h.record(1); r.str("end") != "closed" || r.str("action") != "bypass" || r["bytes_up"].(float64) < size {
		t.Errorf("record: %v", r)
	}
}
