package config

import (
	"fmt"
	"strings"
)

// markOwners are the bits of the firewall mark that well-known programs take by
// default. docs/architecture.md says more about each.
var markOwners = [...]struct {
	name string
	bits uint32
}{
	{"AWS VPC CNI", 0x80},
	{"Cilium", 0x0f00},
	{"mwan3", 0x3f00},
	{"netavark and the CNI plugin portmap", 0x2000},
	{"kube-proxy and the kubelet", 0xc000},
	{"Tailscale", 0xff0000},
	{"Calico", 0xffff0000},
}

// DialSocketMark is the mark of sockets that connect under a client's address:
// the value after dial.mark within capture.mask, 0 if there is none.
func (c *Config) DialSocketMark() uint32 {
	return ((c.Dial.Mark | ^c.Capture.Mask) + 1) & c.Capture.Mask
}

// marks checks capture.mask and capture.mark.
func (f *File) marks(c *Capture) {
	f.check(c.Mark != 0, "capture.mark", "0 is the mark of every packet that has none")
	f.withinMask("capture.mark", c.Mark)
	var owners []string
	for _, o := range markOwners {
		if c.Mask&o.bits != 0 {
			owners = append(owners, fmt.Sprintf("%s (%#x)", o.name, o.bits))
		}
	}
	path := "capture.mask"
	if len(owners) > 0 && f.has(path) {
		f.findings = append(f.findings, f.Warning(path, fmt.Sprintf("%#x has bits of the firewall mark that are also those of %s: where that runs, each takes the other's marks for its own; the default %#x has none of them",
			c.Mask, strings.Join(owners, ", "), uint32(DefaultMask))))
	}
}

func (f *File) withinMask(path string, mark uint32) {
	c := &f.Config.Capture
	f.check(mark&^c.Mask == 0, path, "%#x has bits outside of capture.mask, %#x: write a mark within it, such as %#x, or `mask: 0xffffffff` to capture if the whole mark of every packet is sslgate's", mark, c.Mask, c.Mask&-c.Mask)
}
