package tun

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A host whose clients have IPv4 alone need not be a router for IPv6, and may have no
// IPv6 at all. What decides is an address: whoever is a router for IPv6, or serves it
// there, has given its interface one that is no link-local address and does not
// expire. One that a router's advertisements or DHCPv6 has given makes it a host
// (RFC 4862), which somebody else routes for.

// ServesIPv6 returns those of the interfaces that have such an address, in the network
// namespace of the calling thread.
func ServesIPv6(own ...string) []string {
	b, err := os.ReadFile("/proc/thread-self/net/if_inet6")
	if err != nil { // no IPv6
		return nil
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		// Address, index of the interface, length of the prefix, scope, flags (all in
		// hexadecimal digits), name: if6_seq_show in the kernel's addrconf.c.
		f := strings.Fields(line)
		if len(f) != 6 || !slices.Contains(own, f[5]) || slices.Contains(all, f[5]) {
			continue
		}
		scope, err := strconv.ParseUint(f[3], 16, 16)
		flags, ferr := strconv.ParseUint(f[4], 16, 32)
		if err == nil && ferr == nil && scope == unix.RT_SCOPE_UNIVERSE && flags&unix.IFA_F_PERMANENT != 0 {
			all = append(all, f[5])
		}
	}
	return all
}
