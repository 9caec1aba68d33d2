// Package stacktest has a client for tests: a TCP/IP stack of its own at the other end of
// an in-memory device, so that whole flows run without a TUN, root or a kernel. No gVisor
// type leaves it.
package stacktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Device is the client's end of the device: see stack.Device.
type Device interface {
	ReadBatch(bufs [][][]byte, sizes []int) (int, error)
	WriteBatch(pkts [][][]byte) (int, error)
	MTU() int
	Offload() bool
	Close() error
}

// Client is a host with one IPv4 and one IPv6 address. It reaches every destination
// through its device.
type Client struct {
	ns           *gstack.Stack
	link         *link
	addr4, addr6 netip.Addr

	mu    sync.Mutex // guards addrs
	addrs map[netip.Addr]struct{}
}

const nicID tcpip.NICID = 1

// NewClient starts a client; Close ends it. It closes the device.
func NewClient(dev Device, addr4, addr6 netip.Addr) (*Client, error) {
	if !addr4.Is4() || !addr6.Is6() {
		return nil, fmt.Errorf("want an IPv4 and an IPv6 address, got %v and %v", addr4, addr6)
	}
	c := &Client{
		ns: gstack.New(gstack.Options{
			NetworkProtocols:   []gstack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []gstack.TransportProtocolFactory{tcp.NewProtocol},
		}),
		link:  newLink(dev),
		addr4: addr4,
		addr6: addr6,
		addrs: make(map[netip.Addr]struct{}),
	}
	recovery, timeWait := tcpip.TCPRecovery(0), tcpip.TCPTimeWaitTimeoutOption(1)
	for _, o := range []tcpip.SettableTransportProtocolOption{&recovery, &timeWait} {
		if terr := c.ns.SetTransportProtocolOption(tcp.ProtocolNumber, o); terr != nil {
			c.ns.Destroy()
			return nil, fmt.Errorf("set %T: %s", o, terr)
		}
	}
	if terr := c.ns.CreateNIC(nicID, c.link); terr != nil {
		c.ns.Destroy()
		return nil, fmt.Errorf("make the interface: %s", terr)
	}
	c.ns.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	if err := errors.Join(c.addAddr(addr4), c.addAddr(addr6)); err != nil {
		c.ns.Destroy()
		return nil, err
	}
	c.link.wg.Go(c.link.run)
	return c, nil
}

// Conn is a connection of the client. Its errors satisfy errors.Is for
// syscall.ECONNRESET and syscall.ECONNREFUSED.
type Conn struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

// Read reads what has arrived.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return n, withErrno(err)
}

// Write sends b.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, withErrno(err)
}

// Reset ends the connection with RST.
func (c *Conn) Reset() {
	c.ep.Abort()
	c.ep.Close()
}

// SetReceiveBuffer bounds the bytes that are received without being read.
func (c *Conn) SetReceiveBuffer(n int) { c.ep.SocketOptions().SetReceiveBufferSize(int64(n), true) }

// Dial connects to dst from the client's address.
func (c *Client) Dial(ctx context.Context, dst netip.AddrPort) (*Conn, error) {
	src := c.addr4
	if dst.Addr().Is6() {
		src = c.addr6
	}
	return c.DialFrom(ctx, netip.AddrPortFrom(src, 0), dst)
}

// DialFrom connects from src, which becomes another address of the client.
// Port 0 is any.
func (c *Client) DialFrom(ctx context.Context, src, dst netip.AddrPort) (*Conn, error) {
	if err := c.addAddr(src.Addr()); err != nil {
		return nil, err
	}
	proto := header.IPv4ProtocolNumber
	if dst.Addr().Is6() {
		proto = header.IPv6ProtocolNumber
	}
	wq := new(waiter.Queue)
	ep, terr := c.ns.NewEndpoint(tcp.ProtocolNumber, proto, wq)
	if terr != nil {
		return nil, fmt.Errorf("dial %v: %s", dst, terr)
	}
	entry, connected := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	if terr = ep.Bind(full(src)); terr == nil {
		terr = ep.Connect(full(dst))
	}
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-connected:
			terr = ep.LastError()
		case <-ctx.Done():
			ep.Close()
			return nil, fmt.Errorf("dial %v: %w", dst, ctx.Err())
		}
	}
	if terr != nil {
		ep.Close()
		return nil, withErrno(fmt.Errorf("dial %v: %s", dst, terr))
	}
	return &Conn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep}, nil
}

// BadPackets is the number of packets received that a kernel would not take.
func (c *Client) BadPackets() uint64 {
	return c.link.bad.Load() + c.ns.Stats().TCP.ChecksumErrors.Value() +
		c.ns.Stats().IP.MalformedPacketsReceived.Value() + c.ns.Stats().TCP.InvalidSegmentsReceived.Value()
}

// Close resets the connections and waits for everything to end.
func (c *Client) Close() {
	c.ns.Close()
	_ = c.link.dev.Close()
	c.link.wg.Wait()
	c.ns.Wait()
}

func (c *Client) addAddr(a netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.addrs[a]; ok {
		return nil
	}
	proto := header.IPv4ProtocolNumber
	if a.Is6() {
		proto = header.IPv6ProtocolNumber
	}
	terr := c.ns.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol:          proto,
		AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix(),
	}, gstack.AddressProperties{})
	if terr != nil {
		return fmt.Errorf("add address %v: %s", a, terr)
	}
	c.addrs[a] = struct{}{}
	return nil
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

// withErrno adds the errno to netstack's errors, which are only text here.
func withErrno(err error) error {
	if err == nil {
		return nil
	}
	for _, e := range []struct {
		terr  tcpip.Error
		errno syscall.Errno
	}{
		{&tcpip.ErrConnectionReset{}, syscall.ECONNRESET},
		{&tcpip.ErrConnectionRefused{}, syscall.ECONNREFUSED},
	} {
		if strings.HasSuffix(err.Error(), e.terr.String()) {
			return fmt.Errorf("%w (%w)", err, e.errno)
		}
	}
	return err
}

var _ net.Conn = (*Conn)(nil)
