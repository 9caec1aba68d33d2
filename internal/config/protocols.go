package config

import "slices"

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
