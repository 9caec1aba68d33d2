package tun

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// Absent says which of some names no interface has, alternative names counted, in the
// network namespace of the caller, and which names there are.
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

// undisturbed lists again, up to three times in all, where a change interrupts a list of
// the kernel (NLM_F_DUMP_INTR): what it gives then may lack an entry.
func undisturbed[T any](list func() (T, error)) (T, error) {
	const times = 3
	for range times - 1 {
		if got, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
	return list()
}
