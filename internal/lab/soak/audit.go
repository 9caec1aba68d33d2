package soak

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// tail reads the audit file as it grows and follows its rotation.
type tail struct {
	path string
	book *book
	// lose leaves one record out, once, where it is set.
	lose *atomic.Bool
}

// tailEvery is how often the file is checked. In that time the gateway cannot write rotateSize
// twice, so no rotated file is missed.
const tailEvery = 50 * time.Millisecond

func (t *tail) run(ctx context.Context) error {
	var f *os.File
	var r *bufio.Reader
	var part []byte // of a line that is not whole yet
	defer func() {
		if f != nil {
			_ = f.Close()
		}
	}()
	for {
		if f == nil {
			var err error
			if f, err = os.Open(t.path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if err == nil {
				r = bufio.NewReaderSize(f, 256<<10)
			} else {
				f = nil
			}
		}
		if f != nil {
			moved := t.moved(f) // asked first: then the reads below see all of the old file
			for {
				line, err := r.ReadBytes('\n')
				part = append(part, line...)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
				t.line(part)
				part = part[:0]
			}
			if moved {
				_ = f.Close()
				f = nil
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tailEvery):
		}
	}
}

// moved says whether the path names another file by now.
func (t *tail) moved(f *os.File) bool {
	now, err := os.Stat(t.path)
	mine, err2 := f.Stat()
	return err == nil && err2 == nil && !os.SameFile(now, mine)
}

func (t *tail) line(b []byte) {
	r, err := parseRecord(b)
	if err != nil {
		t.book.complain("a line of the audit log is no record: %v: %.200q", err, b)
		return
	}
	if t.lose != nil && t.lose.CompareAndSwap(true, false) {
		return
	}
	t.book.record(r)
}
