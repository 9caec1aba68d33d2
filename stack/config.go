package stack

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Config describes a Stack. The zero value of a field that has a default
// means that default.
type Config struct {
	// Device the packets come from. Required. Run closes it when it ends.
	Device Device
	// Handler takes the flows. Required.
	Handler Handler
	// Ports are the TCP destination ports whose flows are taken, at most
	// maxPorts of them, each by a listener with SYN cookies. A SYN for another
	// port is answered RST. Required unless AllPorts.
	Ports []uint16
	// AllPorts takes flows to every TCP port. It has no SYN cookies: once MaxHalfOpen
	// handshakes are under way, the next SYN ends the oldest handshake of the client
	// (IPv4 address, IPv6 /64) that has the most.
	AllPorts bool

	// MaxFlows is how many flows are held at the same time. Default 20000.
	// A SYN beyond it is answered RST. As many closed flows again may still
	// be sending their last bytes (see LingerTimeout).
	MaxFlows int
	// MaxFlowsPerClient is how many of them one IPv4 address or one IPv6 /64
	// may hold. Default 512.
	MaxFlowsPerClient int
	// MaxHalfOpen is the number of handshakes kept without cookies: for every
	// port, or in all with AllPorts. Default 1024, about 7 KiB each.
	MaxHalfOpen int

	// HandshakeTimeout is how long a client may take to answer the SYN-ACK.
	// Default 5s. With listeners it may be a second longer.
	HandshakeTimeout time.Duration
	// UserTimeout is how long sent data may stay unacknowledged until the flow
	// ends with ETIMEDOUT (RFC 5482). Default 2m.
	UserTimeout time.Duration
	// KeepaliveIdle is how long a flow is silent before the client is probed
	// (RFC 1122, section 4.2.3.6). Default 60s.
	KeepaliveIdle time.Duration
	// KeepaliveInterval lies between two probes; after four without an answer
	// the flow ends with ETIMEDOUT. Default 15s.
	KeepaliveInterval time.Duration
	// LingerTimeout is how long a closed flow may take to deliver its last
	// bytes and its FIN before it is reset. Default 30s.
	LingerTimeout time.Duration
	// TimeWait is how long we remember the addresses and ports of a flow that we closed
	// first. Default 5s: with the 60 s of other stacks, remembered flows would
	// outnumber the live ones.
	TimeWait time.Duration

	// BufferSize is the receive and the send buffer a flow starts with, in
	// bytes. Default 1 MiB. Only waiting data takes memory.
	BufferSize int
	// ReceiveMax and SendMax are the sizes in bytes that the buffers may grow to, as
	// the path of the flow needs (RFC 7323, section 2.1). A client sees a window of at
	// most half of ReceiveMax. Default 4 MiB.
	ReceiveMax, SendMax int

	// Paced takes the sender of package sender in place of netstack's: loss on a long path
	// costs little then. Default netstack's.
	Paced bool

	// Flooded is asked about every segment with data. True means that memory is short:
	// the segment is dropped, and the client sends it again. It must not block. Default
	// never.
	Flooded func() bool

	// Log gets the messages about the stack itself that a person should see. Default
	// none.
	Log *zap.Logger
}

const (
	// maxPorts bounds Config.Ports, because a listener costs a goroutine and up to
	// MaxHalfOpen handshakes. AllPorts is for more ports.
	maxPorts = 1024
	// minMTU is the smallest MTU an IPv6 link may have (RFC 8200, section 5).
	minMTU = 1280
	maxMTU = 65535
	// keepaliveProbes without an answer end the flow.
	keepaliveProbes = 4
	// minBuffer is the smallest socket buffer in bytes: one segment of a
	// 1500-byte link and its bookkeeping.
	minBuffer = 4 << 10
	// maxBuffer is the largest socket buffer in bytes: netstack counts a window in 32
	// bits and may take twice what it advertises.
	maxBuffer = 256 << 20
)

// withDefaults returns the configuration with its defaults filled in, or what
// is wrong with it.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.Device == nil {
		bad("no device")
	} else if mtu := c.Device.MTU(); mtu < minMTU || mtu > maxMTU {
		bad("MTU of the device is %d bytes, must be %d to %d", mtu, minMTU, maxMTU)
	}
	if c.Handler == nil {
		bad("no handler")
	}
	c.Ports = slices.Compact(slices.Sorted(slices.Values(c.Ports)))
	switch {
	case c.AllPorts && len(c.Ports) > 0:
		bad("both a list of ports and all ports")
	case !c.AllPorts && len(c.Ports) == 0:
		bad("no ports")
	case len(c.Ports) > maxPorts:
		bad("%d ports, at most %d: take all ports instead", len(c.Ports), maxPorts)
	case slices.Contains(c.Ports, 0):
		bad("port 0 is not a port")
	}

	for _, f := range []struct {
		name string
		v    *int
		def  int
	}{
		{"MaxFlows", &c.MaxFlows, 20000},
		{"MaxFlowsPerClient", &c.MaxFlowsPerClient, 512},
		{"MaxHalfOpen", &c.MaxHalfOpen, 1024},
		{"BufferSize", &c.BufferSize, 1 << 20},
		{"ReceiveMax", &c.ReceiveMax, 4 << 20},
		{"SendMax", &c.SendMax, 4 << 20},
	} {
		if *f.v < 0 {
			bad("%s is negative", f.name)
		} else if *f.v == 0 {
			*f.v = f.def
		}
	}
	if c.BufferSize < minBuffer {
		bad("BufferSize is less than %d bytes", minBuffer)
	}
	if min(c.ReceiveMax, c.SendMax) < c.BufferSize {
		bad("ReceiveMax or SendMax is less than BufferSize")
	}
	if max(c.ReceiveMax, c.SendMax) > maxBuffer {
		bad("ReceiveMax or SendMax is more than %d bytes", maxBuffer)
	}
	for _, f := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"HandshakeTimeout", &c.HandshakeTimeout, 5 * time.Second},
		{"UserTimeout", &c.UserTimeout, 2 * time.Minute},
		{"KeepaliveIdle", &c.KeepaliveIdle, time.Minute},
		{"KeepaliveInterval", &c.KeepaliveInterval, 15 * time.Second},
		{"LingerTimeout", &c.LingerTimeout, 30 * time.Second},
		{"TimeWait", &c.TimeWait, 5 * time.Second},
	} {
		if *f.v < 0 {
			bad("%s is negative", f.name)
		} else if *f.v == 0 {
			*f.v = f.def
		}
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c, errors.Join(errs...)
}
