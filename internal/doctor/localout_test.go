package doctor

import (
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/service"
	"github.com/sslgate/sslgate/tun"
)

// The guard of another configuration holds no programs back, which is a failure. A rule of
// somebody else that takes what the host itself sends is in the way too. Without captured
// interfaces nothing need be forwarded.
func TestLocalOut(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		o := options(t)
		c := o.Config
		if err := tun.Guard(service.SteerConfig(c)); err != nil {
			t.Fatal(err)
		}
		c.Capture.Local.Out = &config.LocalOut{Users: []int{1000, 1001}, Groups: []int{5}, ExceptUsers: []int{7}}
		if found := bad(Examine(o), "local_out"); len(found) != 1 || found[0].Level != Fail || !strings.Contains(found[0].Text, "another configuration") {
			t.Errorf("the guard of another configuration: %+v", found)
		}
		if err := tun.Guard(service.SteerConfig(c)); err != nil {
			t.Fatal(err)
		}
		// One of its conditions is other, or somebody has taken a rule out of it.
		c.Capture.Local.Out.ExceptUsers = []int{8}
		if found := bad(Examine(o), "local_out"); len(found) != 1 || found[0].Level != Fail || !strings.Contains(found[0].Text, "other connections") {
			t.Errorf("another user is excepted: %+v", found)
		}
		c.Capture.Local.Out.ExceptUsers = []int{7}
		c.Capture.Ports.List = []uint16{443, 8443}
		if found := bad(Examine(o), "local_out"); len(found) != 1 || found[0].Level != Fail {
			t.Errorf("another port: %+v", found)
		}
		c.Capture.Ports.List = []uint16{443}
		if !sh(t, "nft flush chain inet sslgate out_left") {
			return
		}
		if found := bad(Examine(o), "local_out"); len(found) != 1 || found[0].Level != Fail {
			t.Errorf("a chain was emptied: %+v", found)
		}
		if err := tun.Guard(service.SteerConfig(c)); err != nil {
			t.Fatal(err)
		}
		var said string
		for _, f := range Examine(o) {
			if f.Check == "local_out" {
				said = f.Text
			}
		}
		if !strings.Contains(said, "programs of users 1000, 1001 and groups 5 but those of users 7") || !strings.Contains(said, "sslgate's own have mark 0x") {
			t.Errorf("said: %q", said)
		}
		if found := bad(Examine(o), "rules"); len(found) > 0 {
			t.Errorf("%+v", found)
		}
		if !sh(t, "ip rule add iif lo pref 100 unreachable") {
			return
		}
		if found := bad(Examine(o), "rules"); len(found) != 1 {
			t.Errorf("a rule for what the host sends: %+v", found)
		}
		c.Capture.Interfaces = nil
		if !sh(t, "sysctl -qw net.ipv4.ip_forward=0") {
			return
		}
		if found := bad(Examine(o), "forwarding"); len(found) > 0 {
			t.Errorf("programs alone: %+v", found)
		}
	})
}
