package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// insideEnv marks the copy of the program that Reexec started, so that the copy never starts
// another.
const insideEnv = "SSLGATE_LAB_INSIDE"

// tunDevice is opened to find out whether this user may make TUN devices.
const tunDevice = "/dev/net/tun"

// NeedReexec says whether this user has to go through Reexec to make a lab.
func NeedReexec() bool { return os.Geteuid() != 0 && os.Getenv(insideEnv) == "" }

// Reexec runs this program again with the given arguments as root of a new user, network and
// mount namespace, and returns its exit code. So a normal user gets a lab. If the machine
// does not allow that, the error wraps ErrHelp and is one sentence that says what to do.
func Reexec(args []string, stdout, stderr io.Writer) (int, error) {
	if err := tunUsable(); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// The parent death signal is sent when the *thread* that started the
	// child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("normal users may not make user namespaces here (%w): use `sudo scripts/demo`: %w", err, ErrHelp)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Inside prepares the copy that Reexec started; elsewhere it does nothing. Call it before any use
// of package net: Go checks only once whether ::1 can be bound, and the loopback of the new
// namespace is still down.
func Inside() error {
	if os.Getenv(insideEnv) == "" {
		return nil
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring the loopback up in the new namespace: %w", err)
	}
	return nil
}

// mayMake says in one sentence why this user cannot make a lab, nil if it can.
func mayMake() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("network namespaces can be made by root only: use sudo: %w", ErrHelp)
	}
	err := make(chan error)
	go onThread(func() { err <- unix.Unshare(unix.CLONE_NEWNET) })
	if err := <-err; err != nil {
		return fmt.Errorf("this machine (a container?) does not let root make network namespaces (%w): run it on a real or virtual machine: %w", err, ErrHelp)
	}
	return tunUsable()
}

func tunUsable() error {
	f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s may not be used by this user: run `sudo scripts/demo`, or `sudo chmod 0666 %s` first: %w", tunDevice, tunDevice, ErrHelp)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s is missing: type `sudo modprobe tun` (in a container, pass the device in): %w", tunDevice, ErrHelp)
	}
	return fmt.Errorf("%s cannot be used (%w): %w", tunDevice, err, ErrHelp)
}
