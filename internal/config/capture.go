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
