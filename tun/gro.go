package tun

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/google/nftables"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// If packets reach the TUN one by one, 1500 bytes each, uploads run at an eighth of the
// speed. Generic receive offload (GRO) of the interface they arrive on joins them before.
// Physical interfaces have it on by default, veth off.

// groSet is the set in our nft table that names the interfaces whose GRO we have switched
// on. It outlives the process and tells Release what to undo.
const groSet = "gro_switched_on"

// WithoutGRO returns those of the interfaces that exist and have generic receive
// offload off.
func WithoutGRO(interfaces ...string) []string {
	fd, err := ethtoolSocket()
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	return withoutGRO(fd, interfaces)
}

func withoutGRO(fd int, interfaces []string) []string {
	var off []string
	for _, name := range interfaces {
		if on, err := ethtool(fd, name, unix.ETHTOOL_GGRO, 0); err == nil && on == 0 {
			off = append(off, name)
		}
	}
	return off
}

// planGRO returns the interfaces whose GRO is to be switched on, and notes them for
// writeTable. writeTable runs before turnGRO, so that after a crash in between too much
// is undone rather than too little. Interfaces no longer asked for are switched off at
// once.
func (s *Steering) planGRO() []string {
	keep := func(name string) bool { return s.cfg.GRO && slices.Contains(s.cfg.Interfaces, name) }
	s.turnGRO(slices.DeleteFunc(slices.Clone(s.gro), keep), false)
	s.gro = slices.DeleteFunc(s.gro, func(name string) bool { return !keep(name) })
	if !s.cfg.GRO {
		return nil
	}
	off := withoutGRO(s.ethtool, s.cfg.Interfaces)
	s.gro = append(s.gro, off...)
	slices.Sort(s.gro)
	s.gro = slices.Compact(s.gro)
	return off
}

// turnGRO switches GRO of the interfaces. Failure, for example because an interface is
// gone, is only logged.
func (s *Steering) turnGRO(interfaces []string, on bool) {
	value := uint32(0)
	if on {
		value = 1
	}
	for _, name := range interfaces {
		if _, err := ethtool(s.ethtool, name, unix.ETHTOOL_SGRO, value); err != nil {
			s.log.Warn("receive offload (GRO) not switched", zap.String("interface", name), zap.Bool("on", on), zap.Error(err))
			continue
		}
		s.log.Info("receive offload (GRO) switched", zap.String("interface", name), zap.Bool("on", on))
	}
}

// listNoted reads a set of interfaces that an earlier run has written.
func (s *Steering) listNoted(of string) []string {
	names, err := s.readSet(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}, of)
	if err != nil {
		return nil
	}
	return names
}

func ethtoolSocket() (int, error) {
	return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
}

// ethtool reads or sets one value (linux/ethtool.h, struct ethtool_value; SIOCETHTOOL of
// netdevice(7)).
func ethtool(fd int, name string, cmd, data uint32) (uint32, error) {
	value := struct{ cmd, data uint32 }{cmd, data}
	ifr := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // of the union in struct ifreq
	}{data: unsafe.Pointer(&value)}
	copy(ifr.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return 0, fmt.Errorf("ethtool %s: %w", name, errno)
	}
	return value.data, nil
}
