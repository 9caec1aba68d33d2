package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// watched is a raw connection that knows whether a FIN was read of it. crypto/tls
// reads no further than a close_notify: a FIN that it meets came without one.
type watched struct {
	net.Conn
	fin     atomic.Bool
	corrupt atomic.Bool // what is read from now on
}

func (c *watched) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		c.fin.Store(true)
	}
	if n > 0 && c.corrupt.Load() {
		b[n-1] ^= 1
	}
	return n, err
}

func (c *watched) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// endpoint is one end of a flow, client or origin.
type endpoint struct {
	raw  *watched
	tls  *tls.Conn // nil: plain
	over func()    // lets the origin close
}

func (e endpoint) conn() net.Conn {
	if e.tls != nil {
		return e.tls
	}
	return e.raw
}

// read returns what arrives, and how that ended: "orderly", "FIN", "RST" or the
// error.
func (e endpoint) read() (got []byte, end string) {
	got, err := io.ReadAll(struct{ io.Reader }{e.conn()})
	switch {
	case err == nil && (e.tls == nil || !e.raw.fin.Load()):
		return got, "orderly"
	case err == nil, errors.Is(err, io.ErrUnexpectedEOF):
		return got, "FIN"
	case isReset(err):
		return got, "RST"
	}
	return got, err.Error()
}

// finish ends the sending in one of the ways that there are.
func (e endpoint) finish(how string) {
	switch how {
	case "close_notify":
		if e.tls != nil {
			_ = e.tls.CloseWrite()
		}
		_ = e.raw.CloseWrite()
	case "notify alone":
		_ = e.tls.CloseWrite()
	case "FIN":
		_ = e.raw.CloseWrite()
	case "FIN in a header":
		_, _ = e.raw.Write([]byte{23, 3, 3})
		_ = e.raw.CloseWrite()
	case "FIN in a record":
		_, _ = e.raw.Write([]byte{23, 3, 3, 1, 0, 1, 2, 3})
		_ = e.raw.CloseWrite()
	case "alert": // crypto/tls answers a record that was changed on its way
		e.raw.corrupt.Store(true)
		_, _ = e.tls.Read(make([]byte, 1))
		_ = e.raw.CloseWrite()
	case "RST":
		if c, ok := e.raw.Conn.(*net.TCPConn); ok {
			_ = c.SetLinger(0)
			_ = c.Close()
			return
		}
		e.raw.Conn.(interface{ Reset() }).Reset()
	default:
		panic(how)
	}
}

// endsHouse is a house whose origin is given to the test.
func endsHouse(t *testing.T, way string, opts ...option) (*house, <-chan endpoint) {
	t.Helper()
	origins, end := make(chan endpoint, 1), make(chan struct{})
	var h *house
	ready := make(chan struct{})
	h = newHouse(t, bulkRules(way), func(c net.Conn) {
		<-ready
		over := make(chan struct{})
		e := endpoint{raw: &watched{Conn: c}, over: sync.OnceFunc(func() { close(over) })}
		if way == "re-encrypted" {
			e.tls = tls.Server(e.raw, &tls.Config{Certificates: []tls.Certificate{h.server}})
			if err := e.tls.Handshake(); err != nil {
				t.Error(err)
			}
		}
		origins <- e
		select {
		case <-over:
		case <-end:
		}
	}, opts...)
	close(ready)
	t.Cleanup(func() { close(end) })
	return h, origins
}

// endsDial is the client's end.
func (h *house) endsDial(way string, version uint16) endpoint {
	h.t.Helper()
	e := endpoint{raw: &watched{Conn: h.dial(server4)}}
	if way != "bypass" {
		e.tls = tls.Client(e.raw, &tls.Config{
			RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*h.alice()},
			MinVersion: version, MaxVersion: version,
		})
		if err := e.tls.Handshake(); err != nil {
			h.t.Fatal(err)
		}
	}
	return e
}

