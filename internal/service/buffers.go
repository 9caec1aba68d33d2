package service

import (
	"os"
	"strconv"
	"strings"
)

const (
	// leastMax is the size that a flow's buffers may grow to on any host, in bytes.
	leastMax = 4 << 20
	// mostMax is the size that they may grow to if the host allows it: a window for
	// 2.5 Gbit/s over 100 ms.
	mostMax = 64 << 20
	// flowShare: one direction of one flow may take at most limits.memory / flowShare.
	flowShare = 16
)

// bufferMax returns the sizes that the receive and the send buffer of a flow may grow to, in
// bytes. It takes what this host allows its own sockets (tcp_rmem and tcp_wmem, ip-sysctl), so
// that a path tuned for long distances stays fast, and twice that: Netstack advertises half of
// a receive buffer as window, the kernel nearly all of it; and it wakes who writes only when
// half of a send buffer is free, so that of a smaller one a path with losses, which are mended a
// round trip later, has not enough.
func bufferMax(ceiling int64) (receive, send int) {
	most := int64(mostMax)
	if ceiling > 0 {
		most = min(most, ceiling/flowShare)
	}
	bound := func(n int64) int { return int(max(leastMax, min(n, most))) }
	return bound(2 * hostBuffer("tcp_rmem")), bound(2 * hostBuffer("tcp_wmem"))
}

// hostBuffer returns the last of the three numbers of net.ipv4.tcp_rmem or tcp_wmem, in bytes;
// 0 if it is unknown. They hold for IPv6 too.
func hostBuffer(key string) int64 {
	b, err := os.ReadFile("/proc/sys/net/ipv4/" + key)
	if err != nil {
		return 0
	}
	return lastNumber(string(b))
}

func lastNumber(text string) int64 {
	f := strings.Fields(text)
	if len(f) != 3 {
		return 0
	}
	n, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return min(n, 1<<40)
}
