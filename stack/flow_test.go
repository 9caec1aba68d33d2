package stack_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack"
)

func TestEcho(t *testing.T) {
	const size = 4 << 20
	for _, offload := range []bool{false, true} {
		for _, mtu := range []int{1280, 1500, 9000} {
			for _, dst := range []netip.AddrPort{server4, server6} {
				t.Run(fmt.Sprintf("offload=%t/mtu=%d/%v", offload, mtu, dst.Addr()), func(t *testing.T) {
					l := newLab(t, mtu, offload, stack.Config{Handler: &handler{handle: echo}})
					c := l.dial(dst)
					if err := roundTrip(c, size, 1); err != nil {
						t.Fatalf("%v (%+v)", err, l.stack.Stats())
					}
					if st := l.stack.Stats(); st.Bad.Total() != 0 || st.WriteErrors != 0 || st.FlowsAccepted != 1 {
						t.Errorf("stats: %+v", st)
					}
				})
			}
		}
	}
}

// The flow carries the addresses the client meant, and the port of the
// listener that took it.
func TestOriginalAddresses(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, true, stack.Config{Handler: h, Ports: []uint16{8443, 443, 443}})
	for i, dst := range []netip.AddrPort{server4, server6, netip.MustParseAddrPort("198.51.100.9:8443")} {
		src := netip.AddrPortFrom(client4, uint16(40000+i))
		if dst.Addr().Is6() {
			src = netip.AddrPortFrom(client6, uint16(40000+i))
		}
		c, err := l.client.DialFrom(context.Background(), src, dst)
		if err != nil {
			t.Fatal(err)
		}
		f := get(t, flows)
		if f.Src != src || f.Dst != dst || time.Since(f.At) > patience {
			t.Errorf("flow %+v, want %v to %v", f, src, dst)
		}
		if got := f.Conn.RemoteAddr().String(); got != src.String() {
			t.Errorf("RemoteAddr %s, want %v", got, src)
		}
		if got := f.Conn.LocalAddr().String(); got != dst.String() {
			t.Errorf("LocalAddr %s, want %v", got, dst)
		}
		_ = c.Close()
	}
}

