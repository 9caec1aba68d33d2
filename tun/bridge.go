package tun

import (
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
)

// A bridge switches frames between its ports. Netfilter sees them only with br_netfilter
// (Linux, Documentation/networking/ip-sysctl.rst, /proc/sys/net/bridge). With it the
// guard drops frames to captured ports; without it they pass.

// unseenFamilies are the IP families in which netfilter does not see what this bridge
// switches, in the network namespace of the caller.
func unseenFamilies(bridge string) []string {
	var all []string
	for _, f := range []struct{ name, key, attr string }{
		{"IPv4", "bridge-nf-call-iptables", "nf_call_iptables"}, {"IPv6", "bridge-nf-call-ip6tables", "nf_call_ip6tables"},
	} {
		// There is one setting for all bridges, and one for each bridge.
		of, err := os.ReadFile("/sys/class/net/" + bridge + "/bridge/" + f.attr)
		if !isSet("bridge/"+f.key) && (err != nil || strings.TrimSpace(string(of)) == "0") {
			all = append(all, f.name)
		}
	}
	return all
}

// bridgeTroubles are captured bridges that switch frames past netfilter, as unseen
// reports.
func bridgeTroubles(links []netlink.Link, cfg *SteerConfig, unseen func(bridge string) []string) []Trouble {
	var all []Trouble
	for _, name := range cfg.Interfaces {
		bridge := lookUp(links, name)
		if bridge == nil {
			continue
		}
		var ports []string
		kind := ""
		for _, l := range links {
			switch at := l.Attrs(); {
			case at.Index == bridge.Index:
				kind = l.Type()
			case at.MasterIndex == bridge.Index:
				ports = append(ports, at.Name)
			}
		}
		if kind != "bridge" || len(ports) < 2 { // with fewer than two ports nothing is switched
			continue
		}
		if families := unseen(bridge.Name); len(families) > 0 {
			all = append(all, Trouble{Interface: name, Text: fmt.Sprintf(
				"what the bridge %s switches from one of its ports to another (%s) is not captured, and %s of it passes: netfilter does not see it; with net.bridge.bridge-nf-call-iptables and -ip6tables the guard drops what goes to captured ports",
				bridge.Name, strings.Join(ports, ", "), strings.Join(families, " and "))})
		}
	}
	return all
}
