package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// clockTick is the unit of the times in /proc/PID/stat: USER_HZ is 100 for
	// user space on every architecture that Go runs on (proc(5)).
	clockTick = time.Second / 100
	// maxFiles is the descriptor limit of everything that is started: 5,000
	// idle connections are 10,000 descriptors in a gateway.
	maxFiles = 65536
	// maxProcesses bounds how many children of a gateway are looked at.
	maxProcesses = 64
)

// Pin replaces this process by a program that runs on one CPU only, with room
// for maxFiles descriptors. It returns only if that fails.
func Pin(cpu int, argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	// The thread that calls execve becomes the process, with its affinity.
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("run on CPU %d: %w", cpu, err)
	}
	if err := allowFiles(); err != nil {
		return err
	}
	// A thread that is not the first has lost the parent death signal.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	return fmt.Errorf("exec %s: %w", path, syscall.Exec(path, argv, os.Environ()))
}

// allowFiles raises the descriptor limit to maxFiles, or as far as it may: root without
// CAP_SYS_RESOURCE (in a container) cannot raise it further.
func allowFiles() error {
	limit := syscall.Rlimit{Cur: maxFiles, Max: maxFiles}
	// Use package syscall: only with it Exec keeps the limit.
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	if errors.Is(err, syscall.EPERM) {
		if err = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
			limit.Cur = limit.Max
			err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
		}
	}
	if err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}

// allowedCPUs lists the CPUs this process may run on.
func allowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	var all []int
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	return all, nil
}

// processes lists a process and its descendants.
func processes(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all) && len(all) < maxProcesses; i++ {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", all[i], all[i]))
		if err != nil {
			continue // it has ended, or the kernel does not list children
		}
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

// cpuTime is the CPU time that a process, its living descendants and the
// children it has waited for have used.
func cpuTime(pid int) (time.Duration, error) {
	var sum time.Duration
	for i, p := range processes(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			if i > 0 {
				continue // a child that has just ended
			}
			return 0, err
		}
		t, err := parseStat(text)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// parseStat sums fields 14 to 17 of /proc/PID/stat: utime, stime, cutime,
// cstime (proc_pid_stat(5)). The name in field 2 may hold anything, so fields
// are counted from its closing parenthesis.
func parseStat(text []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return 0, errors.New("/proc/PID/stat: no name")
	}
	f := strings.Fields(string(text[end+1:]))
	if len(f) < 15 {
		return 0, fmt.Errorf("/proc/PID/stat: %d fields after the name", len(f))
	}
	var ticks int64
	for _, s := range f[11:15] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// pss is the proportional set size of a process and its descendants in bytes.
func pss(pid int) (int64, error) {
	var sum int64
	for i, p := range processes(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			if i > 0 {
				continue // a child that has just ended
			}
			return 0, err
		}
		n, err := parsePSS(text)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func parsePSS(text []byte) (int64, error) {
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("smaps_rollup: no Pss")
}
