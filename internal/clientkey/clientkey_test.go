package clientkey

import (
	"net/netip"
	"testing"
)

func TestOf(t *testing.T) {
	for _, tt := range []struct{ a, b string }{
		{"192.0.2.1", "::ffff:192.0.2.1"},
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"},
		{"fe80::1%eth0", "fe80::2%eth1"},
	} {
		if a, b := Of(netip.MustParseAddr(tt.a)), Of(netip.MustParseAddr(tt.b)); a != b || !a.IsValid() {
			t.Errorf("%s is client %s, %s is %s", tt.a, a, tt.b, b)
		}
	}
	for _, tt := range []struct{ a, b string }{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8:0:1::1"}} {
		if a, b := Of(netip.MustParseAddr(tt.a)), Of(netip.MustParseAddr(tt.b)); a == b {
			t.Errorf("%s and %s are one client: %s", tt.a, tt.b, a)
		}
	}
}
