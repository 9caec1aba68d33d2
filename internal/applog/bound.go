package applog

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/internal/escape"
)

const (
	// Every and Most bound the log: of one message, whatever its fields are, no
	// more than Most are written in Every, and one that counts the rest when the time is
	// over, or at the end.
	Every = 10 * time.Second
	// Most is more than anything but a fault or an attack says in that time. At
	// some 300 bytes a line, one message writes 30 KB in ten seconds, 260 MB a day.
	Most = 100

	// LeftOut is the message that counts them.
	LeftOut = "log messages left out: too many of them"

	// maxMessages bounds what is counted at a time. The program has fewer messages; the
	// rest is counted as one.
	maxMessages = 4096
	others      = "(other messages)"
)

// subjects are fields that tell messages apart: what they name stands in the
// configuration or was signed by a CA of it, and something may be said of each of them once.
const subjects = " authority source list file "

// bound is a core with that bound.
type bound struct {
	zapcore.Core
	counts *counts
}

func newBound(core zapcore.Core) bound {
	return bound{core, &counts{core: core, windows: map[string]*window{}, after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}}
}

// With is of zapcore.Core.
func (b bound) With(fields []zapcore.Field) zapcore.Core { return bound{b.Core.With(fields), b.counts} }

// Check is of zapcore.Core.
func (b bound) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return ce.AddCore(e, b)
	}
	return ce
}

// Write is of zapcore.Core.
func (b bound) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if !b.counts.may(e, fields) {
		return nil
	}
	return b.Core.Write(e, fields)
}

// Sync is of zapcore.Core. It says what was left out and not said yet.
func (b bound) Sync() error {
	b.counts.tell(time.Now(), true)
	return b.Core.Sync()
}

// window is the time in which one message is counted.
type window struct {
	message      string
	began        time.Time
	written      int
	left         uint64
	first, final time.Time // of those that were left out
}

// counts has the windows.
type counts struct {
	core  zapcore.Core // to say what was left out, past the bound
	after func(time.Duration, func())

	mu      sync.Mutex
	windows map[string]*window
	timed   bool // a call of tell is to come
}

// may counts a message, and says whether it is written.
func (c *counts) may(e zapcore.Entry, fields []zapcore.Field) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := keyOf(e.Message, fields)
	w := c.windows[key]
	if w == nil && len(c.windows) >= maxMessages {
		c.forget(e.Time)
	}
	if w == nil && len(c.windows) >= maxMessages {
		key, e.Message = others, others
		w = c.windows[key]
	}
	if w == nil || e.Time.Sub(w.began) >= Every {
		if w != nil {
			c.say(w, e.Time)
		}
		w = &window{message: e.Message, began: e.Time}
		c.windows[key] = w
	}
	if w.written < Most {
		w.written++
		return true
	}
	if w.left++; w.left == 1 {
		w.first = e.Time
	}
	w.final = e.Time
	if !c.timed {
		c.timed = true
		c.after(Every-min(e.Time.Sub(w.began), Every), func() { c.tell(time.Now(), false) })
	}
	return false
}

func keyOf(message string, fields []zapcore.Field) string {
	var key strings.Builder
	key.WriteString(message)
	for _, f := range fields {
		if !strings.Contains(subjects, " "+f.Key+" ") {
			continue
		}
		switch f.Type {
		case zapcore.StringType:
			key.WriteString("\x00" + f.String)
		case zapcore.StringerType:
			_, _ = fmt.Fprintf(&key, "\x00%v", f.Interface) // a builder takes everything
		}
	}
	return key.String()
}

// tell says what was left out in windows that are over, or in all.
func (c *counts) tell(now time.Time, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timed = false
	next := time.Duration(-1)
	for key, w := range c.windows {
		left := Every - now.Sub(w.began)
		switch {
		case all || left <= 0:
			c.say(w, now)
			if left <= 0 {
				delete(c.windows, key)
			}
		case w.left > 0 && (next < 0 || left < next):
			next = left
		}
	}
	if next >= 0 {
		c.timed = true
		c.after(next, func() { c.tell(time.Now(), false) })
	}
}

// forget makes room: windows that are over are of no use.
func (c *counts) forget(now time.Time) {
	for key, w := range c.windows {
		if now.Sub(w.began) >= Every {
			c.say(w, now)
			delete(c.windows, key)
		}
	}
}

// say writes how many were left out in a window, once.
func (c *counts) say(w *window, now time.Time) {
	if w.left == 0 {
		return
	}
	// An error of this one would be met by the next message too.
	_ = c.core.Write(zapcore.Entry{Level: zapcore.WarnLevel, Time: now, Message: LeftOut}, []zapcore.Field{
		zap.String("such_as", w.message), zap.Int("written", w.written), zap.Uint64("left_out", w.left), zap.Duration("within", Every),
		zap.Time("first", w.first), zap.Time("last", w.final),
	})
	w.left = 0
}

// AsDetail is a logger for what words each of its messages anew, such as net/http, which
// puts into them what callers sent: all are the one message, with theirs as detail, and
// so within one bound.
func AsDetail(l *zap.Logger, message string) *zap.Logger {
	return l.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return asDetail{c, message} }))
}

type asDetail struct {
	zapcore.Core
	message string
}

func (a asDetail) With(fields []zapcore.Field) zapcore.Core {
	return asDetail{a.Core.With(fields), a.message}
}

func (a asDetail) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if a.Enabled(e.Level) {
		return ce.AddCore(e, a)
	}
	return ce
}

func (a asDetail) Write(e zapcore.Entry, fields []zapcore.Field) error {
	detail := zap.String("detail", escape.String(e.Message, maxMessage))
	e.Message = a.message
	if ce := a.Core.Check(e, nil); ce != nil {
		ce.Write(append(fields[:len(fields):len(fields)], detail)...)
	}
	return nil
}
