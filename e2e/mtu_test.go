package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// mtuSize is how much one transfer of the sweep is, in bytes: more than the windows
// that a connection begins with.
const mtuSize = 100_000

// mtuData is what is transferred.
func mtuData() []byte {
	b := make([]byte, mtuSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// serveTransfer sends the data to a client that begins with "d". To any other it reports the
// bytes that it got.
func serveTransfer(data []byte) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		which := make([]byte, 1)
		if _, err := io.ReadFull(c, which); err != nil {
			return
		}
		if which[0] == 'd' {
			_, _ = c.Write(data)
			_, _ = io.Copy(io.Discard, c) // until the client has it all
			return
		}
		sum := sha256.New()
		_, _ = io.CopyN(sum, c, mtuSize)
		_, _ = c.Write(sum.Sum(nil))
	}
}

// transfer downloads the data over a new connection, or uploads it.
func transfer(c net.Conn, data []byte, up bool) error {
	defer c.Close()
	_ = c.SetDeadline(testenv.Deadline())
	if !up {
		got := make([]byte, len(data))
		if _, err := c.Write([]byte("d")); err != nil {
			return err
		}
		if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("download: %d bytes, %w", n, errors.Join(err, errOther(err)))
		}
		return nil
	}
	if _, err := c.Write(append([]byte("u"), data...)); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	sum := make([]byte, sha256.Size)
	if _, err := io.ReadFull(c, sum); err != nil || sha256.Sum256(data) != [32]byte(sum) {
		return fmt.Errorf("upload: %w", errors.Join(err, errOther(err)))
	}
	return nil
}

// errOther is the error of a transfer that succeeded with other data than was sent.
func errOther(err error) error {
	if err == nil {
		return errors.New("other bytes")
	}
	return nil
}

