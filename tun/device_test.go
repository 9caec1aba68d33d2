package tun

import (
	"bytes"
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

func openIn(t *testing.T, n *ns, cfg Config) *Device {
	t.Helper()
	var d *Device
	n.do(func() (err error) {
		d, err = Open(cfg)
		return err
	})
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// modes are offloaded and plain.
var modes = []Offload{OffloadAuto, OffloadOff}

func TestOpen(t *testing.T) {
	for _, mode := range modes {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			n := newNS(t, "gateway")
			d := openIn(t, n, Config{Name: "t0", MTU: 1400, Offload: mode, Addresses: []netip.Prefix{
				netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64"),
			}})
			if want := mode == OffloadAuto; d.Offload() != want || (d.OffloadReason() == "") != want {
				t.Errorf("offload %v, reason %q", d.Offload(), d.OffloadReason())
			}
			if d.Name() != "t0" || d.MTU() != 1400 {
				t.Errorf("name %s, MTU %d", d.Name(), d.MTU())
			}
			n.do(func() error {
				link, err := netlink.LinkByName("t0")
				if err != nil {
					return err
				}
				at := link.Attrs()
				if at.Index != d.Index() || at.MTU != 1400 || at.RawFlags&unix.IFF_UP == 0 {
					t.Errorf("index %d (want %d), MTU %d, flags %x", at.Index, d.Index(), at.MTU, at.RawFlags)
				}
				return nil
			})
			addrs := n.run("ip addr show dev t0")
			for _, want := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
				if !strings.Contains(addrs, want) {
					t.Errorf("no address %s:\n%s", want, addrs)
				}
			}
			for _, not := range []string{"fe80", "tentative", "192.0.0.8"} {
				if strings.Contains(addrs, not) {
					t.Errorf("there is a %s:\n%s", not, addrs)
				}
			}
			if v := n.run("cat /proc/sys/net/ipv6/conf/t0/accept_ra /proc/sys/net/ipv4/conf/t0/rp_filter"); v != "0\n2\n" {
				t.Errorf("accept_ra and rp_filter are %q", v)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("closing again: %v", err)
			}
			if err := n.try(func() error { _, err := netlink.LinkByName("t0"); return err }); err == nil {
				t.Error("the device is still there")
			}
		})
	}
}

func TestOpenDefaults(t *testing.T) {
	n := newNS(t, "gateway")
	if d := openIn(t, n, Config{Name: "t0"}); d.MTU() != 1500 {
		t.Errorf("MTU %d", d.MTU())
	}
	if link := n.run("ip link show dev t0"); !strings.Contains(link, "qlen 2000") {
		t.Errorf("the queue:\n%s", link)
	}
	if addrs := n.run("ip addr show dev t0"); !strings.Contains(addrs, "192.0.0.8/32 scope link") {
		t.Errorf("no dummy address:\n%s", addrs)
	}
}

func TestQueueLength(t *testing.T) {
	for queues, want := range map[int]int{1: 2000, 2: 2000, 4: 1000, 8: 500, maxQueues: 500} {
		if got := queueLength(queues); got != want {
			t.Errorf("%d queues: %d packets each, want %d", queues, got, want)
		}
	}
}

// TestReadFromKernel: what the kernel sends arrives with the right length.
func TestReadFromKernel(t *testing.T) {
	for _, mode := range modes {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			n := newNS(t, "gateway")
			d := openIn(t, n, Config{Name: "t0", Offload: mode, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}})
			n.do(func() error {
				c, err := net.Dial("udp4", "192.0.2.2:7")
				if err != nil {
					return err
				}
				defer func() { _ = c.Close() }()
				for i := range 20 {
					if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, 100+i)); err != nil {
						return err
					}
				}
				return nil
			})
			bufs, sizes := buffers(8, 2048)
			for seen := 0; seen < 20; {
				for i := range bufs {
					bufs[i][0][0] = 0xff // left from the packet before
				}
				got, err := d.ReadBatch(bufs, sizes)
				if err != nil {
					t.Fatal(err)
				}
				for i := range got {
					p := parse(bufs[i][1][:sizes[i]-headerLen])
					if p.proto != unix.IPPROTO_UDP {
						continue
					}
					if len(p.body) != 8+100+seen || p.body[8] != byte(seen) {
						t.Fatalf("datagram %d has %d bytes of %d", seen, len(p.body)-8, p.body[8])
					}
					if !d.Offload() && !zero(bufs[i][0]) {
						t.Errorf("header %x without offload", bufs[i][0])
					}
					seen++
				}
			}
			if s := d.Stats(); s.Read < 20 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestReadTruncated: a packet that does not fit is counted and left out.
