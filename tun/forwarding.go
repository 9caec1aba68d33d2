package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
)

func nativeUint32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// CheckForwarding says whether the kernel forwards packets from the
// interfaces, which captured packets need on their way to the TUN: nil, or an
// error with the commands that switch it on. It is not ours to switch on, for
// the whole host becomes a router by it.
func CheckForwarding(interfaces ...string) error {
	var errs []error
	need := func(key, effect string) {
		b, err := os.ReadFile("/proc/sys/net/" + key)
		if err != nil || strings.TrimSpace(string(b)) != "0" { // missing: no IPv6, no such interface yet
			return
		}
		// With slashes sysctl takes interface names that have dots in them.
		errs = append(errs, fmt.Errorf("%s: `sysctl -w net/%s=1`", effect, key))
	}
	// IPv4 asks the interface alone (IN_DEV_FORWARD), and ip_forward sets them all.
	if !eachForwards(interfaces) {
		need("ipv4/ip_forward", "IPv4 is not forwarded")
	}
	need("ipv6/conf/all/forwarding", "IPv6 is not forwarded (an interface configured by router advertisements also needs accept_ra=2 then)")
	if len(errs) == 0 {
		for _, ifc := range OwnNames(interfaces...) {
			need("ipv4/conf/"+ifc+"/forwarding", "IPv4 from "+ifc+" is not forwarded")
			need("ipv6/conf/"+ifc+"/forwarding", "IPv6 from "+ifc+" is not forwarded")
		}
	}
	return errors.Join(errs...)
}

// eachForwards says whether IPv4 is forwarded from each of the interfaces: it may
// be from them alone, on a host that is no router but for what is captured.
func eachForwards(interfaces []string) bool {
	for _, ifc := range OwnNames(interfaces...) {
		b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + ifc + "/forwarding")
		if err != nil || strings.TrimSpace(string(b)) == "0" {
			return false
		}
	}
	return len(interfaces) > 0
}