// link sets the MTU of both ends of the client's link, or the server's.
func (w *world) link(toClient bool, mtu int) {
	w.t.Helper()
	ends := map[lab.NS]string{lab.Gateway: lab.WANIface, lab.Server: lab.ServerIface}
	if toClient {
		ends = map[lab.NS]string{lab.Gateway: lab.LANIface, lab.Client: lab.ClientIface}
	}
	for ns, name := range ends {
		err := w.lab.Netlink(ns, func(h *netlink.Handle) error {
			l, err := h.LinkByName(name)
			if err != nil {
				return err
			}
			return h.LinkSetMTU(l, mtu)
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// reachAll makes first downloads and first uploads to all destinations at once: by
// bypassed connections, and downloads by TLS that ends in the gateway.
func (w *world) reachAll(data []byte, dsts []netip.Addr, alice tls.Certificate) error {
	var all errgroup.Group
	for _, dst := range dsts {
		for _, port := range []uint16{443, 8443} {
			for _, up := range []bool{false, true} {
				if up && port == 443 {
					continue
				}
				all.Go(func() error {
					ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
					defer cancel()
					at := netip.AddrPortFrom(dst, port)
					c, err := w.lab.Dial(ctx, lab.Client, "tcp", at.String())
					if err != nil {
						return err
					}
					if port == 443 {
						c = tls.Client(c, &tls.Config{RootCAs: w.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{alice}})
					}
					if err := transfer(c, data, up); err != nil {
						return fmt.Errorf("%s: %w", at, err)
					}
					return nil
				})
			}
		}
	}
	return all.Wait()
}

// mtuWorld has the origins of the sweep, at the server and on the gateway's host.
func mtuWorld(t *testing.T, data []byte, more string, opt lab.Options) (*world, tls.Certificate) {
	t.Helper()
	w := newWorld(t, opt)
	for _, six := range []bool{false, true} {
		for _, port := range []uint16{443, 8443} {
			w.origin(netip.AddrPortFrom(lab.ServerAddr(0, six), port).String(), serveTransfer(data))
		}
	}
	for _, a := range here()[:2] {
		for _, port := range []uint16{443, 8443} {
			ln, err := w.lab.Listen(lab.Gateway, "tcp", netip.AddrPortFrom(a, port).String())
			if err != nil {
				t.Fatal(err)
			}
			w.serveOn(ln, serveTransfer(data))
		}
	}
	// What is bypassed to this host itself must be named.
	w.config(payRule+"    - {name: bypass, to: [\"*:8443\", \"10.77.1.1:8443\", \"[fd77:1::1]:8443\"], action: bypass}\n", "")
	w.patient()
	config := w.pem("sslgate.yaml", []byte(strings.Replace(w.read("sslgate.yaml"), "{name: sslgate0}", "{name: sslgate0"+more+"}", 1)))
	w.start(config)
	alice, err := tls.LoadX509KeyPair(w.dir+"/alice.pem", w.dir+"/alice.key")
	if err != nil {
		t.Fatal(err)
	}
	return w, alice
}

// For every MTU of the links, changed under a running gateway, the first download and the
// first upload of a connection are complete: for all pairs of MTUs, both families, with the
// kernel's offloads and without.
func TestEveryMTU(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "ethtool")
	// The least last: below 1280 the kernel takes IPv6 away from an interface.
	mtus := []int{1500, 1420, 1400, 1280, 9000, 576}
	data := mtuData()
	for _, offload := range []bool{true, false} {
		t.Run(fmt.Sprintf("offload=%t", offload), func(t *testing.T) {
			more := ""
			if !offload {
				more = `, offload: "off"`
			}
			w, alice := mtuWorld(t, data, more, lab.Options{GRO: offload})
			if !offload {
				for ns, names := range map[lab.NS][]string{lab.Client: {lab.ClientIface}, lab.Server: {lab.ServerIface}, lab.Gateway: {lab.LANIface, lab.WANIface}} {
					for _, name := range names {
						if out, err := w.lab.Command(ns, "ethtool", "-K", name, "tso", "off", "gso", "off", "gro", "off").CombinedOutput(); err != nil {
							t.Fatalf("%v\n%s", err, out)
						}
					}
				}
			}
			try := func(client, server int) {
				t.Helper()
				w.link(true, client)
				w.link(false, server)
				var dsts []netip.Addr
				for _, six := range []bool{false, true} {
					if six && (client < 1280 || server < 1280) {
						continue
					}
					dsts = append(dsts, lab.ServerAddr(0, six))
					if server == 1500 { // no link is behind the gateway's own host
						dsts = append(dsts, map[bool]netip.Addr{false: here()[0], true: here()[1]}[six])
					}
				}
				if err := w.reachAll(data, dsts, alice); err != nil {
					t.Errorf("client's link %d, server's link %d: %v", client, server, err)
				}
			}
			var small [][2]int // pairs with 576
			for _, client := range mtus {
				for _, server := range mtus {
					if client == 576 || server == 576 {
						small = append(small, [2]int{client, server})
						continue
					}
					try(client, server)
				}
			}
			for _, pair := range small {
				try(pair[0], pair[1])
			}
		})
	}
}

// A live connection goes on when its link becomes narrower: the ICMP messages of the
// gateway's host reach the gateway.
func TestMTUBecomesLess(t *testing.T) {
	t.Parallel()
	data := mtuData()
	for _, more := range []string{"", `, offload: "off"`} {
		t.Run(more, func(t *testing.T) {
			w, alice := mtuWorld(t, data, more, lab.Options{})
			type open struct {
				name string
				net.Conn
			}
			w.link(true, 1500)
			var conns []open
			ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
			defer cancel()
			for _, dst := range []netip.Addr{lab.ServerAddr(0, false), lab.ServerAddr(0, true), here()[0], here()[1]} {
				for _, port := range []uint16{443, 8443} {
					at := netip.AddrPortFrom(dst, port).String()
					c, err := w.lab.Dial(ctx, lab.Client, "tcp", at)
					if err != nil {
						t.Fatal(err)
					}
					if port == 443 {
						tc := tls.Client(c, &tls.Config{RootCAs: w.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{alice}})
						if err := tc.HandshakeContext(ctx); err != nil {
							t.Fatal(err)
						}
						c = tc
					}
					conns = append(conns, open{at, c})
				}
			}
			w.link(true, 1400)
			for i, c := range conns {
				if err := transfer(c.Conn, data, i%4 == 3); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		})
	}
}
