package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ReceiveOn has the packets that come in at an interface be worked on by one CPU, as the
// interrupts of a network card would have it (rps_cpus, Documentation/networking/scaling.rst
// of Linux); cpu -1 leaves them to the CPU that sends, which is what veth does by itself.
func (l *Lab) ReceiveOn(ns NS, dev string, cpu int) error {
	s, err := l.space(ns)
	if err != nil {
		return err
	}
	mask := "0"
	if cpu >= 0 {
		mask = cpuMask(cpu)
	}
	done := make(chan error, 1)
	go onThread(func() { done <- writeReceive(s.handle, dev, mask) })
	if err := <-done; err != nil {
		return fmt.Errorf("receive at %s in %s: %w", dev, ns, err)
	}
	return nil
}

// writeReceive runs on a thread of its own, which ends with it: /sys shows the interfaces of
// the namespace that it was mounted in.
func writeReceive(h netns.NsHandle, dev, mask string) error {
	if err := netns.Set(h); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	files, err := filepath.Glob(filepath.Join("/sys/class/net", dev, "queues/rx-*/rps_cpus"))
	if err == nil && len(files) == 0 {
		err = os.ErrNotExist
	}
	for _, f := range files {
		if err == nil {
			err = os.WriteFile(f, []byte(mask), 0o644)
		}
	}
	return err
}

// cpuMask is a CPU in the kernel's bitmap format: hexadecimal, 32 bits a group.
func cpuMask(cpu int) string {
	return strconv.FormatUint(1<<(cpu%32), 16) + strings.Repeat(",00000000", cpu/32)
}
