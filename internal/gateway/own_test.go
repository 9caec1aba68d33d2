package gateway

import (
	"net/netip"
	"testing"
)

// Where connections to this host itself are captured, its own addresses are dialled
// for rules that terminate, and for a bypass that names them; loopback never, and
// not what is an address of the TUN or of a link.
func TestOwnAddressesWhereCaptured(t *testing.T) {
	spec := mtls()
	spec.Rules[0].To = []string{"0.0.0.0/0:443", "[::]/0:443"}
	own := []netip.Prefix{netip.MustParsePrefix("203.0.113.9/24"), netip.MustParsePrefix("2001:db8::9/64")}
	for _, local := range []bool{true, false} {
		h := newHouse(t, spec, nil, func(c *Config) {
			c.Local = local
			c.Own = func() ([]netip.Prefix, error) { return own, nil }
			c.Refused = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		})
		for _, c := range []struct {
			dst               string
			named, terminated bool
			may               bool
		}{
			{"203.0.113.9", false, true, local}, {"2001:db8::9", false, true, local}, {"::ffff:203.0.113.9", false, true, local},
			{"203.0.113.9", false, false, false}, {"203.0.113.9", true, false, true},
			{"127.0.0.1", true, true, !local}, {"::1", true, true, !local}, {"127.0.0.1", false, true, false}, {"::ffff:127.8.8.8", false, true, false},
			{"198.51.100.3", false, true, false}, {"169.254.1.1", false, true, false}, {"fe80::1", false, true, false},
			{"0.0.0.0", true, true, false}, {"224.0.0.1", true, true, false},
		} {
			why, err := h.gw.forbidden(netip.MustParseAddr(c.dst), c.named, c.terminated)
			if err != nil || (why == "") != c.may {
				t.Errorf("captured %t, %+v: %q, %v", local, c, why, err)
			}
		}
		// A whole flow.
		want := "destination_forbidden"
		if local {
			want = "verified"
		}
		conn, err := h.tlsClient(netip.MustParseAddrPort("203.0.113.9:443"), h.alice(), nil)
		if err == nil {
			_ = conn.Close()
		}
		if r := h.record(1); r.str("reason") != want {
			t.Errorf("terminated: %s (%s), want %s", r.str("reason"), r.str("detail"), want)
		}
	}
}
