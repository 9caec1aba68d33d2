package tun

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openFurther opens the queues after the first, as many as were asked for. If one of them
// fails, all but the first are closed and the reason is kept. The kernel fills every open
// queue, so no queue may be left open that nobody reads.
func (d *Device) openFurther(cfg *Config, existing *netlink.Tuntap, multi bool) {
	switch {
	case cfg.Queues <= 1:
		return
	case !multi && existing != nil:
		d.single = fmt.Sprintf("%s has one queue only; its owner can make it with: ip tuntap add dev %s mode tun multi_queue", cfg.Name, cfg.Name)
		return
	case !multi:
		d.single = "the kernel makes no device of several queues; leave it at: tun: {queues: 1}"
		return
	}
	for len(d.queues) < cfg.Queues {
		if err := d.openAlike(cfg, existing); err != nil {
			d.single = fmt.Sprintf("queue %d of %d: %s", len(d.queues)+1, cfg.Queues, queueHint(cfg.Name, err))
			_ = d.closeQueues(1)
			return
		}
	}
}

// openAlike opens one more queue and checks that it is like the first: the virtio-net
// header belongs to the device, not to the queue, and water does not ask for it.
func (d *Device) openAlike(cfg *Config, existing *netlink.Tuntap) error {
	first, err := d.queues[0].flags(d.name)
	if err != nil {
		return err
	}
	if err := d.openWater(cfg, existing, true); err != nil {
		return err
	}
	last := len(d.queues) - 1
	got, err := d.queues[last].flags(d.name)
	const alike = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE | unix.IFF_VNET_HDR | unix.IFF_DETACH_QUEUE
	if err == nil && (got&alike != first&alike || got&unix.IFF_MULTI_QUEUE == 0) {
		err = fmt.Errorf("the kernel made it another than the first: flags %#x and %#x", got, first)
	}
	if err != nil {
		_ = d.closeQueues(last)
	}
	return err
}

// queueHint adds the command that helps to an error of opening a further queue.
func queueHint(name string, err error) string {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return err.Error() + ": raise LimitNOFILE of the unit, or `ulimit -n`"
	case errors.Is(err, unix.E2BIG):
		return err.Error() + ": the device has as many queues as the kernel allows" + holder(name)
	}
	return err.Error()
}
