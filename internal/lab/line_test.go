package lab_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/line"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"golang.org/x/sys/unix"
)

// exchange sends body, wants the same back, and says when the first byte came.
func exchange(c net.Conn, body []byte) (first time.Time, err error) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return first, err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(body)
		sent <- err
	}()
	got := make([]byte, len(body))
	_, err = io.ReadFull(c, got[:1])
	first = time.Now()
	if err == nil {
		_, err = io.ReadFull(c, got[1:])
	}
	if err == nil && !bytes.Equal(got, body) {
		err = fmt.Errorf("%d bytes arrived changed", len(body))
	}
	if err != nil {
		_ = c.Close() // the writer ends
	}
	if e := <-sent; err == nil {
		err = e
	}
	return first, err
}

// carry sends the same size random bytes both ways at once over IPv4 or IPv6,
// and says how long after the beginning it was connected and had the first byte. The
// server begins to send when it has the connection, not when the client knows of it.
func carry(t *testing.T, l *lab.Lab, six bool, size int) (connected, first time.Duration) {
	t.Helper()
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(body)
	to := netip.AddrPortFrom(lab.ServerAddr(0, six), 443)
	ln, err := l.Listen(lab.Server, "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, err = exchange(c, body)
		}
		far <- err
	}()
	start := time.Now()
	c, err := l.Dial(testenv.Context(t), lab.Client, "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	connected = time.Since(start)
	came, err := exchange(c, body)
	if err != nil {
		t.Error(err)
	}
	if err := <-far; err != nil {
		t.Errorf("at the server: %v", err)
	}
	return connected, came.Sub(start)
}

// A line delays, loses and reorders what it was told to, nothing else, and what
// TCP carries over it arrives whole.
func TestLine(t *testing.T) {
	for _, tc := range []struct {
		name string
		path line.Path
	}{
		{"wire", line.Path{}},
		{"delay", line.Path{Delay: 20 * time.Millisecond}},
		{"loss", line.Path{Delay: time.Millisecond, Loss: 0.01, Seed: 1}},
		{"late", line.Path{Delay: time.Millisecond, Late: 0.01, LateBy: 3 * time.Millisecond, Seed: 2}},
		{"all", line.Path{Delay: time.Millisecond, Loss: 0.005, Late: 0.005, LateBy: 3 * time.Millisecond, Seed: 3}},
		{"narrow", line.Path{Delay: time.Millisecond, Rate: 200e6, Queue: 128 << 10}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, lab.Options{Line: &tc.path})
			for _, six := range []bool{false, true} {
				a0, b0 := l.Line().Stats()
				connected, first := carry(t, l, six, 2<<20)
				if round := 2 * tc.path.Delay; connected < round || first < 2*round {
					t.Errorf("IPv6 %t: connected after %v, first byte after %v, the way takes %v each way", six, connected, first, tc.path.Delay)
				}
				a, b := l.Line().Stats()
				for i, s := range []line.Stats{since(a, a0), since(b, b0)} {
					wantFate(t, i, s, tc.path)
				}
			}
		})
	}
}

func since(s, before line.Stats) line.Stats {
	return line.Stats{
		Packets: s.Packets - before.Packets, Lost: s.Lost - before.Lost, Late: s.Late - before.Late,
		Full: s.Full - before.Full, Failed: s.Failed - before.Failed, Unread: s.Unread - before.Unread,
	}
}

func wantFate(t *testing.T, way int, s line.Stats, p line.Path) {
	t.Helper()
	// 2 MiB are 1,450 packets of one MSS; a line with a delay has no time for
	// acknowledgements of each.
	if s.Packets < 1450 || s.Failed > 0 || s.Unread > 0 {
		t.Errorf("way %d: %+v", way, s)
	}
	for _, part := range []struct {
		name string
		n    uint64
		want float64
	}{{"lost", s.Lost, p.Loss}, {"late", s.Late, p.Late}} {
		got := float64(part.n) / float64(s.Packets)
		if (part.want == 0) != (part.n == 0) || got > 3*part.want || got < part.want/4 {
			t.Errorf("way %d: %d of %d %s, want %v of all", way, part.n, s.Packets, part.name, part.want)
		}
	}
	if p.Rate == 0 && s.Full > 0 {
		t.Errorf("way %d: %d found a queue full, and there is none", way, s.Full)
	}
}

// The path changes while the line stands, and a wrong one is refused.
func TestLineChanges(t *testing.T) {
	l := newLab(t, lab.Options{Line: &line.Path{}})
	carry(t, l, false, 1000)
	for _, bad := range []line.Path{{Loss: 1.1}, {Loss: -1}, {Late: 2}, {Delay: -1}, {Rate: 1}, {Queue: 1}} {
		if l.Line().Set(bad) == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if err := l.Line().Set(line.Path{Delay: 30 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if connected, _ := carry(t, l, false, 1000); connected < 60*time.Millisecond {
		t.Errorf("connected after %v", connected)
	}
	if err := l.Line().Set(line.Path{Loss: 1}); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if c, err := l.Dial(short, lab.Client, "tcp", "10.77.2.2:443"); err == nil {
		_ = c.Close()
		t.Error("a connection over a line that loses all")
	}
	for _, opt := range []lab.Options{{Line: &line.Path{}, HopMTU: 1400}, {Line: &line.Path{}, Name: "sslgate-line-test", Named: true}, {Line: &line.Path{Loss: 2}}, {Two: true, Line: &line.Path{}}, {Two: true, HopMTU: 1400}} {
		if l, err := lab.New(opt); err == nil {
			_ = l.Close()
			t.Errorf("%+v was taken", opt)
		}
	}
}

// What comes faster than a line reads is counted: it has no other loss than the
// one that it tells.
func TestLineUnread(t *testing.T) {
	l := newLab(t, lab.Options{})
	const sent = 400
	var ends [2]*os.File
	err := l.Do(lab.Client, func() (err error) {
		for i := range ends {
			if ends[i], err = line.Open("lo"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ends[0].SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	err = l.Do(lab.Client, func() error {
		s, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		for range sent {
			if _, err := s.WriteToUDP(make([]byte, 1000), s.LocalAddr().(*net.UDPAddr)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Nobody has read yet. What was sent goes nowhere, or it would come back.
	j, err := line.Join(ends[0], ends[1], line.Path{Loss: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	for ctx := testenv.Context(t); ; {
		a, b := j.Stats()
		if a.Unread > 0 && a.Packets+a.Unread == sent && b.Unread == 0 && b.Packets == sent {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("of %d packets one end has %+v, the other %+v", sent, a, b)
		}
		runtime.Gosched()
	}
}
