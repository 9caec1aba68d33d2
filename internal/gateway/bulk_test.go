package gateway

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/policy"
)

// bulkRules are the three ways a flow's bytes take through the relay.
func bulkRules(way string) policy.Spec {
	spec := mtls()
	switch way {
	case "bypass":
		spec.Rules[0] = policy.RuleSpec{Name: "pay", To: spec.Rules[0].To, Action: "bypass"}
	case "re-encrypted":
		spec.Rules[0].Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}}
	}
	return spec
}

// bulkHouse is a house whose origin speaks what the way wants.
func bulkHouse(t *testing.T, mtu int, offload bool, way string, serve func(handshake.Conn)) *house {
	t.Helper()
	var h *house
	ready := make(chan struct{})
	h = newHouseOn(t, mtu, offload, bulkRules(way), func(c net.Conn) {
		<-ready
		conn := handshake.Conn(c.(*net.TCPConn))
		if way == "re-encrypted" {
			conn = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{h.server}})
		}
		serve(conn)
	})
	close(ready)
	return h
}

// bulkDial is the client's end.
func (h *house) bulkDial(way string, version uint16, dst netip.AddrPort) handshake.Conn {
	h.t.Helper()
	if way == "bypass" {
		return h.dial(dst)
	}
	conn, err := h.tlsClient(dst, h.alice(), func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
	if err != nil {
		h.t.Fatal(err)
	}
	return conn
}

// sendRandom writes n bytes in pieces of random sizes and ends the sending.
func sendRandom(w handshake.Conn, n int, seed uint64) (sum [32]byte, err error) {
	r, src, hash := rand.New(rand.NewPCG(seed, 0)), rand.NewChaCha8([32]byte{byte(seed)}), sha256.New()
	for n > 0 {
		size := 1 + r.IntN(2000)
		if r.IntN(2) == 0 {
			size = 1 + r.IntN(300_000)
		}
		b := make([]byte, min(n, size))
		_, _ = src.Read(b)
		hash.Write(b)
		if _, err := w.Write(b); err != nil {
			return sum, err
		}
		n -= len(b)
	}
	return [32]byte(hash.Sum(nil)), w.CloseWrite()
}

func sumOf(r io.Reader) ([32]byte, error) {
	hash := sha256.New()
	_, err := io.Copy(hash, struct{ io.Reader }{r})
	return [32]byte(hash.Sum(nil)), err
}

// Other random bytes each way at once arrive as they were sent: each family,
// with offload and without, small, usual and large packets, bypassed, with TLS
// towards the client and with TLS on both sides, both versions.
func TestBulkMatrix(t *testing.T) {
	testenv.Slow(t)
	const size = 1<<20 + 12345
	var seed uint64
	for _, offload := range []bool{true, false} {
		for _, mtu := range []int{1280, 1500, 9000} {
			for _, way := range []string{"bypass", "terminated", "re-encrypted"} {
				t.Run(fmt.Sprintf("offload=%t/mtu=%d/%s", offload, mtu, way), func(t *testing.T) {
					type result struct {
						sent, got [32]byte
						err       error
					}
					origin := make(chan result, 1)
					both := func(c handshake.Conn, seed uint64) (r result) {
						var wg sync.WaitGroup
						var serr, rerr error
						wg.Go(func() { r.sent, serr = sendRandom(c, size, seed) })
						r.got, rerr = sumOf(c)
						wg.Wait()
						r.err = errors.Join(serr, rerr)
						return r
					}
					h := bulkHouse(t, mtu, offload, way, func(c handshake.Conn) { origin <- both(c, 200) })
					for i, dst := range []netip.AddrPort{server4, server6, server4} {
						version := uint16(tls.VersionTLS13)
						if i == 2 {
							if version = tls.VersionTLS12; way == "bypass" {
								break
							}
						}
						seed++
						conn := h.bulkDial(way, version, dst)
						here := both(conn, seed)
						there := <-origin
						if err := errors.Join(here.err, there.err); err != nil {
							t.Fatalf("%v: %v", dst, err)
						}
						if here.sent != there.got || there.sent != here.got {
							t.Fatalf("%v: other bytes arrived", dst)
						}
						_ = conn.Close()
						if r := h.record(i + 1); r.str("end") != "closed" || r["bytes_up"] != float64(size) || r["bytes_down"] != float64(size) {
							t.Errorf("record: %s, %v up, %v down", r.str("end"), r["bytes_up"], r["bytes_down"])
						}
					}
					h.wantNothingLent()
				})
			}
		}
	}
}

// wantNothingLent waits until the flows have given their buffers back.
func (h *house) wantNothingLent() {
	h.t.Helper()
	testenv.Eventually(h.t, "no relay buffers are lent", func() bool { return h.gw.RelayBuffers() == 0 }, func() any { return h.gw.RelayBuffers() })
}

// heldMax is what one direction may hold of a sender whose receiver has
// stopped, in bytes: stack's receive and send buffer of 4 MiB each
// (stack.Config.ReceiveMax and SendMax; one of the two is on the client's side, either way),
// one huge relay buffer, and 8 MiB of the kernel's and the client's own
// buffers on both ends (net.ipv4.tcp_rmem and tcp_wmem).
const heldMax = 4<<20 + bufferHuge + 2*(6<<20) + 8<<20

// A receiver that stops stops the sender, on either side, plain or TLS, and
// holds a bounded number of bytes meanwhile. When it goes on, all arrives.
func TestBackPressure(t *testing.T) {
	testenv.Slow(t)
	const size = 64 << 20
	for _, way := range []string{"bypass", "terminated", "re-encrypted"} {
		for _, up := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/up=%t", way, up), func(t *testing.T) {
				origins := make(chan handshake.Conn, 1)
				over := make(chan struct{})
				defer close(over)
				h := bulkHouse(t, 1500, true, way, func(c handshake.Conn) {
					if s, ok := c.(*tls.Conn); ok && s.Handshake() != nil {
						return
					}
					origins <- c
					<-over
				})
				client := h.bulkDial(way, tls.VersionTLS13, server4)
				defer client.Close()
				origin := <-origins
				sender, receiver := client, origin
				if !up {
					sender, receiver = origin, client
				}
				_ = sender.SetDeadline(time.Now().Add(time.Minute))
				_ = receiver.SetDeadline(time.Now().Add(time.Minute))
				var mu sync.Mutex
				accepted := 0
				sent := make(chan error, 1)
				go func() {
					buf := make([]byte, 64<<10)
					for n := 0; n < size; n += len(buf) {
						if _, err := sender.Write(buf); err != nil {
							sent <- err
							return
						}
						mu.Lock()
						accepted = n + len(buf)
						mu.Unlock()
					}
					sent <- sender.CloseWrite()
				}()
				taken := func() int { mu.Lock(); defer mu.Unlock(); return accepted }
				// Still for half a second: it has stopped.
				last, since := -1, time.Now()
				for time.Since(since) < 500*time.Millisecond {
					if n := taken(); n != last {
						last, since = n, time.Now()
					}
					time.Sleep(10 * time.Millisecond)
				}
				held := h.stack.Held()
				t.Logf("accepted %d KiB of the sender; stack holds %d KiB received and %d KiB to send, relay %d KiB",
					last>>10, held.Received>>10, held.Sent>>10, h.gw.RelayBuffers()>>10)
				if last == 0 || last > heldMax {
					t.Errorf("%d bytes were accepted, %d is the bound", last, heldMax)
				}
				// Half as much again: netstack counts what it takes in one segment.
				if held.Received > 6<<20 || held.Sent > 6<<20 {
					t.Errorf("netstack holds %d and %d bytes", held.Received, held.Sent)
				}
				if n := h.gw.RelayBuffers(); n > bufferLarge+bufferHuge {
					t.Errorf("%d bytes of relay buffers", n)
				}
				if n, err := io.Copy(io.Discard, struct{ io.Reader }{receiver}); n != size || err != nil {
					t.Errorf("%d bytes arrived, %v", n, err)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
			})
		}
	}
}
