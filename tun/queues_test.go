package tun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// heard is a datagram of the kernel, and the queue it came by.
type heard struct {
	queue int
	sport uint16
}

// hear reads all queues until the device is closed.
func hear(d *Device) <-chan heard {
	all := make(chan heard, 1024)
	for q := range d.Queues() {
		go func() {
			bufs, sizes := buffers(8, 2048)
			for {
				n, err := d.ReadQueue(q, bufs, sizes)
				for i := range n {
					if p := parse(bufs[i][1][:sizes[i]-headerLen]); p.proto == unix.IPPROTO_UDP && p.sport >= 1000 {
						all <- heard{q, p.sport}
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
	return all
}

// TestQueues: the kernel delivers packets of a flow by the queue that the flow was last
// written to.
func TestQueues(t *testing.T) {
	const flows = 16
	for _, mode := range modes {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			n := newNS(t, "gateway")
			d := openIn(t, n, Config{Name: "t0", Queues: 3, Offload: mode, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}})
			if d.Queues() != 3 || d.QueuesReason() != "" || d.Offload() != (mode == OffloadAuto) {
				t.Fatalf("%d queues, %q; offload %v, %q", d.Queues(), d.QueuesReason(), d.Offload(), d.OffloadReason())
			}
			for i, q := range d.queues {
				flags, err := q.flags(d.name)
				if err != nil || flags&unix.IFF_MULTI_QUEUE == 0 || (flags&unix.IFF_VNET_HDR != 0) != d.Offload() {
					t.Errorf("flags of queue %d: %#x, %v", i, flags, err)
				}
			}
			said := hear(d)
			conns := map[uint16]net.Conn{}
			for i := range uint16(flows) {
				n.do(func() (err error) {
					conns[1000+i], err = net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1000 + int(i)}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 7})
					return err
				})
				defer func() { _ = conns[1000+i].Close() }()
			}
			for turn := range 3 {
				for sport, c := range conns {
					want := (int(sport) + turn) % 3
					pkt := packet{src: "192.0.2.2", dst: "192.0.2.1", proto: unix.IPPROTO_UDP, sport: 7, dport: sport}.bytes()
					if taken, err := d.WriteQueue(want, [][][]byte{{make([]byte, headerLen), pkt}}); taken != 1 || err != nil {
						t.Fatalf("%d taken, %v", taken, err)
					}
					for range 3 {
						if _, err := c.Write([]byte{1}); err != nil {
							t.Fatal(err)
						}
						select {
						case h := <-said:
							if h.sport != sport || h.queue != want {
								t.Errorf("flow %d came by queue %d, was written to %d", h.sport, h.queue, want)
							}
						case <-time.After(testenv.Patience()):
							t.Fatal("nothing came")
						}
					}
				}
			}
			if s := d.Stats(); s.Read < 9*flows || s.Written != 3*flows {
				t.Errorf("%+v", s)
			}
		})
	}
}