// moved waits until the gateway has passed on so many bytes one way.
func (h *house) moved(up bool, n int64) {
	h.t.Helper()
	h.until("the bytes are passed on", func() bool {
		for _, l := range h.gw.registry.all() {
			u, d := l.moved()
			if up && u >= n || !up && d >= n {
				return true
			}
		}
		return false
	})
}

func (h *house) until(what string, ok func() bool) {
	h.t.Helper()
	testenv.Eventually(h.t, what, ok)
}

// However a direction ends, everything sent before arrives, the record counts it, and the
// other side is told of the end in the form that fits: no FIN without close_notify becomes an
// orderly end.
func TestAllArrivesBeforeTheEnd(t *testing.T) {
	const size = 1_000_000
	type want struct{ tls, plain, end string } // what a receiver with TLS sees, without; the record's
	ends := map[string]want{
		"close_notify":    {"orderly", "orderly", "closed"},
		"FIN":             {"FIN", "RST", "closed_without_notify"},
		"FIN in a header": {"FIN", "RST", "%s_truncated"},
		"FIN in a record": {"FIN", "RST", "%s_truncated"},
		"RST":             {"RST", "RST", "%s_reset"},
		"alert":           {"RST", "RST", "%s_error"},
	}
	for _, way := range []string{"bypass", "terminated", "re-encrypted"} {
		for _, up := range []bool{false, true} {
			for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
				for how, want := range ends {
					senderTLS := way == "re-encrypted" || way == "terminated" && up
					if way == "bypass" && version == tls.VersionTLS12 || !senderTLS && (strings.HasPrefix(how, "FIN") || how == "alert") {
						continue
					}
					t.Run(fmt.Sprintf("%s/up=%t/%s/%s", way, up, tls.VersionName(version), how), func(t *testing.T) {
						t.Parallel()
						h, origins := endsHouse(t, way)
						runs := 2
						if how == "FIN" && version == tls.VersionTLS13 && way == "re-encrypted" {
							runs = 10
						}
						for i := range runs {
							client := h.endsDial(way, version)
							origin := <-origins
							sender, receiver, side, see := origin, client, "destination", want.plain
							if up {
								sender, receiver, side = client, origin, "client"
							}
							if receiver.tls != nil {
								see = want.tls
							}
							data := bytes.Repeat([]byte{byte(i + 1), 2, 3, 4}, size/4)
							if _, err := sender.conn().Write(data); err != nil {
								t.Fatal(err)
							}
							h.moved(up, size)
							if how == "alert" {
								_, _ = receiver.conn().Write([]byte("x"))
							}
							sender.finish(how)
							got, end := receiver.read()
							if !bytes.Equal(got, data) || end != see {
								t.Errorf("run %d: %d bytes of %d, then %s, want %s", i, len(got), len(data), end, see)
							}
							receiver.finish("close_notify")
							_, _ = sender.read()
							origin.over()
							_, _ = client.raw.Close(), origin.raw.Close()
							key, code := "bytes_down", want.end
							if up {
								key = "bytes_up"
							}
							if strings.Contains(code, "%s") {
								code = fmt.Sprintf(code, side)
							}
							if r := h.record(i + 1); r.str("end") != code || r[key] != float64(size) {
								t.Errorf("run %d: record: %s (%s), %s %v; want %s, %d", i, r.str("end"), r.str("end_detail"), key, r[key], code, size)
							}
						}
					})
				}
			}
		}
	}
}

