package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Cutter sends what the client has for some addresses as fragments. It stands between the
// client's stack and its link: a TUN device that the addresses are routed into, and a raw
// socket on the link.
type Cutter struct {
	dev  *os.File
	raw  [2]int // sockets, of IPv4 and IPv6
	to   map[netip.Addr]bool
	cut  atomic.Uint64
	done sync.WaitGroup
	err  error // the first fragment that could not be sent; read after done
}

const cutDevice = "cut0"

// cutSize is the data of a fragment in bytes. Over IPv4 the small packets are cut too, a SYN
// within its options (cutSmall). Over IPv6 no fragment may end there (RFC 7112), but a small
// packet gets a fragment header (RFC 6946).
const (
	cutSize  = 512
	cutSmall = 24
)

// Cut cuts what the client sends to these addresses. The caller must Close the Cutter before
// the lab; there may be one at a time.
func (l *Lab) Cut(to ...netip.Addr) (c *Cutter, err error) {
	c = &Cutter{raw: [2]int{-1, -1}, to: map[netip.Addr]bool{}}
	defer func() {
		if err != nil {
			c.closeFiles()
			err = fmt.Errorf("cut the client's packets: %w", err)
		}
	}()
	err = l.Do(Client, func() (err error) {
		for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
			if c.raw[i], err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
				return err
			}
			if err = unix.BindToDevice(c.raw[i], ClientIface); err != nil { // not by the TUN again
				return err
			}
		}
		c.dev, err = openTUN(cutDevice)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = l.Netlink(Client, func(h *netlink.Handle) error {
		link, err := h.LinkByName(cutDevice)
		if err == nil {
			err = h.LinkSetUp(link)
		}
		for _, a := range to {
			c.to[a] = true
			if err == nil {
				err = h.RouteReplace(&netlink.Route{
					LinkIndex: link.Attrs().Index, Src: ClientAddr(a.Is6()).AsSlice(),
					Dst: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
				})
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.done.Go(c.run)
	return c, nil
}

// openTUN makes a plain TUN device: no virtio-net header, so the kernel finishes all checksums
// itself.
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

func (c *Cutter) run() {
	buf := make([]byte, 65536)
	for id := uint32(1); ; id++ {
		n, err := c.dev.Read(buf)
		if err != nil {
			return
		}
		dst := destinationOf(buf[:n])
		if !c.to[dst] {
			continue // neighbour discovery and the like
		}
		size := cutSize
		if dst.Is4() && n <= 200 {
			size = cutSmall
		}
		all := fragmentsOf(buf[:n], id, size)
		if len(all) > 1 {
			c.cut.Add(1)
		}
		for _, f := range all {
			if dst.Is4() {
				err = unix.Sendto(c.raw[0], f, 0, &unix.SockaddrInet4{Addr: dst.As4()})
			} else {
				err = unix.Sendto(c.raw[1], f, 0, &unix.SockaddrInet6{Addr: dst.As16()})
			}
			if err != nil && c.err == nil {
				c.err = fmt.Errorf("send a fragment to %s: %w", dst, err)
			}
		}
	}
}

// Count is how many packets left in more than one fragment.
func (c *Cutter) Count() uint64 { return c.cut.Load() }

// Close ends it; the addresses then have the link's route again. The error is that of the first
// fragment that could not be sent.
func (c *Cutter) Close() error {
	_ = c.dev.Close() // the routes go with the device
	c.done.Wait()
	c.closeFiles()
	return c.err
}

func (c *Cutter) closeFiles() {
	if c.dev != nil {
		_ = c.dev.Close()
	}
	for i, fd := range c.raw {
		if fd >= 0 {
			_ = unix.Close(fd)
			c.raw[i] = -1
		}
	}
}

// destinationOf is the destination of an IP packet.
func destinationOf(ip []byte) netip.Addr {
	switch {
	case len(ip) >= 40 && ip[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(ip[24:40]))
	case len(ip) >= 20 && ip[0] == 0x45:
		return netip.AddrFrom4([4]byte(ip[16:20]))
	}
	return netip.Addr{}
}

// fragmentsOf cuts an IP packet into fragments of size bytes of data each, a multiple of 8 (RFC
// 791, section 3.2; RFC 8200, section 4.5). The raw socket fills in the IPv4 header checksum.
func fragmentsOf(ip []byte, id uint32, size int) (all [][]byte) {
	head := 20
	if ip[0]>>4 == 6 {
		head = 40
	}
	data := ip[head:]
	for from := 0; from < len(data); from += size {
		to := min(from+size, len(data))
		at := uint16(from)
		f := append(make([]byte, 0, head+8+to-from), ip[:head]...)
		if head == 20 {
			at /= 8
			if to < len(data) {
				at |= 0x2000 // more fragments
			}
			binary.BigEndian.PutUint16(f[2:], uint16(head+to-from))
			binary.BigEndian.PutUint16(f[4:], uint16(id))
			binary.BigEndian.PutUint16(f[6:], at)
		} else {
			if to < len(data) {
				at |= 1
			}
			next := f[6]
			f[6] = unix.IPPROTO_FRAGMENT
			binary.BigEndian.PutUint16(f[4:], uint16(8+to-from))
			f = append(f, next, 0)
			f = binary.BigEndian.AppendUint16(f, at)
			f = binary.BigEndian.AppendUint32(f, id)
		}
		all = append(all, append(f, data[from:to]...))
	}
	return all
}