// readAllUntilError is a reader of each queue.
func readAllUntilError(d *Device) <-chan error {
	failed := make(chan error, d.Queues())
	for q := range d.Queues() {
		go func() {
			bufs, sizes := buffers(4, 2048)
			for {
				if _, err := d.ReadQueue(q, bufs, sizes); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return failed
}

// TestQueuesEnd: Close unblocks every reader, and every reader learns that the device has
// gone.
func TestQueuesEnd(t *testing.T) {
	for _, mode := range modes {
		for _, want := range []error{os.ErrClosed, ErrGone} {
			n := newNS(t, "gateway")
			d := openIn(t, n, Config{Name: "t0", Queues: 4, Offload: mode})
			failed := readAllUntilError(d)
			time.Sleep(50 * time.Millisecond)
			if errors.Is(want, ErrGone) {
				n.run("ip link delete t0")
			} else if err := d.Close(); err != nil {
				t.Error(err)
			}
			for range d.Queues() {
				waitError(t, failed, want)
			}
			pkt := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: unix.IPPROTO_UDP}.bytes()
			for q := range d.Queues() {
				if _, err := d.WriteQueue(q, [][][]byte{{make([]byte, headerLen), pkt}}); !errors.Is(err, want) {
					t.Errorf("write to queue %d: %v, want %v", q, err, want)
				}
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if err := n.try(func() error { _, err := netlink.LinkByName("t0"); return err }); err == nil {
				t.Error("the device is still there")
			}
		}
	}
}

// TestQueuesOfOne: if there cannot be several queues there is one, and a reason.
func TestQueuesOfOne(t *testing.T) {
	for _, c := range []struct {
		name, add string
		hold      int // queues that another one has open
		mode      Offload
		queues    int
		reason    string
	}{
		{"one queue", "ip tuntap add dev t0 mode tun", 0, OffloadAuto, 1, "ip tuntap add dev t0 mode tun multi_queue"},
		{"one queue, plain", "ip tuntap add dev t0 mode tun", 0, OffloadOff, 1, "ip tuntap add dev t0 mode tun multi_queue"},
		{"many queues", "ip tuntap add dev t0 mode tun multi_queue", 0, OffloadAuto, 3, ""},
		{"many queues, plain", "ip tuntap add dev t0 mode tun multi_queue", 0, OffloadOff, 3, ""},
		// The kernel has 256 at most (MAX_TAP_QUEUES): the third is one too many.
		{"all taken", "ip tuntap add dev t0 mode tun multi_queue", 254, OffloadOff, 1, `queue 3 of 3: ioctl: argument list too long: the device has as many queues as the kernel allows (held by "tun.test"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNS(t, "gateway")
			n.run(c.add)
			for range c.hold {
				holdQueue(t, n, "t0")
			}
			d := openIn(t, n, Config{Name: "t0", Attach: true, Offload: c.mode, Queues: 3})
			if d.Queues() != c.queues || (d.QueuesReason() == "") != (c.reason == "") || !strings.Contains(d.QueuesReason(), c.reason) {
				t.Errorf("%d queues, reason %q", d.Queues(), d.QueuesReason())
			}
			many := strings.Contains(c.add, "multi_queue") // of others the kernel does not say
			if got := queuesOf(t, n, "t0"); many && got != c.hold+c.queues {
				t.Errorf("the kernel has %d queues, want %d", got, c.hold+c.queues)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if got := queuesOf(t, n, "t0"); got != c.hold {
				t.Errorf("the kernel has %d queues, want %d", got, c.hold)
			}
		})
	}
}

// holdQueue opens a queue that nobody reads.
func holdQueue(t *testing.T, n *ns, name string) {
	t.Helper()
	n.do(func() error {
		fd, err := unix.Open(tunNode, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	})
}

func queuesOf(t *testing.T, n *ns, name string) (queues int) {
	t.Helper()
	n.do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		queues = link.(*netlink.Tuntap).Queues
		return nil
	})
	return queues
}

// TestQueuesOfTemporary: several queues do not make a device persistent that
// goes with its owner.
func TestQueuesOfTemporary(t *testing.T) {
	n := newNS(t, "gateway")
	owner := openIn(t, n, Config{Name: "t0", Queues: 2})
	user := openIn(t, n, Config{Name: "t0", Attach: true, Queues: 2})
	if got := queuesOf(t, n, "t0"); got != 4 || !user.Offload() {
		t.Errorf("%d queues, offload %v: %s", got, user.Offload(), user.OffloadReason())
	}
	_ = owner.Close()
	_ = user.Close()
	if err := n.try(func() error { _, err := netlink.LinkByName("t0"); return err }); err == nil {
		t.Error("the device has become persistent")
	}
}

func TestQueuesBounds(t *testing.T) {
	for _, queues := range []int{-1, maxQueues + 1} {
		if _, err := Open(Config{Name: "t0", Queues: queues}); err == nil || !strings.Contains(err.Error(), "1 to 16") {
			t.Errorf("%d queues: %v", queues, err)
		}
	}
	if got := queueHint("t0", unix.EMFILE); !strings.Contains(got, "LimitNOFILE") {
		t.Error(got)
	}
}
