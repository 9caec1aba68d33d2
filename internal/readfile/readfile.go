// Package readfile opens and reads the files that a configuration or a command line names. Anyone
// who may write the directory of such a file can replace it by anything: a named pipe without a
// writer, a device that never ends, an endless file. So every file is opened here: only regular
// files, without blocking, and read up to a limit only.
package readfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotRegular says that the name leads to a directory, a named pipe, a socket or a device,
// or to a kernel file whose read blocks.
var ErrNotRegular = errors.New("is not a regular file")

// ErrTooLarge says that the file, or what replaced it, is longer than the limit.
var ErrTooLarge = errors.New("too large")

// chunk is how many bytes are read between two checks of the context, and the most memory that is
// allocated ahead of what has arrived.
const chunk = 256 << 10

// Open opens a regular file for reading and returns its FileInfo. It never blocks, neither for a
// writer of a named pipe nor for a lease. It does not open devices at all, because the open of
// some has an effect. It follows symbolic links. Errors name the file, and not the system call.
func Open(path string) (*os.File, fs.FileInfo, error) {
	before, err := os.Stat(path)
	if err != nil {
		return nil, nil, plain(err)
	}
	if !before.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s %w%s", path, ErrNotRegular, kind(before.Mode()))
	}
	// The file may have been replaced since Stat, so this open must not block either.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, plain(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s %w%s", path, ErrNotRegular, kind(info.Mode()))
	}
	if err != nil {
		_ = f.Close() // read only: nothing to lose
		return nil, nil, plain(err)
	}
	return f, info, nil
}

// patience is the timeout for kernel files. Some files of /proc and /sys claim to be regular, but
// a read of them waits for events.
const patience = 5 * time.Second

// All reads a whole file of at most limit bytes, and stops when ctx ends. It asks room for
// what it reads, see From; room may be nil.
func All(ctx context.Context, path string, limit int64, room Room) (fs.FileInfo, []byte, error) {
	f, info, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	if info.Size() > limit {
		return info, nil, fmt.Errorf("%s is %w: %d bytes, at most %d", path, ErrTooLarge, info.Size(), limit)
	}
	if f.SetReadDeadline(time.Now().Add(patience)) == nil { // fails for a plain file, which never blocks
		defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })()
	}
	data, err := From(ctx, f, limit, room)
	switch {
	case ctx.Err() != nil:
		return info, nil, context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return info, nil, fmt.Errorf("%s %w: reading it waits for something", path, ErrNotRegular)
	case errors.Is(err, ErrTooLarge):
		return info, nil, fmt.Errorf("%s is %w", path, err)
	case err != nil:
		return info, nil, plain(err)
	}
	return info, data, nil
}

// Room is memory that is asked for before it is used. Take returns an error if there is no room
// for n more bytes; Give returns n bytes.
type Room interface {
	Take(n int64) error
	Give(n int64)
}

// From reads r to its end, at most limit bytes, whatever length its sender has announced: memory
// grows as bytes arrive, at most 256 KiB ahead of them. room may be nil; From gives back all that
// it took of it before it returns. The result is a copy, so for a moment twice its length is in
// use.
func From(ctx context.Context, r io.Reader, limit int64, room Room) ([]byte, error) {
	taken := int64(0)
	take := func(n int64) error {
		if room == nil {
			return nil
		}
		if err := room.Take(n); err != nil {
			return err
		}
		taken += n
		return nil
	}
	defer func() {
		if room != nil {
			room.Give(taken)
		}
	}()
	var parts [][]byte
	total := int64(0)
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		// Most files are small, so the first piece is small too.
		size := min(max(total, 4<<10), chunk)
		if err := take(size); err != nil {
			return nil, err
		}
		part := make([]byte, size)
		n, err := fill(r, part)
		total += int64(n)
		parts = append(parts, part[:n])
		switch {
		case total > limit:
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		case err == io.EOF: //nolint:errorlint // the end itself; a wrapped one is a failure
			if err := take(total); err != nil {
				return nil, err
			}
			return join(parts, total), nil
		case err != nil:
			return nil, err
		}
	}
}

// fill is like io.ReadFull, but keeps the reader's end and its failure apart when they come
// early.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

func join(parts [][]byte, total int64) []byte {
	if len(parts) == 1 {
		return parts[0]
	}
	all := make([]byte, 0, total)
	for _, p := range parts {
		all = append(all, p...)
		clear(p) // it may be a piece of a key, and whoever clears the text clears all of it
	}
	return all
}

// Names returns at most limit names of a directory's entries that are no directories, for a hint
// about a missing file. On errors it returns none.
func Names(dir string, limit int) []string {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_NONBLOCK|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	entries, err := f.ReadDir(limit)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return ", it is a directory"
	case m&fs.ModeNamedPipe != 0:
		return ", it is a named pipe"
	case m&fs.ModeSocket != 0:
		return ", it is a socket"
	case m&fs.ModeDevice != 0:
		return ", it is a device"
	}
	return ""
}

// plain drops the name of the system call.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Path, p.Err)
	}
	return err
}
