package tun

import (
	"errors"
	"fmt"
	"os"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const tunNode = "/dev/net/tun"

// open gets water's descriptor of the device, in one of these ways:
//
//  1. With offload: first it opens a control queue of its own, with IFF_VNET_HDR. The
//     kernel takes a device's flags from its first queue, so water's queue, the second,
//     has the virtio-net header too although water does not know of it. Then it closes
//     the control queue.
//  2. Plainly, by water alone: no header, packets of at most MTU bytes.
//
// If the first way fails, open takes the second and keeps the error as the reason why
// there is no offload. Further queues follow (queues.go).
func (d *Device) open(cfg *Config) error {
	existing, err := d.find(cfg)
	if err != nil {
		return err
	}
	multi := existing == nil || existing.Flags&netlink.TUNTAP_MULTI_QUEUE != 0
	if multi, err = d.openFirst(cfg, existing, multi); err != nil {
		return err
	}
	d.openFurther(cfg, existing, multi)
	return nil
}

// openFirst opens the first queue. It says whether the device can have more.
func (d *Device) openFirst(cfg *Config, existing *netlink.Tuntap, multi bool) (bool, error) {
	switch {
	case cfg.Offload == OffloadOff:
		d.reason = "it is switched off"
	case existing != nil && !multi:
		d.reason = fmt.Sprintf("%s has one queue only; its owner can make it with: ip tuntap add dev %s mode tun multi_queue", cfg.Name, cfg.Name)
	case existing != nil && existing.Queues > 0 && existing.Flags&netlink.TUNTAP_VNET_HDR == 0:
		d.reason = fmt.Sprintf("%s is in use without virtio-net header%s", cfg.Name, holder(cfg.Name))
	default:
		err := d.openOffloaded(cfg, existing)
		if err == nil {
			return true, nil
		}
		d.reason = err.Error()
	}
	if existing == nil {
		multi = cfg.Queues > 1
	}
	return d.openPlain(cfg, existing, multi)
}

// find returns the device to attach to, nil if one is to be made.
func (d *Device) find(cfg *Config) (*netlink.Tuntap, error) {
	link, err := netlink.LinkByName(cfg.Name)
	var notFound netlink.LinkNotFoundError
	switch {
	case errors.As(err, &notFound) && !cfg.Attach:
		return nil, nil
	case errors.As(err, &notFound):
		return nil, fmt.Errorf("there is no device %s to attach to: make it with `ip tuntap add dev %s mode tun multi_queue`", cfg.Name, cfg.Name)
	case err != nil:
		return nil, fmt.Errorf("look for device %s: %w", cfg.Name, err)
	}
	t, ok := link.(*netlink.Tuntap)
	switch {
	case !ok || t.Mode != netlink.TUNTAP_MODE_TUN:
		return nil, fmt.Errorf("%s is a device of another kind (%s), not a TUN: choose another tun.name", cfg.Name, link.Type())
	case !cfg.Attach:
		return nil, fmt.Errorf("device %s exists already%s: stop its owner, remove it with `ip link delete %s`, or use it as it is with tun.attach: true", cfg.Name, holder(cfg.Name), cfg.Name)
	}
	return t, nil
}

func (d *Device) openOffloaded(cfg *Config, existing *netlink.Tuntap) (err error) {
	control, err := unix.Open(tunNode, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(control) }()
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE | unix.IFF_VNET_HDR)
	if existing == nil {
		flags |= unix.IFF_TUN_EXCL // fail if somebody else has made the device
	}
	ifr, err := unix.NewIfreq(cfg.Name)
	if err != nil {
		return err
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(control, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("virtio-net header: %w", err)
	}
	if err := d.openWater(cfg, existing, true); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = d.closeQueues(0)
			d.queues = nil
		}
	}()
	got, err := d.queues[0].flags(d.name)
	if err != nil {
		return err
	}
	if got&unix.IFF_VNET_HDR == 0 {
		return errors.New("the kernel did not give the queue a virtio-net header")
	}
	if err := d.setOffload(unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6); err != nil {
		return fmt.Errorf("checksum and segmentation offload: %w", err)
	}
	d.offload = true
	return nil
}

func (d *Device) openPlain(cfg *Config, existing *netlink.Tuntap, multi bool) (bool, error) {
	err := d.openWater(cfg, existing, multi)
	if errors.Is(err, unix.EINVAL) && (existing != nil || multi) { // device replaced meanwhile, or no multi-queue in the kernel
		multi = !multi
		err = d.openWater(cfg, existing, multi)
	}
	if err != nil {
		return false, hint(cfg.Name, err)
	}
	got, err := d.queues[0].flags(d.name)
	if err == nil && got&unix.IFF_VNET_HDR != 0 {
		// Another queue is open with the header, so ours has it too.
		err = fmt.Errorf("%s is in use with a virtio-net header%s", cfg.Name, holder(cfg.Name))
	}
	if err != nil {
		_ = d.closeQueues(0)
	}
	return multi, err
}

// openWater opens one more queue. water clears the persist flag unless it is told to set
// it. The owner of an attached device has chosen that flag, so its old value is restored.
func (d *Device) openWater(cfg *Config, existing *netlink.Tuntap, multi bool) error {
	w, err := water.New(water.Config{
		DeviceType: water.TUN,
		PlatformSpecificParams: water.PlatformSpecificParams{
			Name:       cfg.Name,
			Persist:    cfg.Attach,
			MultiQueue: multi,
		},
	})
	if err != nil {
		return err
	}
	file, ok := w.ReadWriteCloser.(*os.File)
	if !ok {
		_ = w.Close()
		return fmt.Errorf("water holds a %T, not a file", w.ReadWriteCloser)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return err
	}
	q := &queue{file: file, raw: raw}
	q.reading.d, q.reading.attempt = d, q.reading.try
	if existing != nil && existing.NonPersist {
		if err := q.ioctl(func(fd int) error { return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 0) }); err != nil {
			_ = file.Close()
			return fmt.Errorf("give %s back its persist flag: %w", cfg.Name, err)
		}
	}
	d.queues = append(d.queues, q)
	return nil
}

// flags are the IFF_ flags of the queue, which belongs to the device of that name.
func (q *queue) flags(name string) (uint16, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	err = q.ioctl(func(fd int) error { return unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr) })
	return ifr.Uint16(), err
}

// setOffload works for all queues: the features belong to the device.
func (d *Device) setOffload(features int) error {
	return d.queues[0].ioctl(func(fd int) error { return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, features) })
}

func (q *queue) ioctl(f func(fd int) error) error {
	var err error
	if cerr := q.raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
