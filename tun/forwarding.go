package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

func nativeUint32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// sysctl reads a key such as ipv4/ip_forward of the caller's network namespace; "" if
// there is none.
func sysctl(key string) string {
	b, err := os.ReadFile("/proc/sys/net/" + key)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func isZero(key string) bool { return sysctl(key) == "0" }

// isSet says whether the key is there and not 0.
func isSet(key string) bool { return sysctl(key) != "" && !isZero(key) }

// A setting of the kernel that captured packets need, or that is in their way. They are
// looked at before the start and while the gateway runs, and by doctor. None is ours
// to change: the whole host becomes a router, or more lenient, by it.

// settingTrouble is one with the command that sets a key. With slashes sysctl takes
// interface names that have dots in them.
func settingTrouble(key, value, format string, a ...any) Trouble {
	return Trouble{Text: fmt.Sprintf(format, a...), Fix: "sysctl -w net/" + key + "=" + value, Fatal: true}
}

// forwardingTroubles are those of forwarding IPv4 from the interfaces, own names, which
// captured packets need on their way to the TUN, and from the TUN, where there is one,
// which the answers need.
func forwardingTroubles(own []string, device string) []Trouble {
	var all []Trouble
	need := func(key, effect string) {
		if isZero(key) { // missing: no such interface yet
			all = append(all, settingTrouble(key, "1", "%s", effect))
		}
	}
	// IPv4 asks the interface alone (IN_DEV_FORWARD), and ip_forward sets them all.
	if !eachForwards(own) {
		need("ipv4/ip_forward", "IPv4 is not forwarded")
	}
	if len(all) == 0 {
		for _, ifc := range own {
			need("ipv4/conf/"+ifc+"/forwarding", "IPv4 from "+ifc+" is not forwarded")
		}
		need("ipv4/conf/"+device+"/forwarding", "IPv4 from the TUN "+device+" is not forwarded: clients get no answers")
	}
	return all
}

// forwarding6Troubles is that of forwarding IPv6, where an interface serves it. IPv6 asks
// for all interfaces at once; the key of one interface makes it a router in the eyes of
// neighbours and no more (Linux, Documentation/networking/ip-sysctl.rst, conf/all/forwarding).
func forwarding6Troubles(own []string) []Trouble {
	const key = "ipv6/conf/all/forwarding"
	if len(ServesIPv6(own...)) == 0 || !isZero(key) {
		return nil
	}
	return []Trouble{settingTrouble(key, "1", "IPv6 is not forwarded (an interface configured by router advertisements also needs accept_ra=2 then)")}
}

// deviceTroubles are settings of the TUN in the way of what comes from it. They are set
// when it is made (quiet in link.go), and others may change them. Answers have the
// addresses of destinations, to which the way leads elsewhere, and with local those of
// this host.
func deviceTroubles(device string, local bool) []Trouble {
	of := func(ifc, key string) string { return "ipv4/conf/" + ifc + "/" + key }
	var all []Trouble
	if filter := sysctl(of(device, "rp_filter")); filter != "" && max(sysctl(of("all", "rp_filter")), filter) == "1" {
		all = append(all, settingTrouble(of(device, "rp_filter"), "2",
			"the TUN %s has the strict reverse path filter: the kernel drops answers to clients", device))
	}
	if local && isZero(of(device, "accept_local")) && !isSet(of("all", "accept_local")) {
		all = append(all, settingTrouble(of(device, "accept_local"), "1",
			"the TUN %s does not accept local addresses: the kernel drops answers of this host's own services", device))
	}
	return all
}

// eachForwards says whether IPv4 is forwarded from each of the interfaces: it may
// be from them alone, on a host that is no router but for what is captured.
func eachForwards(own []string) bool {
	for _, ifc := range own {
		if !isSet("ipv4/conf/" + ifc + "/forwarding") {
			return false
		}
	}
	return len(own) > 0
}

// reversePathTroubles are interfaces from which the kernel drops captured packets:
// with src_valid_mark their reverse path is looked up with their mark, which leads
// into the TUN, and the strict filter then drops them (Linux,
// Documentation/networking/ip-sysctl.rst).
func reversePathTroubles(own []string) []Trouble {
	var all []Trouble
	of := func(ifc, key string) string { return "ipv4/conf/" + ifc + "/" + key }
	for _, ifc := range own {
		filter := max(sysctl(of("all", "rp_filter")), sysctl(of(ifc, "rp_filter")))
		if filter == "1" && sysctl(of(ifc, "rp_filter")) != "" && (isSet(of("all", "src_valid_mark")) || isSet(of(ifc, "src_valid_mark"))) {
			all = append(all, settingTrouble(of(ifc, "rp_filter"), "2",
				"%s has the strict reverse path filter and src_valid_mark: the kernel drops what is captured from it", ifc))
		}
	}
	return all
}

// clientSourceTroubles: does the kernel let answers to connections under a client's
// address in. It looks the way back to an answer's sender up; with src_valid_mark it
// does so with the answer's mark, finds that the way leads to itself, and drops the
// answer, whatever rp_filter says (fib_validate_source). All interfaces have what "all"
// has; one alone loses what comes in by it, and is not fatal.
func clientSourceTroubles(device string) []Trouble {
	of := func(ifc string) Trouble {
		return settingTrouble("ipv4/conf/"+ifc+"/src_valid_mark", "0", "%s has src_valid_mark: the kernel drops answers to connections under a client's address", ifc)
	}
	if isSet("ipv4/conf/all/src_valid_mark") {
		return []Trouble{of("all")}
	}
	interfaces, err := os.ReadDir("/proc/sys/net/ipv4/conf")
	if err != nil {
		return nil
	}
	var all []Trouble
	for _, ifc := range interfaces {
		if name := ifc.Name(); isSet("ipv4/conf/"+name+"/src_valid_mark") && !slices.Contains([]string{"all", "default", "lo", device}, name) {
			t := of(name)
			t.Interface, t.Fatal = name, false
			all = append(all, t)
		}
	}
	return all
}

// asError joins what fatal troubles say; nil if there are none.
func asError(all []Trouble) error {
	var errs []error
	for _, t := range all {
		if t.Fatal {
			errs = append(errs, t.err())
		}
	}
	return errors.Join(errs...)
}

// String is the text and the command.
func (t Trouble) String() string {
	if t.Fix == "" {
		return t.Text
	}
	return t.Text + ": `" + t.Fix + "`"
}

func (t Trouble) err() error { return errors.New(t.String()) }

// CheckForwarding says whether the kernel forwards packets from the interfaces: nil, or
// an error with the commands that switch it on. The TUN need not be there.
func CheckForwarding(interfaces ...string) error {
	return asError(ForwardingTroubles("", interfaces...))
}

// ForwardingTroubles are what keeps the kernel from forwarding packets from the
// interfaces, and answers from the TUN if it is there.
func ForwardingTroubles(device string, interfaces ...string) []Trouble {
	own := OwnNames(interfaces...)
	return append(forwardingTroubles(own, device), forwarding6Troubles(own)...)
}

// CheckReversePath says whether the reverse path filter lets captured packets in.
func CheckReversePath(interfaces ...string) []Trouble {
	return reversePathTroubles(OwnNames(interfaces...))
}

// DeviceTroubles are settings of the TUN in the way of answers, if it is there. With
// local they may come from this host's own addresses.
func DeviceTroubles(device string, local bool) []Trouble { return deviceTroubles(device, local) }

// CheckClientSource says whether this host lets answers to connections under a
// client's address in: nil, or an error with the command that mends it.
func CheckClientSource() error { return asError(ClientSourceTroubles("")) }

// ClientSourceTroubles are what keeps such answers out, by whatever interface but the TUN.
func ClientSourceTroubles(device string) []Trouble { return clientSourceTroubles(device) }
