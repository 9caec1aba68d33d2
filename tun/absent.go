package tun

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// Absent says which of some names no interface has, as its own or an alternative name,
// and which names there are. It looks in the network namespace of the caller.
func Absent(names ...string) (absent, present []string, err error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, nil, fmt.Errorf("list interfaces: %w", err)
	}
	absent = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return lookUp(links, name) != nil })
	for _, l := range links {
		present = append(present, l.Attrs().Name)
	}
	return absent, present, nil
}

// undisturbed calls list up to three times while a change interrupts the kernel's dump
// (NLM_F_DUMP_INTR): an interrupted dump may lack an entry.
func undisturbed[T any](list func() (T, error)) (T, error) {
	const times = 3
	for range times - 1 {
		if got, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
	return list()
}
