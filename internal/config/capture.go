package config

import (
	"slices"
	"strings"
)

// LoadCapture reads a configuration file for the sake of its sections tun and
// capture alone, without opening the files it names: what keeps captured
// traffic from passing must not depend on a mistake in a rule. The Config is
// nil if the mistake is in what it is read for, or the file cannot be read.
func LoadCapture(path string) (*Config, []Finding) {
	f := load(path)
	if slices.ContainsFunc(f.findings, func(x Finding) bool { return !x.Warning && concernsCapture(x.Path) }) {
		return nil, f.findings
	}
	// A misspelt "captur:" taints the section that was meant.
	if slices.ContainsFunc(f.tainted, concernsCapture) {
		return nil, f.findings
	}
	// What is wrong with section dial must not keep the guard away; without it
	// nothing can connect under a client's address.
	if slices.ContainsFunc(f.findings, func(x Finding) bool { return !x.Warning && section(x.Path) == "dial" }) || slices.Contains(f.tainted, "dial") {
		f.Config.Dial = Dial{}
	}
	// Nor section upgrade: without it there is no hand-over.
	if slices.ContainsFunc(f.findings, func(x Finding) bool { return !x.Warning && section(x.Path) == "upgrade" }) || slices.Contains(f.tainted, "upgrade") {
		f.Config.Upgrade = Upgrade{}
	}
	return &f.Config, f.findings
}

func concernsCapture(path string) bool {
	return slices.Contains([]string{"", "version", "tun", "capture"}, section(path))
}

func section(path string) string {
	if i := strings.IndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return path
}

// protocols checks capture.protocols. Extension headers of IPv6 (RFC 8200, section
// 4) are no protocols: the kernel looks for the one behind them.
func (f *File) protocols(list []int) {
	for i, p := range list {
		path := indexPath("capture.protocols", i)
		switch p {
		default:
			f.check(p > 0 && p < 256, path, "%d is out of range: 1 to 255", p)
			f.check(!slices.Contains(list[:i], p), path, "%d is listed twice", p)
		case 6:
			f.check(false, path, "6 is TCP: capture.ports says which of it is captured, the rest passes")
		case 17, 1, 58:
			f.check(false, path, "%d passes anyway (1 ICMP, 17 UDP, 58 ICMPv6)", p)
		case 0, 43, 44, 60:
			f.check(false, path, "%d is an extension header of IPv6: name the protocol behind it", p)
		}
	}
}
