package service

import (
	"path/filepath"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/config"
)

// readOnly is RODirs without the right to execute.
const readOnly = landlock.AccessFSSet(llsys.AccessFSReadFile | llsys.AccessFSReadDir)

// sandbox gives up, for good, what a running gateway does not need. It may read everything,
// because a reload may name any file that its user may read. It may write only where records,
// revocation lists and the admin socket go, and it may execute nothing. Kernels without Landlock
// (landlock(7), Linux 5.13) restrict less or nothing.
func (s *Service) sandbox() {
	rules := []landlock.Rule{landlock.PathAccess(readOnly, "/")}
	for _, dir := range append(writable(s.runtime().Config), s.opt.Writable...) {
		rules = append(rules, landlock.RWDirs(dir).IgnoreIfMissing())
	}
	if err := landlock.V7.BestEffort().RestrictPaths(rules...); err != nil {
		s.log.Warn("the file system is not restricted by Landlock", zap.Error(err))
	}
}

func writable(c *config.Config) []string {
	var dirs []string
	if c.Audit.File != "-" && !c.Audit.Journal && c.Audit.Syslog == "" {
		dirs = append(dirs, audit.Dirs(c.Audit.File)...)
	}
	if c.Admin.Socket != config.AdminOff {
		dirs = append(dirs, filepath.Dir(c.Admin.Socket))
	}
	if c.State != "" {
		dirs = append(dirs, c.State)
	}
	return dirs
}
