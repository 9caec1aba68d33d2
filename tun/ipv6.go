package tun

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A host whose clients have only IPv4 need not be a router for IPv6, and may have no IPv6
// at all. The addresses decide: a host that is a router for IPv6, or serves it on an
// interface, has given the interface an address that is not link-local and does not
// expire. An address from router advertisements or DHCPv6 makes it a host (RFC 4862), for
// which another router forwards.

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
