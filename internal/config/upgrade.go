package config

import (
	"math/bits"
	"time"
)

// Second is what a gateway has of its own while another one runs on the same host, during
// a hand-over: device, firewall mark and routing table.
type Second struct {
	TUN   string
	Mark  uint32
	Table int
}

// Second returns section upgrade with its defaults. False: capture.mask has no number left
// for a second gateway, or the device is somebody else's (tun.attach).
func (c *Config) Second() (Second, bool) {
	s := Second{TUN: c.Upgrade.TUN, Mark: c.Upgrade.Mark, Table: c.Upgrade.Table}
	if s.TUN == "" {
		s.TUN = "sslgate1"
		if c.TUN.Name == s.TUN {
			s.TUN = "sslgate0"
		}
	}
	if s.Mark == 0 {
		own := uint32(0)
		if c.Capture.Local.Out != nil {
			own = c.Capture.Local.Out.Mark
		}
		s.Mark = c.freeMark(own)
	}
	for s.Table == 0 || c.Upgrade.Table == 0 && (s.Table == c.Capture.Table || s.Table == c.Dial.Table) {
		s.Table = max(s.Table+1, DefaultUpgradeTable)
	}
	return s, s.Mark != 0 && !c.TUN.Attach
}

// freeMark is the least number within capture.mask that no other key takes and that is not
// taken either, 0 if there is none.
func (c *Config) freeMark(taken uint32) uint32 {
	for mark := c.Capture.Mask & -c.Capture.Mask; mark != 0; mark = ((mark | ^c.Capture.Mask) + 1) & c.Capture.Mask {
		if mark != c.Capture.Mark && mark != c.Dial.Mark && mark != c.DialSocketMark() && mark != taken {
			return mark
		}
	}
	return 0
}

func (f *File) checkUpgrade(c *Config) {
	u := &c.Upgrade
	f.check(bits.OnesCount32(u.CTMask) == 2, "upgrade.ct_mask", "%#x has %d bits: two are wanted, one for each of two gateways, such as %#x", u.CTMask, bits.OnesCount32(u.CTMask), uint32(DefaultCTMask))
	f.check(u.Drain.Std() > 0 && u.Drain.Std() <= 7*24*time.Hour, "upgrade.drain", "%s is out of range: more than 0, at most 168h", u.Drain.Std())
	if f.has("upgrade.tun") {
		f.check(interfaceFault(u.TUN) == "", "upgrade.tun", "%s", interfaceFault(u.TUN))
		f.check(u.TUN != c.TUN.Name, "upgrade.tun", "%s is tun.name: two gateways need two devices", quote(u.TUN))
	}
	if f.has("upgrade.mark") {
		f.withinMask("upgrade.mark", u.Mark)
		f.check(u.Mark != 0, "upgrade.mark", "0 is the mark of every packet that has none")
		f.check(u.Mark != c.Capture.Mark && u.Mark != c.Dial.Mark && u.Mark != c.DialSocketMark(), "upgrade.mark", "%#x is capture.mark, dial.mark or the one after dial.mark", u.Mark)
	}
	if f.has("upgrade.table") {
		f.check(u.Table > 0 && int64(u.Table) <= 1<<31-1, "upgrade.table", "%d is out of range: 1 to 2147483647", u.Table)
		f.check(u.Table < 253 || u.Table > 255, "upgrade.table", "%d is a table of the system (default 253, main 254, local 255)", u.Table)
		f.check(u.Table != c.Capture.Table && u.Table != c.Dial.Table, "upgrade.table", "%d is capture.table or dial.table", u.Table)
	}
}
