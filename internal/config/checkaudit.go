package config

import "github.com/sslgate/sslgate/internal/audit"

// minRotate keeps a small size from renaming files all the time.
const minRotate Size = 64 << 10

// checkAudit looks at the section audit without its file or sockets.
func (f *File) checkAudit(a *Audit) {
	_, err := audit.ParseOnFull(a.OnFull)
	f.check(err == nil, "audit.on_full", "wants %s, not %s", oneOf([]string{"refuse", "block", "drop"}), quote(a.OnFull))
	f.check(a.Queue >= 1 && a.Queue <= audit.MaxQueue, "audit.queue", "%d is out of range: 1 to %d", a.Queue, audit.MaxQueue)
	f.check(a.Rotate.Keep >= 1 && a.Rotate.Keep <= audit.MaxKeep, "audit.rotate.keep", "%d is out of range: 1 to %d", a.Rotate.Keep, audit.MaxKeep)
	f.check(a.Rotate.Size == 0 || a.Rotate.Size >= minRotate, "audit.rotate.size", "%s is less than %s", a.Rotate.Size, minRotate)
	f.check(a.File != "", "audit.file", `is empty: "-" is standard output`)
	f.check(!a.Journal || a.Syslog == "", "audit.syslog", "the records go to the journal already: choose one")
	f.check(!f.has("audit.file") || !a.Journal && a.Syslog == "", "audit.file", "the records go to the journal or syslog already: choose one")
	// The default is there for whatever the records go to.
	f.check(a.Rotate.Size == 0 || !f.has("audit.rotate.size") || a.File != "-" && !a.Journal && a.Syslog == "", "audit.rotate.size", "only a file can be rotated: name it in audit.file")
}
