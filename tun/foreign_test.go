package tun

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A client's packet without a SYN that goes to the port of somebody else's
// transparent listener is captured like every other, and not delivered to it.
func TestClientSourceForeignListenerNoSYN(t *testing.T) {
	cfg := sourceConfig()
	cfg.AllPorts, cfg.Ports = true, nil
	g := newGateway(t, cfg)
	for _, at := range []string{"[::]:3129", "10.0.2.2:3130"} {
		g.gw.do(func() error {
			lc := net.ListenConfig{Control: foreignTransparent}
			ln, err := lc.Listen(context.Background(), "tcp", at)
			if err == nil {
				t.Cleanup(func() { _ = ln.Close() })
			}
			return err
		})
	}
	sport := uint16(50000)
	for i, src := range clients {
		for _, flags := range []byte{0x02, 0x10, 0x18, 0x12, 0x04} {
			for _, port := range []uint16{3129, 3130, 3131} {
				sport++
				g.send(g.client, "c0", "g0", packet{src: src, dst: servers[i], proto: unix.IPPROTO_TCP, sport: sport, dport: port, flags: flags}.bytes())
				if before := until(t, g.tun, sport); len(before) > 0 {
					t.Errorf("%v came to the TUN", describe(before))
				}
			}
		}
	}
}

func foreignTransparent(network, _ string, raw syscall.RawConn) error {
	var err error
	cerr := raw.Control(func(fd uintptr) {
		level, opt := unix.SOL_IP, unix.IP_TRANSPARENT
		if network == "tcp6" {
			level, opt = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
		}
		err = unix.SetsockoptInt(int(fd), level, opt, 1)
	})
	return errors.Join(cerr, err)
}
