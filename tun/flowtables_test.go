package tun

import (
	"strings"
	"testing"

	"github.com/google/nftables"
)

// The flowtables that a captured interface is in are named, and no others. Kernels
// without flowtables, such as that of some test machines, list none.
func TestFlowtables(t *testing.T) {
	table := &nftables.Table{Name: "fast", Family: nftables.TableFamilyINet}
	all := []*nftables.Flowtable{
		{Table: table, Name: "f", Devices: []string{"wan0", "lan0"}},
		{Table: table, Name: "g", Devices: []string{"wan0"}},
		{Table: &nftables.Table{Name: "old", Family: nftables.TableFamilyIPv4}, Name: "h", Devices: []string{"lan1"}},
		{Table: table, Name: "none"},
	}
	found := flowtableTroubles(all, []string{"lan0", "lan1", "lan"})
	if len(found) != 2 || !strings.Contains(found[0].Text, "lan0 is in flowtable f of table inet fast") || !strings.Contains(found[1].Text, "lan1 is in flowtable h of table ip old") {
		t.Errorf("%+v", found)
	}
	n := newNS(t, "flowtables")
	n.script("nft add table inet fast; nft add table ip other")
	n.do(func() error {
		found, err := CheckFlowtables("lo")
		if len(found) > 0 {
			t.Errorf("%+v", found)
		}
		return err
	})
}
