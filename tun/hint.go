package tun

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hint adds the command that helps to an error of opening the device.
func hint(name string, err error) error {
	next := ""
	switch {
	case errors.Is(err, unix.ENOENT):
		next = "the node is missing: `modprobe tun`, in a container `mkdir -p /dev/net && mknod -m 666 " + tunNode + " c 10 200`"
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		next = "the kernel has no TUN driver: `modprobe tun`"
	case errors.Is(err, unix.EACCES):
		next = "the node may not be opened: run as root, or `chmod 666 " + tunNode + "`"
	case errors.Is(err, unix.EPERM):
		next = "CAP_NET_ADMIN is missing: run as root, or `setcap cap_net_admin+ep` the program"
	case errors.Is(err, unix.EBUSY):
		next = "the device is in use" + holder(name)
	case errors.Is(err, unix.EINVAL):
		next = "the device was made otherwise: `ip tuntap delete dev " + name + " mode tun`, then `ip tuntap add dev " + name + " mode tun multi_queue`"
	}
	if next == "" {
		return fmt.Errorf("open TUN device %s: %w", name, err)
	}
	return fmt.Errorf("open TUN device %s: %w: %s", name, err, next)
}

// holder names the processes that have the device open, as " (held by ...)"; empty if it
// finds none. The TUN driver writes the device's name to fdinfo.
func holder(name string) string {
	infos, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	var who []string
	seen := map[string]bool{}
	for _, info := range infos {
		b, err := os.ReadFile(info)
		if err != nil || !hasLine(string(b), "iff:\t"+name) {
			continue
		}
		pid := strings.Split(info, "/")[2]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		comm, _ := os.ReadFile("/proc/" + pid + "/comm")
		who = append(who, fmt.Sprintf("%q, process %s", strings.TrimSpace(string(comm)), pid))
	}
	if len(who) == 0 {
		return ""
	}
	return " (held by " + strings.Join(who, "; ") + ")"
}

func hasLine(text, line string) bool {
	for l := range strings.Lines(text) {
		if strings.TrimRight(l, "\n") == line {
			return true
		}
	}
	return false
}

// checkName says whether the kernel would accept name for an interface (dev_valid_name)
// literally: in "%d" the kernel would insert a number.
func checkName(name string) error {
	if name == "" || len(name) >= unix.IFNAMSIZ || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r%\x00") {
		return fmt.Errorf("%q is not the name of an interface: 1 to 15 bytes without blanks, '/', ':' and '%%'", name)
	}
	return nil
}
