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
	// Every and Most bound the log: one message, whatever its fields are, is written at
	// most Most times within Every. One more line counts the rest when the time is over,
	// or at the end.
	Every = 10 * time.Second
	// Most is more than any message occurs in that time without a fault or an attack. At
	// some 300 bytes a line, one message writes 30 KB in ten seconds, 260 MB a day.
	Most = 100

	// LeftOut is the message that counts the rest.
	LeftOut = "log messages left out: too many of them"

	// maxMessages bounds the messages that are counted at a time. The program has fewer;
	// any beyond are counted as one.
	maxMessages = 4096
	others      = "(other messages)"
)

// subjects are fields that tell messages apart. Their values stand in the configuration or were
// signed by one of its CAs, and each value may have one such message.
const subjects = " authority source list file "

// bound is a core that keeps to that bound.
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

// Sync is of zapcore.Core. It also writes the counts that were not written yet.
func (b bound) Sync() error {
	b.counts.tell(time.Now(), true)
	return b.Core.Sync()
}

// window is the period in which one message is counted.
type window struct {
	message      string
	began        time.Time
	written      int
	left         uint64
	first, final time.Time // of those that were left out
}

// counts holds the windows.
type counts struct {
	core  zapcore.Core // writes the counts, not subject to the bound
	after func(time.Duration, func())

	mu      sync.Mutex
	windows map[string]*window
	timed   bool // a call of tell is scheduled
}

// may counts a message, and says whether it may be written.
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
			_, _ = fmt.Fprintf(&key, "\x00%v", f.Interface) // a strings.Builder returns no error
		}
	}
	return key.String()
}

// tell writes what was left out in windows that are over, or in all windows.
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

// forget makes room by removing windows that are over.
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
	// The next message would meet the same error.
	_ = c.core.Write(zapcore.Entry{Level: zapcore.WarnLevel, Time: now, Message: LeftOut}, []zapcore.Field{
		zap.String("such_as", w.message), zap.Int("written", w.written), zap.Uint64("left_out", w.left), zap.Duration("within", Every),
		zap.Time("first", w.first), zap.Time("last", w.final),
	})
	w.left = 0
}

// AsDetail returns a logger for code that words each message anew, such as net/http, which puts
// what callers sent into them. All of them become the one message, with their text as detail, and
// so are within one bound.
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
