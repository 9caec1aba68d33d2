package config

import (
	"time"

	"github.com/sslgate/sslgate/policy"
)

// ClientSource says whether a connection may be made under a client's address:
// dial.source or a rule's destination.source asks for it.
func (c *Config) ClientSource() bool { return c.Dial.Mark != 0 && c.clientSourceAt() != "" }

// clientSourceAt is the path of the first place that asks for it, "" if none
// does.
func (c *Config) clientSourceAt() string {
	client := policy.SourceClient.String()
	if c.Dial.Source == client {
		return "dial.source"
	}
	for i, r := range c.Policy.Rules {
		if r.Destination.Source == client {
			return indexPath("policy.rules", i) + ".destination.source"
		}
	}
	return ""
}

func (d *Dial) source() policy.Source {
	if d.Source == policy.SourceClient.String() {
		return policy.SourceClient
	}
	return policy.SourceGateway
}

func (f *File) checkDial(c *Config) {
	d := &c.Dial
	f.word("dial.source", d.Source, policy.SourceGateway.String(), policy.SourceClient.String())
	f.atMost("dial.timeout", d.Timeout, 5*time.Minute)
	next := c.DialSocketMark()
	f.withinMask("dial.mark", d.Mark)
	f.check(d.Mark != 0 && next != 0, "dial.mark", "%#x: neither it nor the one after it within capture.mask may be 0, the mark of every packet that has none", d.Mark)
	f.check(d.Table > 0 && int64(d.Table) <= 1<<31-1, "dial.table", "%d is out of range: 1 to 2147483647", d.Table)
	f.check(d.Table < 253 || d.Table > 255, "dial.table", "%d is a table of the system (default 253, main 254, local 255)", d.Table)
	asked := c.clientSourceAt()
	if asked == "" {
		return
	}
	f.check(!c.TUN.Attach, asked, "client: with tun.attach this host is routed by somebody else, and the answers to such connections with it: use \"gateway\", or let sslgate make the device")
	f.check(d.Mark != c.Capture.Mark && next != c.Capture.Mark, "dial.mark", "%#x, or the one after it, %#x, is capture.mark", d.Mark, next)
	f.check(d.Table != c.Capture.Table, "dial.table", "%d is capture.table", d.Table)
}
