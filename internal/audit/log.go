// Package audit writes one record a flow: who connected where, which of the
// nine steps happened, which rule decided and why. It never holds payload and
// never keys. docs/audit.md lists the fields.
package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Log is where the records go: one JSON object a line. It is safe for
// concurrent use.
type Log struct {
	zap  *zap.Logger
	sink *sink
}

// Open appends to the file (mode 0600: records name people), or writes to
// stdout for "-".
func Open(path string, stdout io.Writer) (*Log, error) {
	if path == "" || path == "-" {
		return New(stdout), nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open audit file: %w", err)
	}
	return New(f), nil
}

// New writes to w, and closes it on Close if it is an io.Closer other than
// standard output.
func New(w io.Writer) *Log {
	s := &sink{w: w}
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
	return &Log{sink: s, zap: zap.New(zapcore.NewCore(enc, s, zapcore.InfoLevel))}
}

// Write appends the record. An error means that the record, or a part of it,
// is lost.
func (l *Log) Write(r *Record) error {
	l.zap.Info("flow", zap.Inline(r))
	return l.sink.takeErr()
}

// Close closes the file.
func (l *Log) Close() error { return l.sink.close() }

// sink keeps the write error that zap would only print to standard error.
type sink struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.w.Write(p)
	s.err = errors.Join(s.err, err)
	return n, err
}

func (s *sink) Sync() error { return nil }

func (s *sink) takeErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	s.err = nil
	return err
}

func (s *sink) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.w.(io.Closer); ok && s.w != io.Writer(os.Stdout) {
		return c.Close()
	}
	return nil
}
