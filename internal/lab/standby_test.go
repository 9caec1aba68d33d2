package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// forget lets client and server ask again who has the shared addresses.
func forget(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, ns := range []lab.NS{lab.Client, lab.Server} {
		err := l.Netlink(ns, func(h *netlink.Handle) error {
			all, err := h.NeighList(0, netlink.FAMILY_ALL)
			for _, n := range all {
				if n.IP.IsGlobalUnicast() {
					err = errors.Join(err, h.NeighDel(&n))
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// With two gateways, traffic crosses the one that has the addresses, and none without them.
func TestStandby(t *testing.T) {
	l := newLab(t, lab.Options{Standby: true})
	shared := map[string][]string{lab.LANIface: {"10.77.1.1/32", "fd77:1::1/128"}, lab.WANIface: {"10.77.2.1/32", "fd77:2::1/128"}}
	give := func(ns lab.NS) {
		t.Helper()
		for dev, addrs := range shared {
			for _, text := range addrs {
				err := l.Netlink(ns, func(h *netlink.Handle) error {
					link, err := h.LinkByName(dev)
					if err != nil {
						return err
					}
					a, err := netlink.ParseAddr(text)
					if err != nil {
						return err
					}
					return h.AddrAdd(link, a)
				})
				if err != nil {
					t.Fatal(ns, text, err)
				}
			}
		}
	}
	to := map[bool]netip.AddrPort{}
	for _, six := range []bool{false, true} {
		to[six] = netip.AddrPortFrom(lab.ServerAddr(0, six), 443)
		serve(t, l, to[six])
	}
	reached := func(within time.Duration) error {
		for _, six := range []bool{false, true} {
			ctx, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			c, err := l.Dial(ctx, lab.Client, "tcp", to[six].String())
			if err != nil {
				return err
			}
			got, err := io.ReadAll(c)
			_ = c.Close()
			if err != nil {
				return fmt.Errorf("after %q: %w", got, err)
			}
			if string(got) != lab.ClientAddr(six).String() {
				return fmt.Errorf("the server saw %q", got)
			}
		}
		return nil
	}
	if err := reached(200 * time.Millisecond); err == nil {
		t.Error("nobody has the addresses, and traffic crosses")
	}
	for _, ns := range []lab.NS{lab.Gateway, lab.Standby} {
		give(ns)
		forget(t, l)
		testenv.Eventually(t, fmt.Sprintf("traffic crosses %s", ns), func() bool { return reached(2*time.Second) == nil })
		if err := l.CutOff(ns); err != nil {
			t.Fatal(err)
		}
		if err := reached(200 * time.Millisecond); err == nil {
			t.Errorf("%s is cut off, and traffic crosses", ns)
		}
	}
	for _, opt := range []lab.Options{{Standby: true, HopMTU: 1400}, {Standby: true, Named: true}} {
		if l, err := lab.New(opt); err == nil {
			_ = l.Remove()
			t.Errorf("made: %+v", opt)
		}
	}
}
