// Package audit writes one record for each flow: who connected where, which of the nine
// steps happened, which rule decided and why. A record never holds payload or keys.
// docs/audit.md lists the fields.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// OnFull is what happens while records cannot be written and the queue of waiting records
// is full.
type OnFull uint8

// The values of OnFull. Refuse is the zero value: no flow passes unrecorded.
const (
	// Refuse refuses new flows from the first record that cannot be written. Live flows
	// wait with their records.
	Refuse OnFull = iota
	// Block makes flows wait: new ones with their handshake, at most until its deadline,
	// ended ones with their record.
	Block
	// Drop lets flows pass and loses records. Lost records are counted.
	Drop
)

// ParseOnFull parses the words of the configuration.
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
	queue *queue // nil: records are written directly
	sink  Sink
	seq   atomic.Uint64 // of the last record; stays 0 without a queue

	direct sync.Mutex // guards sink if there is no queue
}

// Sink is where lines go. One goroutine at a time calls it.
type Sink interface {
	// Write writes a whole line, which ends in a newline, or, as far as possible, nothing
	// of it: after an error the same line is written again.
	Write(line []byte) error
	// Reopen begins a new file, if the sink has files.
	Reopen() error
	Close() error
}

// linesSink is a Sink that can write several lines at once. It returns how many were
// written; the others are written again.
type linesSink interface {
	WriteLines(lines [][]byte) (int, error)
}

// troubledSink is a Sink that may have a problem to report although it takes every record.
type troubledSink interface{ Trouble() error }

// New returns a log that writes to w directly, and never closes w.
func New(w io.Writer) *Log { return &Log{enc: newEncoder(), sink: &stream{w: w}} }

func newEncoder() zapcore.Encoder {
	return zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
}

// Admit returns nil if a new flow may begin. With Block it waits until there is room for a
// record, until the deadline, or until ctx ends.
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
// without a queue, means that the record is lost. A log with a queue numbers the record (Seq);
// records of different goroutines may be written in another order.
func (l *Log) Write(r *Record) error {
	if l.queue != nil {
		r.Seq = l.seq.Add(1)
	}
	// Do not clone the encoder: nobody would give the buffer of a clone back.
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

// Stats returns the state of the log: all zero for a log without a queue.
func (l *Log) Stats() Stats {
	if l.queue == nil {
		return Stats{}
	}
	return l.queue.stats()
}

// Reopen begins a new file under the same name, after something else has moved the file away.
// Queued records go to the new file.
func (l *Log) Reopen() {
	if l.queue != nil {
		l.queue.askReopen()
	}
}

// Release ends all waits: from now on a record that finds no room is lost. It is for a stop,
// which a stuck sink must not delay.
func (l *Log) Release() {
	if l.queue != nil {
		l.queue.release()
	}
}

// Close writes what is queued and closes the sink. The error says how many records were
// lost by that.
func (l *Log) Close() error {
	if l.queue != nil {
		return l.queue.close()
	}
	return l.sink.Close()
}