// A side that ends without close_notify and waits for the answer gets all of it: the other
// direction goes on, for a plain destination as well.
func TestAnswerAfterABareEnd(t *testing.T) {
	answer := bytes.Repeat([]byte("answer"), 300_000)
	for _, way := range []string{"terminated", "re-encrypted"} {
		for _, up := range []bool{true, false} {
			if way == "terminated" && !up {
				continue // a plain FIN is an orderly end
			}
			for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
				t.Run(fmt.Sprintf("%s/up=%t/%s", way, up, tls.VersionName(version)), func(t *testing.T) {
					t.Parallel()
					h, origins := endsHouse(t, way)
					client := h.endsDial(way, version)
					origin := <-origins
					first, second := client, origin
					if !up {
						first, second = origin, client
					}
					if _, err := first.conn().Write([]byte("ask")); err != nil {
						t.Fatal(err)
					}
					first.finish("FIN")
					if _, err := io.ReadFull(second.conn(), make([]byte, 3)); err != nil {
						t.Fatal(err)
					}
					h.bareEnd() // before the answer is over
					go func() {
						defer second.finish("close_notify")
						if _, err := second.conn().Write(answer); err != nil {
							t.Error(err)
						}
					}()
					if got, end := first.read(); !bytes.Equal(got, answer) || end != "orderly" {
						t.Errorf("%d bytes of %d, then %s", len(got), len(answer), end)
					}
					_ = first.raw.Close()
					origin.over()
					if r := h.record(1); r.str("end") != "closed_without_notify" || !strings.Contains(r.str("end_detail"), map[bool]string{true: "client", false: "destination"}[up]) {
						t.Errorf("end %s (%s)", r.str("end"), r.str("end_detail"))
					}
				})
			}
		}
	}
}

// Once one side has ended in order, no end of the other side is an alarm. Still, no FIN of
// the other side becomes a close_notify.
func TestNothingAfterCloseNotifyIsAnAlarm(t *testing.T) {
	for _, c := range []struct {
		up        bool // the client is done first
		way, then string
		see       string // what the one that is done sees of it
	}{
		{true, "re-encrypted", "close_notify", "orderly"},
		{true, "re-encrypted", "FIN", "FIN"},
		{true, "re-encrypted", "FIN in a record", "FIN"},
		{true, "re-encrypted", "RST", "RST"},
		{true, "terminated", "close_notify", "orderly"}, // its FIN
		{true, "terminated", "RST", "RST"},
		{false, "re-encrypted", "close_notify", "orderly"},
		{false, "re-encrypted", "FIN", "FIN"},
		{false, "re-encrypted", "FIN in a header", "FIN"},
		{false, "re-encrypted", "RST", "RST"},
		{false, "terminated", "FIN", "RST"},
		{false, "terminated", "RST", "RST"},
	} {
		for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
			t.Run(fmt.Sprintf("%s/client first=%t/%s/%s", c.way, c.up, tls.VersionName(version), c.then), func(t *testing.T) {
				t.Parallel()
				h, origins := endsHouse(t, c.way)
				client := h.endsDial(c.way, version)
				origin := <-origins
				first, second := client, origin
				if !c.up {
					first, second = origin, client
				}
				if _, err := first.conn().Write([]byte("bye")); err != nil {
					t.Fatal(err)
				}
				first.finish("close_notify")
				if got, end := second.read(); string(got) != "bye" || end != "orderly" {
					t.Errorf("%q, then %s", got, end)
				}
				second.finish(c.then)
				if got, end := first.read(); len(got) != 0 || end != c.see {
					t.Errorf("%d bytes, then %s, want %s", len(got), end, c.see)
				}
				origin.over()
				_, _ = first.raw.Close(), second.raw.Close()
				if r := h.record(1); r.str("end") != "closed" {
					t.Errorf("end %s (%s)", r.str("end"), r.str("end_detail"))
				}
			})
		}
	}
}

