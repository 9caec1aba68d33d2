package config

import "testing"

// What `check` says to type where except_ports is missing is taken, and what it
// demands is demanded; with a list of ports it is for nothing.
func TestExceptPorts(t *testing.T) {
	for capture, good := range map[string]bool{
		"ports: all, except_ports: []":        true,
		"ports: all, except_ports: [22]":      true,
		"ports: all, except_ports: [22, 873]": true,
		"ports: all":                          false,
		"ports: all, except_ports: [0]":       false,
		"ports: all, except_ports: [65536]":   false,
		"ports: [443], except_ports: []":      false,
		"ports: [443], except_ports: [22]":    false,
		"ports: [443]":                        true,
	} {
		f := parse("sslgate.yaml", []byte("version: 1\ncapture: {interfaces: [eth1], "+capture+"}\npolicy: {rules: []}\n"))
		if Failed(f.findings) == good {
			t.Errorf("%s: %v", capture, f.findings)
		}
		if good && len(f.Config.Capture.LocalExcept()) != len(f.Config.Capture.ExceptPorts) {
			t.Errorf("%s: excepted are %v", capture, f.Config.Capture.LocalExcept())
		}
	}
}
