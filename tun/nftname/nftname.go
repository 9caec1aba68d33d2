// Package nftname has the names that nftables gives to things, for whoever writes its
// rules or reads those of others.
package nftname

import (
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Family is the word of nft(8) for a table's family.
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

// Interface is the name of an interface as nft compares it: IFNAMSIZ bytes, the rest zero.
func Interface(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