// A slow reader that keeps reading gets everything sent before the end: neither half_closed
// nor idle ends the flow.
func TestSlowReaderGetsTheEnd(t *testing.T) {
	for how, want := range map[string]struct {
		size     int
		see, end string
	}{
		"close_notify": {3 << 20, "orderly", "closed"},
		"FIN":          {3 << 20, "FIN", "closed_without_notify"},
		"RST":          {400 << 10, "RST", "destination_reset"}, // what is not taken by then is lost by it
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			size := want.size
			h, origins := endsHouse(t, "re-encrypted", func(c *Config) {
				c.Limits.Idle, c.Limits.HalfClosed, c.Limits.Stall = 3*time.Second, 3*time.Second, 30*time.Second
			})
			raw := h.dial(server4)
			raw.SetReceiveBuffer(64 << 10)
			client := endpoint{raw: &watched{Conn: raw}}
			client.tls = tls.Client(client.raw, &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*h.alice()}})
			if err := client.tls.Handshake(); err != nil {
				t.Fatal(err)
			}
			origin := <-origins
			if _, err := origin.tls.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			if how == "RST" {
				h.moved(false, int64(size))
			}
			origin.finish(how)
			got, buf := 0, make([]byte, 4<<10)
			for began := time.Now(); time.Since(began) < 6*time.Second; time.Sleep(80 * time.Millisecond) {
				n, err := client.tls.Read(buf)
				if got += n; err != nil {
					t.Fatalf("after %d bytes: %v", got, err)
				}
			}
			rest, end := client.read()
			if got += len(rest); got != size || end != want.see {
				t.Errorf("%d bytes of %d, then %s", got, size, end)
			}
			client.finish("close_notify")
			origin.over()
			if r := h.record(1); r.str("end") != want.end || r["bytes_down"] != float64(size) {
				t.Errorf("end %s (%s), %v bytes", r.str("end"), r.str("end_detail"), r["bytes_down"])
			}
			_ = client.raw.Close()
		})
	}
}

// The record counts what the receiver's TCP has acknowledged, not what waited for
// it when the flow ended.
func TestRecordCountsWhatArrived(t *testing.T) {
	const size = 2 << 20
	for _, c := range []struct {
		way, end string
		how      func(h *house, raw interface{ Reset() })
	}{
		{"re-encrypted", "client_stalled", nil},
		{"terminated", "client_stalled", nil},
		{"bypass", "client_stalled", nil},
		{"re-encrypted", "client_reset", func(_ *house, raw interface{ Reset() }) { raw.Reset() }},
		{"bypass", "client_reset", func(_ *house, raw interface{ Reset() }) { raw.Reset() }},
		{"re-encrypted", "ended_by_operator", func(h *house, _ interface{ Reset() }) { h.gw.registry.all()[0].End("ended_by_operator") }},
	} {
		t.Run(c.way+"/"+c.end, func(t *testing.T) {
			t.Parallel()
			h, origins := endsHouse(t, c.way, func(cfg *Config) {
				if c.how == nil { // else nobody reads for a while, and that is no stall
					cfg.Limits.Stall = 400 * time.Millisecond
				}
			})
			raw := h.dial(server4)
			raw.SetReceiveBuffer(128 << 10)
			client := endpoint{raw: &watched{Conn: raw}}
			if c.way != "bypass" {
				client.tls = tls.Client(client.raw, &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*h.alice()}})
				if err := client.tls.Handshake(); err != nil {
					t.Fatal(err)
				}
			}
			origin := <-origins
			if _, err := origin.conn().Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			h.moved(false, 300_000)
			read := 0
			if c.how != nil {
				n, _ := io.ReadFull(client.conn(), make([]byte, 100_000))
				read = n
				relay := h.gw.registry.all()[0].relay
				waitUntil(t, func() bool { return relay.down.delivered() >= int64(n) }) // its acknowledgement is on its way
				c.how(h, raw)
			}
			r := h.record(1)
			if c.how == nil || c.end == "ended_by_operator" {
				rest, _ := client.read()
				read += len(rest)
			}
			origin.over()
			// What its TCP has and the client could not read: part of a record, and
			// what a reset has thrown away.
			down := int(r["bytes_down"].(float64))
			if most := read + 16<<10; r.str("end") != c.end || down < read && c.end == "client_reset" || down < 100_000 && c.how != nil || c.end != "client_reset" && down > most || down > size-256<<10 {
				t.Errorf("end %s, %d bytes by the record, the client has read %d of %d", r.str("end"), down, read, size)
			}
			_ = raw.Close()
		})
	}
}

