package main

import (
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/tun"
)

// steerConfig is what of a configuration run, guard and release agree on.
func steerConfig(c *config.Config) tun.SteerConfig {
	return tun.SteerConfig{
		TUN:        c.TUN.Name,
		Interfaces: c.Capture.Interfaces,
		Exempt:     c.Capture.Exempt,
		Ports:      c.Capture.Ports.List,
		AllPorts:   c.Capture.Ports.All,
		RejectUDP:  c.Capture.QUIC != "ignore",
		Mark:       c.Capture.Mark,
		Table:      c.Capture.Table,
		Preference: c.Capture.Preference,
	}
}
