package signer

import (
	"fmt"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// Undumpable keeps what this process has in memory from everybody but root: no core dump has
// it, and no other process of the same user may read it or attach to it (PR_SET_DUMPABLE,
// prctl(2); ptrace(2)). It is called before a key is read.
func Undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep keys out of core dumps: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("keep keys out of core dumps: %w", err)
	}
	return nil
}

// UserOf is the number of a user, who is given by name or number.
func UserOf(who string) (uint32, error) {
	if n, err := strconv.ParseUint(who, 10, 32); err == nil {
		return uint32(n), nil
	}
	u, err := user.Lookup(who)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("user %q has the number %q: %w", who, u.Uid, err)
	}
	return uint32(n), nil
}