// Ends at, before and behind the sizes of records and buffers.
func TestEndsAtEverySize(t *testing.T) {
	h, origins := endsHouse(t, "re-encrypted")
	i := 0
	for _, at := range []int{0, 1, 1 << 10, 1 << 14, 2 << 14, 1 << 16, 1 << 17, 1 << 18} {
		for _, size := range []int{at - 1, at, at + 1} {
			if size < 0 {
				continue
			}
			for _, up := range []bool{false, true} {
				client := h.endsDial("re-encrypted", tls.VersionTLS13)
				origin := <-origins
				sender, receiver, key := origin, client, "bytes_down"
				if up {
					sender, receiver, key = client, origin, "bytes_up"
				}
				if _, err := sender.tls.Write(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
				sender.finish("FIN")
				if got, end := receiver.read(); len(got) != size || end != "FIN" {
					t.Errorf("up=%t: %d bytes of %d, then %s", up, len(got), size, end)
				}
				receiver.finish("close_notify")
				_, _ = sender.read()
				_, _ = client.raw.Close(), origin.raw.Close()
				i++
				if r := h.record(i); r.str("end") != "closed_without_notify" || r[key] != float64(size) {
					t.Errorf("up=%t: end %s, %v bytes of %d", up, r.str("end"), r[key], size)
				}
			}
		}
	}
}

// While the gateway drains, an end still delivers what came before it; when it
// stops, the flow ends at once, and the record says how much had arrived.
func TestEndsWhileDraining(t *testing.T) {
	const size = 1_000_000
	h, origins := endsHouse(t, "re-encrypted")
	client := h.endsDial("re-encrypted", tls.VersionTLS13)
	origin := <-origins
	if _, err := origin.tls.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- h.gw.Drain(ctx) }()
	origin.finish("FIN")
	if got, end := client.read(); len(got) != size || end != "FIN" {
		t.Errorf("%d bytes of %d, then %s", len(got), size, end)
	}
	client.finish("close_notify")
	if err := <-drained; err != nil {
		t.Error(err)
	}
	origin.over()
	if r := h.record(1); r.str("end") != "closed_without_notify" || r["bytes_down"] != float64(size) {
		t.Errorf("end %s, %v bytes", r.str("end"), r["bytes_down"])
	}

	h, origins = endsHouse(t, "re-encrypted")
	raw := h.dial(server4)
	raw.SetReceiveBuffer(64 << 10)
	client = endpoint{raw: &watched{Conn: raw}}
	client.tls = tls.Client(client.raw, &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*h.alice()}})
	if err := client.tls.Handshake(); err != nil {
		t.Fatal(err)
	}
	origin = <-origins
	if _, err := origin.tls.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	h.moved(false, 300_000)
	origin.finish("close_notify")
	client.finish("close_notify")
	h.stop()
	origin.over()
	if r := h.record(1); r.str("end") != "drain_deadline" || r["bytes_down"].(float64) > 512<<10 {
		t.Errorf("end %s, %v bytes", r.str("end"), r["bytes_down"])
	}
}

// bareEnd waits until the gateway has met a FIN without close_notify in a live flow.
func (h *house) bareEnd() {
	h.t.Helper()
	testenv.Eventually(h.t, "a side ends without close_notify", func() bool {
		met := false
		h.gw.Each(func(l *Live) {
			l.mu.Lock()
			r := l.relay
			l.mu.Unlock()
			if r != nil {
				r.mu.Lock()
				met = met || r.bare != nil
				r.mu.Unlock()
			}
		})
		return met
	})
}
