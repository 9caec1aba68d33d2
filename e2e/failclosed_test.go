package e2e

import (
	"context"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// leak watches the server's side for captured packets that come straight from
// the client: whatever sslgate itself dials comes from the gateway's address.
func (w *world) leak() *lab.Sniffer {
	w.t.Helper()
	c4, c6 := lab.ClientAddr(false), lab.ClientAddr(true)
	s, err := w.lab.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool {
		return (p.Src.Addr() == c4 || p.Src.Addr() == c6) && (p.Dst.Port() == 443 || p.Dst.Port() == 8443 || p.Fragment)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

// knock tries every way to get a SYN through: plain, fragmented and behind
// extension headers, IPv4 and IPv6, by raw packets and by a real connect.
func (w *world) knock(sport uint16) {
	w.t.Helper()
	for _, six := range []bool{false, true} {
		seg := lab.Segment{
			Src: netip.AddrPortFrom(lab.ClientAddr(six), sport), Dst: netip.AddrPortFrom(lab.ServerAddr(0, six), port),
			Flags: lab.SYN, Seq: 1,
		}
		packets := [][]byte{seg.Packet()}
		frags, err := seg.Fragments(24, sport)
		if err != nil {
			w.t.Error(err)
			return
		}
		packets = append(packets, frags...)
		if six {
			packets = append(packets, seg.BehindOptions())
		}
		if err := w.lab.SendRaw(lab.Client, packets...); err != nil {
			w.t.Error(err)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		if c, err := w.lab.Dial(ctx, lab.Client, "tcp", server(six)); err == nil {
			_ = c.Close()
		}
		cancel()
	}
}

func (w *world) nothingLeaked(s *lab.Sniffer, when string) {
	w.t.Helper()
	time.Sleep(100 * time.Millisecond)
	if n := s.Count(); n != 0 {
		w.t.Errorf("%s: %d packets of the client passed uninspected: %v", when, n, s.Packets())
	}
}

// Captured traffic goes nowhere before the first start (with the guard set),
// while the gateway runs, after kill -9, and after an orderly stop.
func TestNothingPassesWithoutTheGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.origin(server(true), serveEcho)
	config := w.config(payRule, "")

	// Check the sniffer: without guard and gateway it must see packets.
	open := w.leak()
	w.knock(40000)
	testenv.Eventually(t, "the sniffer sees what passes where nothing is in the way", func() bool { return open.Count() > 0 })

	if out, err := w.command("guard", "-c", config).CombinedOutput(); err != nil {
		t.Fatalf("guard: %v\n%s", err, out)
	}
	s := w.leak()
	w.knock(40001)
	w.nothingLeaked(s, "guard alone, before the first start")

	g := w.start(config)
	w.knock(40002)
	w.nothingLeaked(s, "gateway running")

	g.stop(syscall.SIGKILL)
	w.knock(40003)
	w.nothingLeaked(s, "after kill -9")

	g = w.start(config)
	w.knock(40004)
	w.nothingLeaked(s, "restarted")
	g.stop(syscall.SIGTERM)
	w.knock(40005)
	w.nothingLeaked(s, "after an orderly stop")

	if out, err := w.command("release", "-c", config, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
	w.knock(40006)
	testenv.Eventually(t, "released, it passes", func() bool { return s.Count() > 0 })
}

// Changes of the host by others let nothing pass, and the gateway repairs them.
func TestNothingPassesWhenOthersMeddle(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "nft")
	testenv.Tool(t, "ip")
	meddling := []struct {
		name string
		do   func(w *world)
		undo func(w *world)
	}{
		{"rules flushed", func(w *world) { w.sh("ip rule del pref 5519; ip -6 rule del pref 5519") }, nil},
		{"routing table flushed", func(w *world) { w.sh("ip route flush table 5519; ip -6 route flush table 5519") }, nil},
		{"ingress renamed", func(w *world) {
			w.sh("ip link set " + lab.LANIface + " down; ip link set " + lab.LANIface + " name other0; ip link set other0 up")
		}, func(w *world) {
			w.sh("ip link set other0 down; ip link set other0 name " + lab.LANIface + "; ip link set " + lab.LANIface + " up")
		}},
		{"TUN renamed", func(w *world) {
			w.sh("ip link set sslgate0 down; ip link set sslgate0 name evil0; ip link set evil0 up")
		}, nil},
	}
	for _, m := range meddling {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel() // in namespaces of its own; it waits most of the time
			w := newWorld(t, lab.Options{})
			w.origin(server(false), serveEcho)
			w.origin(server(true), serveEcho)
			w.start(w.config(payRule, ""))
			s := w.leak()
			stop := make(chan struct{})
			done := make(chan struct{})
			go func() { // a client that tries all the time
				defer close(done)
				for sport := uint16(41000); ; sport++ {
					select {
					case <-stop:
						return
					default:
						w.knock(sport)
					}
				}
			}()
			m.do(w)
			time.Sleep(2 * time.Second)
			if m.undo != nil {
				m.undo(w)
			}
			time.Sleep(time.Second)
			close(stop)
			<-done
			w.nothingLeaked(s, m.name)
		})
	}
}

// A flushed ruleset is put back within two seconds, and a good client passes
// again. While it is gone there is no guard: that window is what the test
// bounds.
func TestFlushedRulesetIsRepaired(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "nft")
	testenv.Tool(t, "curl")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveHTTP)
	w.start(w.config(payRule, ""))
	whole, began := w.host(), time.Now()
	w.sh("nft flush ruleset; ip rule del pref 5519; ip route flush table 5519")
	testenv.Eventually(t, "all is put back", func() bool { return w.host() == whole }, func() any { return w.host() })
	if took := time.Since(began); took > testenv.Scaled(8*time.Second) {
		t.Errorf("put back after %v, two seconds are promised", took)
	}
	s := w.leak()
	w.knock(42000)
	w.nothingLeaked(s, "after a flush and its repair")
	out, err := w.client("", "curl", realClients[0].args("1.3", lab.ServerAddr(0, false).String(), "alice")...)
	if err != nil || !strings.Contains(out, "origin says") {
		t.Errorf("a good client after the repair: %v\n%s", err, out)
	}
}

// sh runs a shell line in the gateway's namespace.
func (w *world) sh(line string) {
	w.t.Helper()
	if out, err := w.lab.Command(lab.Gateway, "sh", "-c", line).CombinedOutput(); err != nil {
		w.t.Logf("%s: %v\n%s", line, err, out)
	}
}
