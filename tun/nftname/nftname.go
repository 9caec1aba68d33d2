// Package nftname has the names that nftables gives to things, for packages that write
// rules or read those of others.
package nftname

import (
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Family is the name of a table's family in nft(8).
func Family(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyBridge:
		return "bridge"
	case nftables.TableFamilyARP:
		return "arp"
	case nftables.TableFamilyNetdev:
		return "netdev"
	}
	return fmt.Sprint(f)
}

// Interface is the name of an interface as nft compares it: IFNAMSIZ bytes, padded with
// zeros.
func Interface(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
