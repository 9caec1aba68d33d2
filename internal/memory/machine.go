package memory

import (
	"bytes"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
)

// DefaultCeiling is three quarters of the machine's memory, or of the limit of the
// process's control group if that is less, in bytes; 0 if neither is known.
func DefaultCeiling() int64 { return defaultCeiling("/") }

func defaultCeiling(root string) int64 {
	have := int64(math.MaxInt64)
	if text, err := os.ReadFile(filepath.Join(root, "proc/meminfo")); err == nil {
		if n := memTotal(text); n > 0 {
			have = n
		}
	}
	// Only version 2 of control groups is read: each group up to the root may have a
	// limit.
	if text, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup")); err == nil {
		for line := range bytes.Lines(text) {
			name, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("0::"))
			if !ok {
				continue
			}
			for dir := path.Clean("/" + string(name)); ; dir = path.Dir(dir) {
				if n := number(filepath.Join(root, "sys/fs/cgroup", dir, "memory.max")); n > 0 {
					have = min(have, n)
				}
				if dir == "/" {
					break
				}
			}
		}
	}
	if have == math.MaxInt64 {
		return 0
	}
	return have / 4 * 3
}

func number(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0 // "max"
	}
	return n
}

// memTotal is MemTotal of /proc/meminfo in bytes (proc_meminfo(5)).
func memTotal(text []byte) int64 {
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "MemTotal:" && string(f[2]) == "kB" {
			n, err := strconv.ParseInt(string(f[1]), 10, 64)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}
