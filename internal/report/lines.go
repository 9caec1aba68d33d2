package report

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/sslgate/sslgate/internal/readfile"
)

const (
	// maxLine bounds a line in bytes: a record with both ledgers is a few KiB.
	maxLine = 1 << 20
	// readBuffer is what one read of a file asks for, in bytes.
	readBuffer = 256 << 10
	// maxNamed bounds how many damaged lines are named. All are counted.
	maxNamed = 20
	// tellEvery is how many lines lie between two calls of Reader.Tell.
	tellEvery = 4096
)

// Progress is how far a Reader has come.
type Progress struct {
	File       string // that is read now
	At, Of     int    // its number from 1, and how many there are
	Lines      int64
	Bytes      int64 // of JSON, after decompression
	Compressed int64 // as they are in the files
}

// Damage names a line that is no record.
type Damage struct {
	Place string `json:"place"` // "audit.jsonl:17"
	Why   string `json:"why"`
}

// Reader reads the lines of audit logs, one file after the other: plain ones, and those that
// gzip, zstd or bzip2 has compressed, whatever their names are.
type Reader struct {
	// Stdin is what the name "-" means.
	Stdin io.Reader
	// Tell is called now and then; nil: never.
	Tell func(Progress)

	// Damaged are the first lines that are no records; Bad counts all of them.
	Damaged []Damage
	Bad     int64
	// Twice are the names of files that were given before, and are read once.
	Twice []string

	read     []os.FileInfo
	progress Progress
}

// Lines is how many lines were read.
func (r *Reader) Lines() int64 { return r.progress.Lines }

// Each calls f with each line of the files, without its end. An error of f says that the
// line is no record: it is named, and the next one follows. Each returns an error if a file
// cannot be opened, or ctx ends. A file that ends early (compressed, and cut) is damaged
// from there on, which is named too. The line is only good during the call.
func (r *Reader) Each(ctx context.Context, files []string, f func(line []byte) error) error {
	for i, name := range files {
		r.progress.File, r.progress.At, r.progress.Of = name, i+1, len(files)
		if err := r.file(ctx, name, f); err != nil {
			return err
		}
	}
	r.tell()
	return nil
}

func (r *Reader) tell() {
	if r.Tell != nil {
		r.Tell(r.progress)
	}
}

func (r *Reader) file(ctx context.Context, name string, f func([]byte) error) error {
	from := r.Stdin
	if name != "-" {
		file, info, err := readfile.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		if slices.ContainsFunc(r.read, func(o os.FileInfo) bool { return same(o, info) }) {
			r.Twice = append(r.Twice, name)
			return nil
		}
		r.read = append(r.read, info)
		from = file
	}
	unpacked, done, err := Unpack(&counted{from, &r.progress.Compressed})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer done()
	in := lines{ctx: ctx, in: bufio.NewReaderSize(&counted{unpacked, &r.progress.Bytes}, readBuffer), tell: r.tell}
	for n := int64(1); ; n++ {
		line, err := in.next()
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if len(line) > 0 {
			r.progress.Lines++
			why := f
			if in.long {
				why = func([]byte) error { return errors.New("longer than 1 MiB") }
			}
			if err := why(line); err != nil {
				r.damaged(name, n, err)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		default:
			r.Bad++
			r.name(name, n, fmt.Errorf("the rest cannot be read: %w", err))
			return nil
		}
	}
}

// same says whether a file is what was read before. One that has changed meanwhile is not: it
// has more, or its inode is another's now.
func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// lines cuts what is read into lines.
type lines struct {
	ctx  context.Context
	in   *bufio.Reader
	tell func()
	long bool // the last one was too long, and is not whole
	n    int
}

// next returns the next line without its end. Of one that is too long only the beginning is
// returned, and the rest is passed over. An error of the context ends it in the middle of a
// line too: one may be of any length.
func (l *lines) next() (line []byte, err error) {
	l.long = false
	part, err := l.part()
	if !errors.Is(err, bufio.ErrBufferFull) {
		return bytes.TrimRight(part, "\r\n"), err
	}
	line = bytes.Clone(part)
	for errors.Is(err, bufio.ErrBufferFull) {
		part, err = l.part()
		if l.long = l.long || len(line)+len(part) > maxLine; !l.long {
			line = append(line, part...)
		}
	}
	return bytes.TrimRight(line, "\r\n"), err
}

// part is a line, or as much of it as fits into the buffer.
func (l *lines) part() ([]byte, error) {
	part, err := l.in.ReadSlice('\n')
	if l.n++; l.n%tellEvery == 0 || errors.Is(err, bufio.ErrBufferFull) {
		if l.ctx.Err() != nil {
			return part, context.Cause(l.ctx)
		}
		l.tell()
	}
	return part, err
}

func (r *Reader) damaged(name string, n int64, why error) {
	if r.Bad++; len(r.Damaged) < maxNamed {
		r.name(name, n, why)
	}
}

// name says what is wrong where, however much was named before.
func (r *Reader) name(name string, n int64, why error) {
	r.Damaged = append(r.Damaged, Damage{Place: fmt.Sprintf("%s:%d", name, n), Why: why.Error()})
}

// counted counts the bytes that are read.
type counted struct {
	io.Reader
	n *int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	*c.n += int64(n)
	return n, err
}
