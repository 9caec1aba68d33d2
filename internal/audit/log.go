// Package audit writes one record a flow: who connected where, which of the
// nine steps happened, which rule decided and why. It never holds payload and
// never keys. docs/audit.md lists the fields.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// OnFull is what happens while records cannot be written and the queue of
// those that wait has no room.
type OnFull uint8

// What can happen. Refuse is the zero value: nobody passes unrecorded.
const (
	// Refuse refuses new flows from the first record that cannot be written;
	// live flows wait with theirs.
	Refuse OnFull = iota
	// Block lets flows wait: new ones with their handshake, at most as long as
	// it may take, ended ones with their record.
	Block
	// Drop lets flows pass and loses records. They are counted.
	Drop
)

// ParseOnFull knows the words of the configuration.
func ParseOnFull(s string) (OnFull, error) {
	switch s {
	case "refuse":
		return Refuse, nil
	case "block":
		return Block, nil
	case "drop":
		return Drop, nil
	}
	return Refuse, fmt.Errorf("%q is none of block, drop, refuse", s)
}

// String is the word of the configuration.
func (o OnFull) String() string {
	switch o {
	case Block:
		return "block"
	case Drop:
		return "drop"
	default:
		return "refuse"
	}
}

var (
	// ErrLost is returned by Write for a record that found no room. It is
	// counted, and logged at a bounded rate.
	ErrLost = errors.New("audit record lost")
	// ErrUnavailable is returned by Admit while records cannot be written.
	ErrUnavailable = errors.New("audit records cannot be written")
)

// Log is where the records go: one JSON object a line. It is safe for
// concurrent use.
type Log struct {
	enc   zapcore.Encoder
	queue *queue // nil: written at once
	sink  Sink

	direct sync.Mutex // over sink where there is no queue
}

// Sink is where lines go. One goroutine at a time calls it.
type Sink interface {
	// Write writes a whole line, which ends in a newline, or nothing of it as
	// far as it can: after an error the same line comes again.
	Write(line []byte) error
	// Reopen begins a new file where there is one.
	Reopen() error
	Close() error
}

// linesSink is a Sink that can write several lines at once. It says how many
// were written; the others come again.
type linesSink interface {
	WriteLines(lines [][]byte) (int, error)
}

// troubledSink is a Sink that may have something to complain of although it
// takes every record.
type troubledSink interface{ Trouble() error }

// New writes to w at once, and never closes it.
func New(w io.Writer) *Log { return &Log{enc: newEncoder(), sink: &stream{w: w}} }

func newEncoder() zapcore.Encoder {
	return zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
}

// Admit says whether a new flow may begin, nil means it may. With Block it
// waits until there is room for a record, the deadline has come or ctx ends.
func (l *Log) Admit(ctx context.Context, deadline time.Time) error {
	if l.queue == nil {
		return nil
	}
	return l.queue.admit(ctx, deadline)
}

// Refusing says whether new flows are to be refused now. It never blocks.
func (l *Log) Refusing() bool { return l.queue != nil && l.queue.refusing() }

// Write appends the record. The record of a flow that was let through waits
// for room, unless the log may drop it. ErrLost, or another error of a log
// without a queue, means that the record is lost.
func (l *Log) Write(r *Record) error {
	// Not of a Clone, whose buffer nobody gives back.
	buf, err := l.enc.EncodeEntry(zapcore.Entry{Message: "flow"}, []zapcore.Field{zap.Inline(r)})
	if err != nil {
		return fmt.Errorf("encode audit record: %w", err)
	}
	defer buf.Free()
	if l.queue == nil {
		l.direct.Lock()
		defer l.direct.Unlock()
		return l.sink.Write(buf.Bytes())
	}
	return l.queue.put(append([]byte(nil), buf.Bytes()...), r.Verdict() == "allowed")
}

// Stats is how the log stands. A log without a queue has only zeros.
func (l *Log) Stats() Stats {
	if l.queue == nil {
		return Stats{}
	}
	return l.queue.stats()
}

// Reopen begins the file anew under its name, for whoever moves it away by
// itself. What is queued goes to the new one.
func (l *Log) Reopen() {
	if l.queue != nil {
		l.queue.askReopen()
	}
}

// Release lets nobody wait any longer: from here on a record that finds no
// room is lost. It is for a stop, so that a sink that is stuck does not hold
// it up.
func (l *Log) Release() {
	if l.queue != nil {
		l.queue.release()
	}
}

// Close writes what is queued and closes the sink. The error says how many
// records were lost by that.
func (l *Log) Close() error {
	if l.queue != nil {
		return l.queue.close()
	}
	return l.sink.Close()
}
