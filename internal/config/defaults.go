package config

import (
	"time"

	"github.com/sslgate/sslgate/policy"
)

// Defaults that other packages name too.
const (
	DefaultMark       = 0x10
	DefaultMask       = 0x70
	DefaultTable      = 5519
	DefaultPreference = 5519
	DefaultDialMark   = 0x20
	DefaultDialTable  = 5520

	DefaultCTMask       = 0x30
	DefaultUpgradeTable = 5521
)

// DefaultRotateSize and DefaultRotateKeep bound the records on a disk that nobody
// looks after to 1 GiB: the file and seven older ones. One address that is refused
// all the time writes half of that in a day (limits.refusal_records_per_client).
const (
	DefaultRotateSize Size = 128 << 20
	DefaultRotateKeep      = 7
)

// setDefaults fills in what the comments of config.go promise for keys that
// are left out. The file is decoded over it. Defaults inside policy and
// profiles belong to the packages that compile them.
func setDefaults(c *Config) {
	c.TUN.Name = "sslgate0"
	c.TUN.MTU = 1500
	c.TUN.Offload = "auto"
	c.TUN.Queues = 1
	c.TUN.Sender = "paced"
	c.Capture.Local.In = true
	c.Capture.QUIC = "reject"
	c.Capture.GRO = "keep"
	c.Capture.Mark = DefaultMark
	c.Capture.Mask = DefaultMask
	c.Capture.Table = DefaultTable
	c.Capture.Preference = DefaultPreference
	c.Fail = "closed"
	c.Engine = engineStd
	c.Dial.Source = policy.SourceGateway.String()
	c.Dial.Timeout = Duration(5 * time.Second)
	c.Dial.Mark = DefaultDialMark
	c.Dial.Table = DefaultDialTable
	c.Limits.Flows = 20000
	c.Limits.FlowsPerClient = 512
	c.Limits.Hello = maxHello
	c.Limits.Handshake = Duration(10 * time.Second)
	c.Limits.Handshakes = 1024
	c.Limits.HandshakesPerSecond = 250
	c.Limits.DialsPerDestination = 1024
	c.Limits.RefusalRecords = 200
	c.Limits.Chain = 10
	c.Limits.ChainBytes = 64 << 10
	c.Limits.Idle = Duration(10 * time.Minute)
	c.Limits.Stall = Duration(time.Minute)
	c.Limits.HalfClosed = Duration(time.Minute)
	c.Limits.Drain = Duration(30 * time.Second)
	c.Tickets.Mode = "on"
	c.Tickets.Lifetime = Duration(time.Hour)
	c.Audit.File = "-"
	c.Audit.Queue = 4096
	c.Audit.Rotate = Rotate{Size: DefaultRotateSize, Keep: DefaultRotateKeep}
	c.Audit.OnFull = "refuse"
	c.Log.Level = "info"
	c.Log.Format = "console"
	c.Admin.Socket = DefaultSocket
	c.Reload.Renew = true
	c.Reload.Live = "keep"
	c.Upgrade.CTMask = DefaultCTMask
	c.Upgrade.Drain = Duration(12 * time.Hour)
}
