// Package tun has the TUN device, by which packets leave the kernel and come back, and
// the steering (nftables, rules, routes), which leads captured traffic into the device
// and keeps it from going anywhere else.
package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// headerLen is the length in bytes of struct virtio_net_hdr (linux/virtio_net.h)
// without num_buffers, the header in front of every packet.
const headerLen = 10

// MTU bounds in bytes. 1280 is the smallest MTU of an IPv6 link (RFC 8200, section 5),
// 65535 the greatest length of an IPv4 packet (RFC 791, section 3.1).
const (
	minMTU     = 1280
	maxMTU     = 65535
	defaultMTU = 1500
)

// maxQueues bounds Config.Queues. Each queue has a reader with its own buffers, and more
// queues than processors are of no use.
const maxQueues = 16

// Offload says whether segmentation and checksum offload are asked of the kernel.
type Offload uint8

// The choices.
const (
	OffloadAuto Offload = iota // where the kernel has it
	OffloadOff                 // never: one packet of at most MTU bytes a call
)

// Config of a device.
type Config struct {
	// Name of the device, 1 to 15 bytes. Required.
	Name string
	// MTU in bytes, 1280 to 65535; 0 is 1500. Ignored if Attach.
	MTU int
	// Attach uses an existing device as it is: its MTU, addresses, state and persistence
	// are not changed.
	Attach bool
	// Addresses of the device, none are needed. Must be empty if Attach.
	Addresses []netip.Prefix
	// Offload is OffloadAuto or OffloadOff.
	Offload Offload
	// Queues of the device, 1 to 16; 0 is 1. If the device cannot have more than one, it
	// has one: see Device.Queues and Device.QueuesReason.
	Queues int
}

// Device is a TUN device. ReadQueue may be called by one goroutine at a time for each
// queue, all other methods by any number.
type Device struct {
	queues  []*queue // at least one
	name    string
	index   int
	mtu     int
	attach  bool
	offload bool
	reason  string // why not offload
	single  string // why not as many queues as were asked for
	closed  atomic.Bool
	close   sync.Once
	stats   counters
	writes  sync.Pool // of *writeState
}

// queue is one file descriptor of the device; packets are read from it and written to it.
type queue struct {
	file    *os.File
	raw     syscall.RawConn
	reading readState
}

type counters struct {
	read, written, truncated, refused, down atomic.Uint64
}

// Stats counts packets since Open.
type Stats struct {
	Read      uint64 // returned by ReadBatch and ReadQueue
	Written   uint64 // taken by the kernel
	Truncated uint64 // dropped because they filled their buffers, so may have been cut
	Refused   uint64 // not taken by the kernel, which found them malformed
	Down      uint64 // not taken because the device was down
}

// ErrGone is returned by ReadBatch and WriteBatch once the device has been
// deleted. It ends the Device; only Close may follow.
var ErrGone = errors.New("the TUN device is gone")

// ErrHeader is returned by WriteBatch if a packet asks for segmentation or a checksum
// that the device cannot give; the other packets are written. It is a mistake of the
// caller, who must check Offload.
var ErrHeader = errors.New("a packet needs offload that the TUN device does not have")

// Open creates the device or attaches to it, sets it up and returns it. Its errors name
// the command that helps.
func Open(cfg Config) (*Device, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	d := &Device{name: cfg.Name, attach: cfg.Attach}
	if err := d.open(&cfg); err != nil {
		return nil, err
	}
	if err := d.configure(&cfg); err != nil {
		_ = d.closeQueues(0)
		return nil, err
	}
	return d, nil
}

func (c *Config) check() error {
	if err := checkName(c.Name); err != nil {
		return err
	}
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	if c.MTU < minMTU || c.MTU > maxMTU {
		return fmt.Errorf("MTU %d of %s is not within %d to %d", c.MTU, c.Name, minMTU, maxMTU)
	}
	if c.Queues < 0 || c.Queues > maxQueues {
		return fmt.Errorf("%d queues of %s are not within 1 to %d", c.Queues, c.Name, maxQueues)
	}
	if c.Attach && len(c.Addresses) > 0 {
		return fmt.Errorf("%s is attached to: its addresses are its owner's to set", c.Name)
	}
	for _, a := range c.Addresses {
		if !a.IsValid() || a.Addr().Is4In6() {
			return fmt.Errorf("address %q of %s is not a prefix such as 10.0.0.1/24", a, c.Name)
		}
	}
	return nil
}

// Name of the device.
func (d *Device) Name() string { return d.name }

// Index of the device's interface.
func (d *Device) Index() int { return d.index }

// MTU of the device in bytes, without the virtio-net header.
func (d *Device) MTU() int { return d.mtu }

// Offload says whether the device takes and gives GSO super-packets and
// partial checksums (virtio-net header in use, TUN_F_CSUM, TSO4, TSO6).
func (d *Device) Offload() bool { return d.offload }

// OffloadReason says why there is no offload; empty if there is.
func (d *Device) OffloadReason() string { return d.reason }

// Queues is the number of queues. All of them must be read.
func (d *Device) Queues() int { return len(d.queues) }

// QueuesReason says why there is only one queue although more were asked for, and which
// command helps; empty if all were opened.
func (d *Device) QueuesReason() string { return d.single }

// Stats of the device so far.
func (d *Device) Stats() Stats {
	return Stats{
		Read:      d.stats.read.Load(),
		Written:   d.stats.written.Load(),
		Truncated: d.stats.truncated.Load(),
		Refused:   d.stats.refused.Load(),
		Down:      d.stats.down.Load(),
	}
}

// Close ends the device and unblocks the readers of all queues, which get os.ErrClosed. A
// device that was not attached to disappears. Further calls do nothing.
func (d *Device) Close() error {
	var err error
	d.close.Do(func() {
		if d.attach && d.offload {
			// The offload features of a persistent device stay after us, and its next
			// reader may not expect 64 KiB segments.
			_ = d.setOffload(0)
		}
		d.closed.Store(true)
		err = d.closeQueues(0)
	})
	return err
}

// closeQueues closes the queues from number from on. The others keep their numbers; the
// device disappears with its last queue.
func (d *Device) closeQueues(from int) error {
	var errs []error
	for _, q := range d.queues[from:] {
		errs = append(errs, q.file.Close())
	}
	if from > 0 { // with 0, d.queues keeps the closed queues, so that late callers get os.ErrClosed
		d.queues = d.queues[:from]
	}
	return errors.Join(errs...)
}
