package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack/stacktest"
)

// A client behind a path that cuts its packets into fragments, its SYN too, is served like
// any other: the gateway's kernel forwards the fragments as fragments.
func TestFragmentedClientIsServed(t *testing.T) {
	t.Parallel()
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprintf("six=%v", six), func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			w.origin(server(six), serveEcho)
			w.start(w.config(payRule, ""))
			cut := w.cutClient(six)
			wire, err := w.lab.Sniff(lab.Gateway, "sslgate0", func(p lab.Packet) bool { return p.Fragment })
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = wire.Close() })

			ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
			defer cancel()
			raw, err := w.lab.Dial(ctx, lab.Client, "tcp", server(six))
			if err != nil {
				t.Fatalf("connect: %v", err)
			}
			defer func() { _ = raw.Close() }()
			_ = raw.SetDeadline(testenv.Deadline())
			cert, err := tls.LoadX509KeyPair(filepath.Join(w.dir, "alice.pem"), filepath.Join(w.dir, "alice.key"))
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(w.ca.PEM())
			c := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "pay.example", Certificates: []tls.Certificate{cert}})
			if err := c.Handshake(); err != nil {
				t.Fatalf("handshake: %v", err)
			}
			sent := make([]byte, 100_000)
			for i := range sent {
				sent[i] = byte(i >> 3)
			}
			written := make(chan error, 1)
			go func() {
				_, err := c.Write(sent)
				written <- errors.Join(err, c.CloseWrite())
			}()
			got, err := io.ReadAll(c)
			if err := errors.Join(err, <-written); err != nil || string(got) != string(sent) {
				t.Errorf("echo of %d bytes: got %d, %v", len(sent), len(got), err)
			}
			if r := w.last(1); r.str("reason") != "verified" {
				t.Errorf("record %v", r)
			}
			// Check the test itself: fragments left the client and came to the gateway as
			// fragments.
			if cut.Load() < 50 || wire.Count() < 100 {
				t.Errorf("%d packets of the client were cut, %d fragments seen at the TUN", cut.Load(), wire.Count())
			}
		})
	}
}

// cutClient puts a TUN device in front of the client's link to the server, of
// which every packet leaves as fragments. It returns how many were cut.
func (w *world) cutClient(six bool) *atomic.Uint64 {
	w.t.Helper()
	const name = "cut0"
	var dev *os.File
	err := w.lab.Do(lab.Client, func() (err error) {
		dev, err = openTUN(name)
		return err
	})
	if err != nil {
		w.t.Fatalf("make the client's TUN: %v", err)
	}
	err = w.lab.Netlink(lab.Client, func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
		addr := lab.ServerAddr(0, six)
		return h.RouteReplace(&netlink.Route{
			LinkIndex: link.Attrs().Index,
			Dst:       &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())},
			Src:       lab.ClientAddr(six).AsSlice(),
		})
	})
	if err != nil {
		_ = dev.Close()
		w.t.Fatalf("route through the client's TUN: %v", err)
	}
	out, err := w.rawSocket(six)
	if err != nil {
		_ = dev.Close()
		w.t.Fatal(err)
	}
	cut := new(atomic.Uint64)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65536)
		for id := uint32(1); ; id++ {
			n, err := dev.Read(buf)
			if err != nil {
				return
			}
			if int(buf[0]>>4) != map[bool]int{false: 4, true: 6}[six] || lab.ServerAddr(0, six) != destination(buf[:n]) {
				continue // neighbour discovery and the like
			}
			// A SYN is cut within its options over IPv4. Over IPv6 no fragment
			// may end there (RFC 7112), but it gets a fragment header, as all
			// small packets do (RFC 6946).
			size := 512
			if !six && n <= 200 {
				size = 24
			}
			frags := stacktest.Fragments(buf[:n], id, size)
			if len(frags) > 1 {
				cut.Add(1)
			}
			for _, f := range frags {
				if err := out(f); err != nil {
					w.t.Errorf("send a fragment: %v", err)
				}
			}
		}
	})
	w.t.Cleanup(func() { _ = dev.Close(); wg.Wait(); _ = out(nil) })
	return cut
}

func destination(ip []byte) netip.Addr {
	if ip[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(ip[24:40]))
	}
	return netip.AddrFrom4([4]byte(ip[16:20]))
}

// rawSocket sends IP packets by the client's link; nil closes it.
func (w *world) rawSocket(six bool) (send func(ip []byte) error, err error) {
	family := unix.AF_INET
	if six {
		family = unix.AF_INET6
	}
	var fd int
	err = w.lab.Do(lab.Client, func() (err error) {
		if fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return err
		}
		return unix.BindToDevice(fd, lab.ClientIface) // not by the TUN again
	})
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	return func(ip []byte) error {
		if ip == nil {
			return unix.Close(fd)
		}
		dst := destination(ip)
		if six {
			return unix.Sendto(fd, ip, 0, &unix.SockaddrInet6{Addr: dst.As16()})
		}
		return unix.Sendto(fd, ip, 0, &unix.SockaddrInet4{Addr: dst.As4()})
	}, nil
}

// openTUN makes a plain TUN device: no virtio-net header, so the kernel
// finishes all checksums itself.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}
