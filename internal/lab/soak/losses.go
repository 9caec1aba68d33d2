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

// look adds what the devices say now, and says whether a device of the gateway has dropped more
// than before. A device of the same name that came later has another index.
func (l losses) look(in *lab.Lab) (more bool, err error) {
	for _, ns := range []lab.NS{lab.Client, lab.Gateway, lab.Server} {
		err := in.Netlink(ns, func(h *netlink.Handle) error {
			all, err := h.LinkList()
			for _, link := range all {
				at := link.Attrs()
				if s := at.Statistics; s != nil && s.TxDropped+s.RxDropped > 0 {
					name := fmt.Sprintf("%s %s(%d)", ns, at.Name, at.Index)
					more = more || ns == lab.Gateway && l[name] != s.TxDropped+s.RxDropped
					l[name] = s.TxDropped + s.RxDropped
				}
			}
			return err
		})
		if err != nil {
			return more, err
		}
	}
	return more, nil
}

// watch looks at the devices until ctx ends. It calls dropped with the time within which the
// gateway's have dropped packets.
func (l losses) watch(ctx context.Context, in *lab.Lab, dropped func(span)) error {
	for last := time.Now(); sleep(ctx, 20*time.Millisecond); {
		now := time.Now()
		more, err := l.look(in)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if more {
			dropped(span{last, time.Now()})
		}
		last = now
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