func TestHalfClose(t *testing.T) {
	for _, offload := range []bool{false, true} {
		t.Run(fmt.Sprintf("offload=%t", offload), func(t *testing.T) {
			h, flows := given()
			l := newLab(t, 1500, offload, stack.Config{Handler: h})

			// The client says all it has to say, then listens.
			c := l.dial(server4)
			f := get(t, flows)
			if _, err := c.Write([]byte("question")); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(f.Conn); err != nil || string(b) != "question" {
				t.Fatalf("read %q, %v", b, err)
			}
			sum, err := pump(f.Conn, 1<<20, 2)
			if err != nil {
				t.Fatal(err)
			}
			if got, n, err := drain(c); err != nil || got != sum {
				t.Fatalf("client read %d bytes, %v", n, err)
			}

			// And the other way round.
			c = l.dial(server6)
			f = get(t, flows)
			if err := errors.Join(f.Conn.CloseWrite(), f.Conn.CloseWrite()); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Conn.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write after CloseWrite: %v", err)
			}
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF { //nolint:errorlint // a bare io.EOF: io.Copy compares
				t.Fatalf("client read %d, %v", n, err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := pump(c, 1<<20, 3)
				done <- err
			}()
			if _, n, err := drain(f.Conn); err != nil || n != 1<<20 {
				t.Fatalf("read %d bytes, %v", n, err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestManyFlowsLeaveNothing(t *testing.T) {
	testenv.Slow(t)
	const flows, workers = 2000, 50
	l := newLab(t, 1500, true, stack.Config{Handler: &handler{handle: echo}, TimeWait: 100 * time.Millisecond})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range flows / workers {
				dst := server4
				if i%2 == 1 {
					dst = server6
				}
				c, err := l.tryDial(dst, patience)
				if err != nil {
					t.Error(err)
					return
				}
				if i%10 == 9 { // some end badly
					c.Reset()
					continue
				}
				if err := roundTrip(c, 64, uint64(w)); err != nil {
					t.Error(err)
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	l.eventually("all flows ended", func() bool {
		st := l.stack.Stats()
		return st.FlowsLive == 0 && st.FlowsLingering == 0
	})
	if st := l.stack.Stats(); st.FlowsAccepted < flows*9/10 || st.FlowsAccepted > flows || st.FlowsRejected != 0 {
		t.Errorf("stats: %+v", st)
	}
}

func TestLimits(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h, MaxFlows: 3, MaxFlowsPerClient: 2})
	other := netip.MustParseAddrPort("10.1.0.3:0")
	l.dial(server4)
	first := get(t, flows)
	l.dial(server4)
	get(t, flows)
	if _, err := l.tryDial(server4, patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("third flow of a client: %v", err)
	}
	// Another client has a limit of its own.
	l.dial(server6)
	get(t, flows)
	if _, err := l.client.DialFrom(context.Background(), other, server4); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("fourth flow in all: %v", err)
	}
	if st := l.stack.Stats(); st.SYNLimited != 2 || st.FlowsLive != 3 {
		t.Errorf("stats: %+v", st)
	}
	_ = first.Conn.Close()
	c, err := l.client.DialFrom(context.Background(), other, server4)
	if err != nil {
		t.Fatalf("after one has ended: %v", err)
	}
	_ = c.Close()
	get(t, flows)
}

// The limits count the flows of another process too, while there is one.
func TestLimitsOfTwo(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h, MaxFlows: 5, MaxFlowsPerClient: 3})
	refused := func(what string, yes bool) {
		t.Helper()
		_, err := l.tryDial(server4, patience)
		if yes != errors.Is(err, syscall.ECONNREFUSED) || !yes && err != nil {
			t.Errorf("%s: %v, refused: %v expected", what, err, yes)
		}
		if err == nil {
			get(t, flows)
		}
	}
	refused("alone", false)
	mine := l.stack.ClientFlows(10)
	if len(mine) != 1 {
		t.Fatalf("flows by client: %v", mine)
	}
	if got := l.stack.ClientFlows(0); len(got) != 0 {
		t.Errorf("of no client: %v", got)
	}
	beside := map[netip.Prefix]int{}
	for client := range mine {
		beside[client] = 2
	}
	l.stack.CountBeside(2, beside)
	if n := l.stack.Beside(); n != 2 {
		t.Errorf("%d flows beside", n)
	}
	refused("one here, two there", true)
	l.stack.CountBeside(4, nil)
	refused("one here, four of others there", true)
	l.stack.CountBeside(1, map[netip.Prefix]int{netip.MustParsePrefix("10.9.9.9/32"): 1})
	refused("one here, one of another client there", false)
	l.stack.CountBeside(0, nil)
	refused("the other process has ended", false)
	refused("three here", true)
}

// All addresses of an IPv6 /64 are one client, those of the next one another.
func TestLimitOfASlash64(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h, MaxFlowsPerClient: 2})
	from := func(a string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := l.client.DialFrom(ctx, netip.AddrPortFrom(netip.MustParseAddr(a), 0), server6)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			get(t, flows)
		}
		return err
	}
	for _, a := range []string{"2001:db8:1:2::1", "2001:db8:1:2:ffff::2"} {
		if err := from(a); err != nil {
			t.Fatalf("%s: %v", a, err)
		}
	}
	for _, a := range []string{"2001:db8:1:2::1", "2001:db8:1:2:8000::3"} {
		if err := from(a); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s, the third flow of its /64: %v", a, err)
		}
	}
	if err := from("2001:db8:1:3::1"); err != nil {
		t.Errorf("of the next /64: %v", err)
	}
	if st := l.stack.Stats(); st.SYNLimited != 2 || st.FlowsLive != 3 {
		t.Errorf("stats: %+v", st)
	}
}

func TestStopAccepting(t *testing.T) {
	l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: echo}})
	c := l.dial(server4)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	l.stack.StopAccepting()
	l.stack.StopAccepting()
	for _, dst := range []netip.AddrPort{server4, server6} {
		if _, err := l.tryDial(dst, patience); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("new flow to %v while draining: %v", dst, err)
		}
	}
	if err := roundTrip(c, 1<<20, 4); err != nil {
		t.Errorf("live flow while draining: %v", err)
	}
	if st := l.stack.Stats(); st.SYNReset != 2 {
		t.Errorf("stats: %+v", st)
	}
}

