package service

import (
	"fmt"
	"io"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/config"
)

// openRecords opens the audit log that the configuration names.
func openRecords(c *config.Audit, stdout io.Writer, log *zap.Logger) (*audit.Log, error) {
	onFull, err := audit.ParseOnFull(c.OnFull)
	if err != nil {
		return nil, err
	}
	ac := audit.Config{Queue: c.Queue, OnFull: onFull, Log: log, Name: "standard output"}
	switch {
	case c.Journal:
		ac.Sink, err = audit.OpenJournal("")
	case c.Syslog != "":
		ac.Sink, err = audit.OpenSyslog(c.Syslog)
	case c.File == "-" || c.File == "":
		ac.Sink = audit.NewStream(stdout)
	default:
		ac.Sink, err = audit.OpenFile(c.File, audit.Rotate{
			Size: int64(c.Rotate.Size), Keep: c.Rotate.Keep,
			// With the default number, files with higher numbers may be those of logrotate.
			Prune: c.Rotate.Keep != config.DefaultRotateKeep,
		})
	}
	if err != nil {
		return nil, err
	}
	if s, ok := ac.Sink.(fmt.Stringer); ok {
		ac.Name = s.String()
	}
	return audit.Start(ac), nil
}
