// Package applog is the log of a running gateway: what it reports about itself on standard error.
// The actions of each flow do not belong here (they are in the audit record), and nothing that
// clients do may fill the log.
package applog

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/internal/escape"
)

// New returns a logger to w and the handle that changes its level at run time. level is a word of
// zap, format "console" or "json". If w is the journal, each line begins with its priority as in
// sd-daemon(3) and has no time of its own. Call Sync at the end: it writes the last counts of
// messages left out.
func New(level, format string, w io.Writer) (*zap.Logger, zap.AtomicLevel) {
	ec := zap.NewProductionEncoderConfig()
	ec.EncodeTime = zapcore.ISO8601TimeEncoder
	ec.EncodeDuration = zapcore.StringDurationEncoder
	journal := IsJournal(w)
	if journal {
		ec.TimeKey = zapcore.OmitKey
	}
	enc := zapcore.NewConsoleEncoder(ec)
	if format == "json" {
		enc = zapcore.NewJSONEncoder(ec)
	}
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		l = zapcore.InfoLevel // the check of the configuration refuses any other word
	}
	atomic := zap.NewAtomicLevelAt(l)
	core := zapcore.NewCore(oneLine{enc, journal, buffer.NewPool()}, zapcore.Lock(zapcore.AddSync(w)), atomic)
	return zap.New(newBound(core)), atomic
}

// oneLine writes an entry on one line, whatever its message holds: messages of net/http quote
// what peers sent.
type oneLine struct {
	zapcore.Encoder
	journal bool
	pool    buffer.Pool
}

// Clone is of zapcore.Encoder.
func (o oneLine) Clone() zapcore.Encoder { return oneLine{o.Encoder.Clone(), o.journal, o.pool} }

// EncodeEntry is of zapcore.Encoder.
func (o oneLine) EncodeEntry(e zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	e.Message = escape.String(e.Message, maxMessage)
	b, err := o.Encoder.EncodeEntry(e, fields)
	if err != nil || !o.journal {
		return b, err
	}
	out := o.pool.Get()
	out.AppendString(prefix(e.Level))
	out.AppendString(b.String())
	b.Free()
	return out, nil
}

// maxMessage bounds a message in bytes; the stack trace of net/http is the longest.
const maxMessage = 8 << 10

// prefix is the priority of a level (sd-daemon(3), syslog(3)).
func prefix(l zapcore.Level) string {
	switch {
	case l >= zapcore.DPanicLevel:
		return "<2>"
	case l == zapcore.ErrorLevel:
		return "<3>"
	case l == zapcore.WarnLevel:
		return "<4>"
	case l == zapcore.InfoLevel:
		return "<6>"
	}
	return "<7>"
}

// IsJournal says whether what is written to w goes to systemd's journal, which
// sets JOURNAL_STREAM to the device and inode of the stream (systemd.exec(5)).
func IsJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	device, inode, ok := strings.Cut(os.Getenv("JOURNAL_STREAM"), ":")
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && device == strconv.FormatUint(st.Dev, 10) && inode == strconv.FormatUint(st.Ino, 10)
}

// At returns w for plain lines of that level. If w is the journal, lines get their priority. Each
// write must consist of whole lines.
func At(l zapcore.Level, w io.Writer) io.Writer {
	if !IsJournal(w) {
		return w
	}
	return prefixed{prefix(l), w}
}

type prefixed struct {
	prefix string
	w      io.Writer
}

func (p prefixed) Write(b []byte) (int, error) {
	var out bytes.Buffer
	for line := range bytes.Lines(b) {
		fmt.Fprintf(&out, "%s%s", p.prefix, line)
	}
	if _, err := p.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}