func TestRunAbortsLiveFlows(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("AllPorts=%t", all), func(t *testing.T) {
			ended := make(chan error, 3)
			h := &handler{handle: func(_ context.Context, f *stack.Flow) {
				_, err := f.Conn.Read(make([]byte, 1)) // does not look at ctx
				ended <- err
			}}
			l := newLab(t, 1500, true, stack.Config{Handler: h, AllPorts: all})
			c4, c6 := l.dial(server4), l.dial(server6)
			l.eventually("both flows live", func() bool { return l.stack.Stats().FlowsLive == 2 })
			if err := l.stop(); err != nil {
				t.Fatal(err)
			}
			for _, c := range []io.Reader{c4, c6} {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("client: %v", err)
				}
				if err := <-ended; !errors.Is(err, errClosed) {
					t.Errorf("handler: %v", err)
				}
			}
			if err := l.stack.Run(context.Background()); !errors.Is(err, stack.ErrRunTwice) {
				t.Errorf("Run again: %v", err)
			}
		})
	}
}

func TestRunEndsWithTheDevice(t *testing.T) {
	l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: echo}})
	l.dial(server4)
	_ = l.near.Close()
	select {
	case err := <-l.ran:
		if !errors.Is(err, errFileClosed) {
			t.Errorf("Run: %v", err)
		}
		l.ran = nil
	case <-time.After(patience):
		t.Fatal("Run does not return")
	}
	l.cancel()
}

// If a handler returns without having closed its flow, the flow is reset.
func TestHandlerReturns(t *testing.T) {
	l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: func(_ context.Context, f *stack.Flow) {
		_, _ = f.Conn.Read(make([]byte, 1)) // or the reset may come before the client's connect has returned
	}}})
	c := l.dial(server4)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("client: %v", err)
	}
	l.eventually("no flow live", func() bool { return l.stack.Stats().FlowsLive == 0 })
}

func TestAllPorts(t *testing.T) {
	for _, offload := range []bool{false, true} {
		t.Run(fmt.Sprintf("offload=%t", offload), func(t *testing.T) {
			l := newLab(t, 1500, offload, stack.Config{Handler: &handler{handle: echo}, AllPorts: true})
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() {
					dst := netip.AddrPortFrom(server4.Addr(), uint16(1+i*1600))
					if i%2 == 1 {
						dst = netip.AddrPortFrom(server6.Addr(), dst.Port())
					}
					c, err := l.tryDial(dst, patience)
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = c.Close() }()
					if err := roundTrip(c, 100_000, uint64(i)); err != nil {
						t.Errorf("%v: %v", dst, err)
					}
				})
			}
			wg.Wait()
			if st := l.stack.Stats(); st.FlowsAccepted != 40 || st.Bad.Total() != 0 {
				t.Errorf("stats: %+v", st)
			}
		})
	}
}

// A handshake that begins while there is room and ends when there is none is reset.
func TestNoRoomAfterHandshake(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, false, stack.Config{Handler: h, MaxFlows: 1})
	stranger := netip.MustParseAddrPort("10.5.5.5:5555")
	answers := make(chan []byte, 16)
	l.near.SetFilter(func(pkt []byte) bool {
		ip := pkt[stack.VirtioHeaderLen:]
		if netip.AddrFrom4([4]byte(ip[16:20])) == stranger.Addr() {
			answers <- append([]byte(nil), ip...)
		}
		return true
	})
	l.near.Inject(seg{src: stranger, dst: server4, seq: 100, flags: syn}.ip())
	synAck := <-answers
	l.dial(server4)
	get(t, flows)
	l.near.Inject(seg{src: stranger, dst: server4, seq: 101, ack: binary.BigEndian.Uint32(synAck[24:]) + 1, flags: ack}.ip())
	if got := <-answers; got[33]&rst == 0 {
		t.Errorf("answer %x", got)
	}
	l.eventually("counted", func() bool { return l.stack.Stats().FlowsRejected == 1 })
	if st := l.stack.Stats(); st.FlowsAccepted != 1 || st.FlowsLive != 1 {
		t.Errorf("stats: %+v", st)
	}
}