func TestReadTruncated(t *testing.T) {
	for _, mode := range modes {
		n := newNS(t, "gateway")
		d := openIn(t, n, Config{Name: "t0", Offload: mode, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}})
		n.do(func() error {
			c, err := net.Dial("udp4", "192.0.2.2:7")
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			_, err = c.Write(make([]byte, 1000))
			_, err2 := c.Write(make([]byte, 10))
			return errors.Join(err, err2)
		})
		bufs, sizes := buffers(4, 200)
		for {
			got, err := d.ReadBatch(bufs, sizes)
			if err != nil {
				t.Fatal(err)
			}
			p := parse(bufs[got-1][1][:sizes[got-1]-headerLen])
			if p.proto == unix.IPPROTO_UDP {
				if len(p.body) != 18 {
					t.Errorf("%d bytes", len(p.body))
				}
				break
			}
		}
		if s := d.Stats(); s.Truncated != 1 {
			t.Errorf("%+v", s)
		}
	}
}

// TestWriteToKernel: what is written reaches a socket.
func TestWriteToKernel(t *testing.T) {
	for _, mode := range modes {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			n := newNS(t, "gateway")
			d := openIn(t, n, Config{Name: "t0", Offload: mode, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}})
			var c net.PacketConn
			n.do(func() (err error) {
				c, err = net.ListenPacket("udp4", "192.0.2.1:7")
				return err
			})
			defer func() { _ = c.Close() }()
			bad := []byte{0xff} // no IP version
			var pkts [][][]byte
			for i := range 3 {
				p := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: unix.IPPROTO_UDP, sport: 9, dport: 7, payload: []byte{byte(i)}}.bytes()
				pkts = append(pkts, [][]byte{make([]byte, headerLen), p[:20], p[20:]}, [][]byte{make([]byte, headerLen), bad})
			}
			taken, err := d.WriteBatch(pkts)
			if taken != 3 || err != nil {
				t.Errorf("%d taken, %v", taken, err)
			}
			if s := d.Stats(); s.Written != 3 || s.Refused != 3 {
				t.Errorf("%+v", s)
			}
			buf := make([]byte, 100)
			for i := range 3 {
				_ = c.SetReadDeadline(testenv.Deadline())
				size, from, err := c.ReadFrom(buf)
				if err != nil || size != 1 || buf[0] != byte(i) || from.String() != "192.0.2.9:9" {
					t.Fatalf("%d bytes from %v: %v", size, from, err)
				}
			}
		})
	}
}

func TestWriteDown(t *testing.T) {
	n := newNS(t, "gateway")
	d := openIn(t, n, Config{Name: "t0"})
	pkt := [][][]byte{{make([]byte, headerLen), packet{src: "192.0.2.9", dst: "192.0.2.1", proto: unix.IPPROTO_UDP}.bytes()}}
	n.run("ip link set t0 down")
	if taken, err := d.WriteBatch(pkt); taken != 0 || err != nil {
		t.Errorf("down: %d taken, %v", taken, err)
	}
	n.run("ip link set t0 up")
	if taken, err := d.WriteBatch(pkt); taken != 1 || err != nil {
		t.Errorf("up again: %d taken, %v", taken, err)
	}
	if s := d.Stats(); s.Down != 1 {
		t.Errorf("%+v", s)
	}
}

// TestCloseUnblocks and TestGone: a blocked reader gets the error for a closed or for a
// deleted device.
func TestCloseUnblocks(t *testing.T) {
	for _, mode := range modes {
		n := newNS(t, "gateway")
		d := openIn(t, n, Config{Name: "t0", Offload: mode})
		blocked := readUntilError(d)
		time.Sleep(50 * time.Millisecond)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		waitError(t, blocked, os.ErrClosed)
		if _, err := d.WriteBatch([][][]byte{{make([]byte, headerLen), {0x45}}}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("write: %v", err)
		}
	}
}

func TestGone(t *testing.T) {
	for _, mode := range modes {
		n := newNS(t, "gateway")
		d := openIn(t, n, Config{Name: "t0", Offload: mode})
		blocked := readUntilError(d)
		time.Sleep(50 * time.Millisecond)
		n.run("ip link delete t0")
		waitError(t, blocked, ErrGone)
		pkt := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: unix.IPPROTO_UDP}.bytes()
		if _, err := d.WriteBatch([][][]byte{{make([]byte, headerLen), pkt}}); !errors.Is(err, ErrGone) {
			t.Errorf("write: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func readUntilError(d *Device) <-chan error {
	failed := make(chan error, 1)
	go func() {
		bufs, sizes := buffers(4, 2048)
		for {
			if _, err := d.ReadBatch(bufs, sizes); err != nil {
				failed <- err
				return
			}
		}
	}()
	return failed
}

func waitError(t *testing.T, failed <-chan error, want error) {
	t.Helper()
	select {
	case err := <-failed:
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	case <-time.After(testenv.Patience()):
		t.Fatal("the reader is still blocked")
	}
}
