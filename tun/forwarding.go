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
// there is no such key.
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

// This file checks kernel settings that captured packets need or that stop them: before
// the start, while the gateway runs, and for doctor. We change none of them, because that
// would turn the whole host into a router or make it more lenient.

// settingTrouble is a wrong setting with the command that corrects it. The key is written
// with slashes, because sysctl then accepts interface names with dots.
func settingTrouble(key, value, format string, a ...any) Trouble {
	return Trouble{Text: fmt.Sprintf(format, a...), Fix: "sysctl -w net/" + key + "=" + value, Fatal: true}
}

// forwardingTroubles are the settings that keep IPv4 from being forwarded. Captured
// packets need forwarding from the interfaces (own names) on their way to the TUN.
// Answers need it from the TUN, if there is one.
func forwardingTroubles(own []string, device string) []Trouble {
	var all []Trouble
	need := func(key, effect string) {
		if isZero(key) { // missing: no such interface yet
			all = append(all, settingTrouble(key, "1", "%s", effect))
		}
	}
	// For IPv4 only the interface's key counts (IN_DEV_FORWARD); ip_forward sets all of
	// them.
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

// forwarding6Troubles is the setting that keeps IPv6 from being forwarded, if an
// interface serves IPv6. For IPv6 only the key for all interfaces counts. The key of one
// interface merely makes it a router for its neighbours (Linux,
// Documentation/networking/ip-sysctl.rst, conf/all/forwarding).
func forwarding6Troubles(own []string) []Trouble {
	const key = "ipv6/conf/all/forwarding"
	if len(ServesIPv6(own...)) == 0 || !isZero(key) {
		return nil
	}
	return []Trouble{settingTrouble(key, "1", "IPv6 is not forwarded (an interface configured by router advertisements also needs accept_ra=2 then)")}
}

// deviceTroubles are settings of the TUN that stop answers coming from it. They are set
// when the TUN is made (quiet in link.go), but others may change them. Answers come from
// the addresses of destinations, whose route leads elsewhere; with local also from
// addresses of this host.
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

// eachForwards says whether IPv4 is forwarded from each of the interfaces. A host may
// forward from them alone, if it is a router only for captured traffic.
func eachForwards(own []string) bool {
	for _, ifc := range own {
		if !isSet("ipv4/conf/" + ifc + "/forwarding") {
			return false
		}
	}
	return len(own) > 0
}

// reversePathTroubles are interfaces from which the kernel drops captured packets. With
// src_valid_mark the kernel looks up the reverse path of a packet with its mark, which
// leads into the TUN, and the strict filter then drops the packet (Linux,
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

// clientSourceTroubles are settings that make the kernel drop answers to connections
// under a client's address. The kernel looks up the way back to the answer's sender. With
// src_valid_mark it uses the answer's mark, finds that the way leads to this host, and
// drops the answer whatever rp_filter says (fib_validate_source). The key "all" holds for
// all interfaces. The key of one interface affects only what comes in by it, and is not
// fatal.
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

// asError joins the fatal troubles to one error; nil if there are none.
func asError(all []Trouble) error {
	var errs []error
	for _, t := range all {
		if t.Fatal {
			errs = append(errs, t.err())
		}
	}
	return errors.Join(errs...)
}

// String returns the text followed by the command.
func (t Trouble) String() string {
	if t.Fix == "" {
		return t.Text
	}
	return t.Text + ": `" + t.Fix + "`"
}

func (t Trouble) err() error { return errors.New(t.String()) }

// CheckForwarding says whether the kernel forwards packets from the interfaces: nil, or
// an error with the commands that enable it. The TUN need not exist.
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

// DeviceTroubles are settings of the TUN, if it exists, that stop answers. With local,
// answers may come from this host's own addresses.
func DeviceTroubles(device string, local bool) []Trouble { return deviceTroubles(device, local) }

// CheckClientSource says whether this host accepts answers to connections under a
// client's address: nil, or an error with the command that corrects the setting.
func CheckClientSource() error { return asError(ClientSourceTroubles("")) }

// ClientSourceTroubles are the settings that make this host drop such answers, on any
// interface but the TUN.
func ClientSourceTroubles(device string) []Trouble { return clientSourceTroubles(device) }
