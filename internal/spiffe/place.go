package spiffe

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Open says why others than root and the users named may put another socket in the place of one,
// "" where they may not: a directory of its path is theirs, or they may write in it. What cannot
// be looked at is not judged.
func Open(socket string, users ...int) string {
	if to, err := filepath.EvalSymlinks(filepath.Dir(socket)); err == nil {
		socket = filepath.Join(to, filepath.Base(socket))
	}
	for dir := filepath.Dir(socket); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return ""
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return ""
		}
		if owner := int(s.Uid); owner != 0 && !slices.Contains(users, owner) {
			return fmt.Sprintf("user %d owns %s, and may put another agent in the place of this one: let root own it", owner, dir)
		}
		if info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
			return fmt.Sprintf("%s is writable by others (%04o), who may put another agent in the place of this one: chmod go-w %[1]s", dir, info.Mode().Perm())
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}
