package bench

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine describes the machine of the measurements, and returns the CPUs to use: the first
// two that are allowed.
func machine() (about string, c cpus, err error) {
	all, err := allowedCPUs()
	if err != nil {
		return "", c, err
	}
	if len(all) < 2 {
		return "", c, fmt.Errorf("this process may use %d CPU, two are needed: load and origin on one, the gateway on the other", len(all))
	}
	c = cpus{load: all[0], gateway: all[1]}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", c, err
	}
	parts := []string{
		fmt.Sprintf("Linux %s, %s", unix.ByteSliceToString(u.Release[:]), cpuModel()),
		fmt.Sprintf("load and origin on CPU %d, gateway on CPU %d of %d", c.load, c.gateway, len(all)),
		runtime.Version(),
	}
	if out, err := exec.Command("haproxy", "-v").Output(); err == nil {
		line, _, _ := strings.Cut(string(out), "\n")
		line, _, _ = strings.Cut(line, " 20") // the date of the release
		parts = append(parts, line)
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ := strings.Cut(string(text), " ")
		parts = append(parts, "load average before "+load)
	}
	return strings.Join(parts, "; "), c, nil
}

// cpuModel is the "model name" of /proc/cpuinfo; other architectures than x86
// may have none.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimLeft(strings.TrimSpace(name), ": \t")
		}
	}
	return runtime.GOARCH
}
