package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/policy"
)

// A flow is a program's of this host if its client has one of the host's addresses and
// programs are captured, and a service's if its destination has and services are.
func TestDirection(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("203.0.113.9/24"), netip.MustParsePrefix("2001:db8::9/64")}
	for _, c := range []struct {
		in, out  bool
		src, dst string
		want     audit.Direction
	}{
		{true, true, "203.0.113.9", "198.51.100.1", audit.LocalOut},
		{false, true, "2001:db8::9", "2001:db8:5::5", audit.LocalOut},
		{true, true, "::ffff:203.0.113.9", "198.51.100.1", audit.LocalOut},
		{true, false, "203.0.113.9", "198.51.100.1", audit.Forwarded},
		{true, true, "203.0.113.8", "198.51.100.1", audit.Forwarded},
		{true, true, "203.0.113.8", "203.0.113.9", audit.LocalIn},
		{false, true, "203.0.113.8", "203.0.113.9", audit.Forwarded},
		{false, false, "203.0.113.9", "203.0.113.9", audit.Forwarded},
	} {
		h := newHouse(t, mtls(), nil, func(g *Config) {
			g.Local, g.LocalOut = c.in, c.out
			g.Own = func() ([]netip.Prefix, error) { return own, nil }
		})
		if got, err := h.gw.direction(netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst)); err != nil || got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// A rule that is for programs of this host is for nobody else, and with `source: client`
// the destination sees the address that the program has, by a socket of the host's own.
func TestRuleForPrograms(t *testing.T) {
	for _, program := range []bool{true, false} {
		spec := mtls()
		spec.Rules[0].Local = true
		spec.Rules[0].Destination.Source = policy.SourceClient.String()
		h := newHouse(t, spec, nil, func(c *Config) {
			c.LocalOut = true
			c.Own = func() ([]netip.Prefix, error) {
				if program {
					return []netip.Prefix{netip.PrefixFrom(client4, 24)}, nil
				}
				return nil, nil
			}
			c.DialAs = func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
				t.Error("dialled as a client that is not of this host")
				return nil, net.ErrClosed
			}
		})
		var from netip.Addr
		h.gw.dialFrom = func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
			from = src
			return h.gw.dial(ctx, dst)
		}
		if program {
			if conn, err := h.tlsClient(server4, h.alice(), nil); err == nil {
				_ = conn.Close()
			}
		} else {
			ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
			if conn, err := h.client.Dial(ctx, server4); err == nil { // else the RST was faster
				_ = conn.Close()
			}
			cancel()
		}
		r := h.record(1)
		switch {
		case program && (r.str("reason") != "verified" || from != client4 || r.str("direction") != "local_out" || !strings.HasPrefix(r.str("dialed_from"), client4.String())):
			t.Errorf("a program: %v, dialled from %v", r, from)
		case !program && (r.str("reason") != "no_rule" || from.IsValid() || r.str("direction") != ""):
			t.Errorf("somebody else: %v, dialled from %v", r, from)
		}
	}
}

// A connection of sslgate's own that is led back into it ends with its own reason and is
// answered by no other connection; so does one of which the kernel does not say whose it is.
// Connections of programs, and of clients elsewhere, pass.
func TestOwnConnectionEnds(t *testing.T) {
	for name, c := range map[string]struct {
		local, ours bool
		err         error
		reason      string
	}{
		"own":             {true, true, nil, "own_connection"},
		"not known":       {true, false, errors.New("sock_diag"), "internal_error"},
		"of a program":    {true, false, nil, "verified"},
		"not of the host": {false, true, nil, "verified"}, // is not asked about
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, mtls(), nil, func(cfg *Config) {
				cfg.LocalOut = true
				cfg.Here = func(netip.Addr) (bool, error) { return c.local, nil }
				cfg.Ours = func(local, remote netip.AddrPort) (bool, error) {
					if local.Addr() != client4 || remote != server4 {
						t.Errorf("asked about %s to %s", local, remote)
					}
					return c.ours, c.err
				}
			})
			passes := c.reason == "verified"
			if passes {
				if err := h.try(h.alice()); err != nil {
					t.Errorf("the client sees %v", err)
				}
			} else if conn, err := h.client.Dial(testenv.Context(t), server4); err == nil { // else the RST was faster
				_ = conn.Close()
			}
			if r := h.record(1); r.str("reason") != c.reason || (h.dials.Load() == 1) != passes {
				t.Errorf("%d dials, record %v", h.dials.Load(), r)
			}
		})
	}
}
