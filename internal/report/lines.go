package report

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sslgate/sslgate/internal/readfile"
)

const (
	// maxLine bounds a line in bytes: a record with both ledgers is a few KiB.
	maxLine = 1 << 20
	// readBuffer is what one read of a file asks for, in bytes.
	readBuffer = 256 << 10
	// maxNamed bounds how many damaged lines are named. All are counted.
	maxNamed = 20
	// tellEvery is how many lines lie between two calls of Reader.Progress.
	tellEvery = 4096
)

// Progress is how far a Reader has come.
type Progress struct {
	File       string // that is read now
	At, Of     int    // its number from 1, and how many there are
	Lines      int64
	Bytes      int64 // of JSON, after decompression
	Compressed int64 // bytes of all files that were read
}

// Damage names a line that is no record.
type Damage struct {
	Place string `json:"place"` // "audit.jsonl:17"
	Why   string `json:"why"`
}

// Reader reads the lines of audit logs, one file after the other: plain ones, and those
// that gzip has compressed, whatever their names are.
type Reader struct {
	// Stdin is what the name "-" means.
	Stdin io.Reader
	// Tell is called now and then; nil: never.
	Tell func(Progress)

	// Damaged are the first lines that are no records; Bad counts all of them.
	Damaged []Damage
	Bad     int64

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
	in := r.Stdin
	if name != "-" {
		file, _, err := readfile.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	raw := bufio.NewReaderSize(&counted{in, &r.progress.Compressed}, readBuffer)
	plain := raw
	switch head, _ := raw.Peek(6); { // less in a shorter file
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}): // RFC 1952, section 2.3.1
		unpacked, err := gzip.NewReader(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		plain = bufio.NewReaderSize(unpacked, readBuffer)
	case other(head) != "":
		return fmt.Errorf("%s is compressed by %s: give it uncompressed, `%s -dc FILE | sslgate report ... -`", name, other(head), other(head))
	}
	for n := int64(1); ; n++ {
		if n%tellEvery == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.tell()
		}
		line, long, err := next(plain)
		if len(line) > 0 {
			r.progress.Lines++
			r.progress.Bytes += int64(len(line)) + 1
			why := error(nil)
			if long {
				why = errors.New("longer than 1 MiB")
			} else {
				why = f(line)
			}
			if why != nil {
				r.damaged(name, n, why)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			r.damaged(name, n, fmt.Errorf("the rest cannot be read: %w", err))
			return nil
		}
	}
}

// other is the program that has compressed a file, if it is none that is read here.
func other(head []byte) string {
	for magic, program := range map[string]string{"\x28\xb5\x2f\xfd": "zstd", "\xfd7zXZ\x00": "xz", "BZh": "bzip2", "\x04\x22\x4d\x18": "lz4"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return program
		}
	}
	return ""
}

// next returns the next line without its end. Of one that is too long only the beginning is
// returned, and the rest is passed over.
func next(r *bufio.Reader) (line []byte, long bool, err error) {
	line, err = r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) { // longer than the buffer: copy
		line = bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			var more []byte
			more, err = r.ReadSlice('\n')
			if long = long || len(line)+len(more) > maxLine; !long {
				line = append(line, more...)
			}
		}
	}
	return bytes.TrimRight(line, "\r\n"), long, err
}

func (r *Reader) damaged(name string, n int64, why error) {
	r.Bad++
	if len(r.Damaged) < maxNamed {
		r.Damaged = append(r.Damaged, Damage{Place: fmt.Sprintf("%s:%d", name, n), Why: why.Error()})
	}
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
