package nftname

import (
	"bytes"
	"testing"

	"github.com/google/nftables"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for f, want := range map[nftables.TableFamily]string{
		nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
		nftables.TableFamilyBridge: "bridge", nftables.TableFamilyARP: "arp", nftables.TableFamilyNetdev: "netdev", 99: "99",
	} {
		if got := Family(f); got != want {
			t.Errorf("family %d: %q, want %q", f, got, want)
		}
	}
	for name, want := range map[string]string{
		"g0": "g0\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "": "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"fifteen-letters": "fifteen-letters\x00",
	} {
		if got := Interface(name); !bytes.Equal(got, []byte(want)) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
