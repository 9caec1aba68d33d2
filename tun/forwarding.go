package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
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

// forwardingTroubles are those of forwarding from the interfaces, own names, which
// captured packets need on their way to the TUN.
func forwardingTroubles(own []string) []Trouble {
	var all []Trouble
	need := func(key, effect string) {
		if isZero(key) { // missing: no IPv6, no such interface yet
			all = append(all, settingTrouble(key, "1", "%s", effect))
		}
	}
	// IPv4 asks the interface alone (IN_DEV_FORWARD), and ip_forward sets them all.
	if !eachForwards(own) {
		need("ipv4/ip_forward", "IPv4 is not forwarded")
	}
	six := ServesIPv6(own...)
	if len(six) > 0 {
		need("ipv6/conf/all/forwarding", "IPv6 is not forwarded (an interface configured by router advertisements also needs accept_ra=2 then)")
	}
	if len(all) == 0 {
		for _, ifc := range own {
			need("ipv4/conf/"+ifc+"/forwarding", "IPv4 from "+ifc+" is not forwarded")
		}
		for _, ifc := range six {
			need("ipv6/conf/"+ifc+"/forwarding", "IPv6 from "+ifc+" is not forwarded")
		}
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
// answer, whatever rp_filter says (fib_validate_source).
func clientSourceTroubles() []Trouble {
	const key = "ipv4/conf/all/src_valid_mark"
	if isSet(key) {
		return []Trouble{settingTrouble(key, "0", "connections under a client's address get no answers while src_valid_mark is set")}
	}
	return nil
}

// asError joins what troubles say; nil if there are none.
func asError(all []Trouble) error {
	var errs []error
	for _, t := range all {
		errs = append(errs, t.err())
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
// an error with the commands that switch it on.
func CheckForwarding(interfaces ...string) error {
	return asError(forwardingTroubles(OwnNames(interfaces...)))
}

// CheckReversePath says whether the reverse path filter lets captured packets in.
func CheckReversePath(interfaces ...string) []Trouble {
	return reversePathTroubles(OwnNames(interfaces...))
}

// CheckClientSource says whether this host lets answers to connections under a
// client's address in: nil, or an error with the command that mends it.
func CheckClientSource() error { return asError(clientSourceTroubles()) }
