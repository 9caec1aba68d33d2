package service

import (
	"os"
	"strconv"
	"strings"
)

const (
	// leastMax is what the buffers of a flow may grow to on any host, in bytes.
	leastMax = 4 << 20
	// mostMax is what they may grow to where the host allows more: a window
	// for 2.5 Gbit/s over 100 ms.
	mostMax = 64 << 20
	// flowShare is the part of limits.memory that one direction of one flow may
	// take.
	flowShare = 16
)

// bufferMax returns what the receive and the send buffer of a flow may grow
// to, in bytes: what this host allows its own sockets (tcp_rmem and tcp_wmem,
// ip-sysctl), so that a path that was tuned for long distances stays so.
// Netstack advertises half of a receive buffer as window, the kernel nearly
// all of it.
func bufferMax(ceiling int64) (receive, send int) {
	most := int64(mostMax)
	if ceiling > 0 {
		most = min(most, ceiling/flowShare)
	}
	bound := func(n int64) int { return int(max(leastMax, min(n, most))) }
	return bound(2 * hostBuffer("tcp_rmem")), bound(hostBuffer("tcp_wmem"))
}

// hostBuffer returns the last of the three numbers of net.ipv4.tcp_rmem or
// tcp_wmem, in bytes: 0 if it cannot be known. They hold for IPv6, too.
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
