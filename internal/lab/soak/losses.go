package soak

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sslgate/sslgate/internal/lab"
)

// losses are the packets that devices of the lab have dropped so far because a queue was full: a
// process or the kernel had no time to read it. By namespace and device; a device that is gone
// keeps its number.
type losses map[string]uint64

// look adds what the devices say now. A device of the same name that came later has another
// index.
func (l losses) look(in *lab.Lab) error {
	for _, ns := range []lab.NS{lab.Client, lab.Gateway, lab.Server} {
		err := in.Netlink(ns, func(h *netlink.Handle) error {
			all, err := h.LinkList()
			for _, link := range all {
				at := link.Attrs()
				if s := at.Statistics; s != nil && s.TxDropped+s.RxDropped > 0 {
					l[fmt.Sprintf("%s %s(%d)", ns, at.Name, at.Index)] = s.TxDropped + s.RxDropped
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// watch looks at the devices until ctx ends.
func (l losses) watch(ctx context.Context, in *lab.Lab) error {
	for sleep(ctx, 20*time.Millisecond) {
		if err := l.look(in); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (l losses) String() string {
	if len(l) == 0 {
		return "none"
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		all = append(all, fmt.Sprintf("%s %d", name, l[name]))
	}
	return strings.Join(all, ", ")
}
