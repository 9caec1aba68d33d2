// Package readfile opens and reads the files that a configuration or a command
// line names. Whoever may write the directory of such a file can put anything
// in its place: a named pipe that nobody writes, a device that never ends, a
// file without end. So every file is opened here: only regular files, without
// waiting, and no further than a bound.
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

// ErrNotRegular says that the name leads to a directory, a named pipe, a socket or a
// device, or to a file of the kernel's that would have to be waited for.
var ErrNotRegular = errors.New("is not a regular file")

// ErrTooLarge says that the file, or what came instead of it, is longer than the
// bound.
var ErrTooLarge = errors.New("too large")

// chunk is how much is read between two looks at the context, in bytes, and
// the most that is taken ahead of what has arrived.
const chunk = 256 << 10

// Open opens a regular file for reading and says what it is. It never waits:
// not for a writer of a named pipe, not for a lease to be given back. A device
// is not even opened, for opening some of them does something. Symbolic links
// are followed. Errors name the file, and not the system call.
func Open(path string) (*os.File, fs.FileInfo, error) {
	before, err := os.Stat(path)
	if err != nil {
		return nil, nil, plain(err)
	}
	if !before.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s %w%s", path, ErrNotRegular, kind(before.Mode()))
	}
	// It may be another file by now: the open must not wait either.
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

// patience is how long a file of the kernel's is waited for. Some files of
// /proc and /sys call themselves regular, and reading them waits for news.
const patience = 5 * time.Second

// All reads a whole file of at most limit bytes. It stops at the end of ctx.
// room is asked for what is read, see From; it may be nil.
func All(ctx context.Context, path string, limit int64, room Room) (fs.FileInfo, []byte, error) {
	f, info, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	if info.Size() > limit {
		return info, nil, fmt.Errorf("%s is %w: %d bytes, at most %d", path, ErrTooLarge, info.Size(), limit)
	}
	if f.SetReadDeadline(time.Now().Add(patience)) == nil { // not of a plain file, which never waits
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

// Room is memory that is asked for before it is used. Take returns an error if
// there is none for n bytes more; Give returns n bytes.
type Room interface {
	Take(n int64) error
	Give(n int64)
}

// From reads r to its end, at most limit bytes, whatever its sender said of
// its length: memory grows as bytes arrive, at most 256 KiB ahead of them. room may
// be nil; what was taken of it is given back before From returns. The result is
// one copy of what came, so that twice its length is in use for a moment.
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
		// Small files are the rule: the first piece is small, too.
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

// fill is io.ReadFull, which would make an end that came too early of the
// reader's end and of its failure alike.
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
	}
	return all
}

// Names returns at most limit names of a directory's entries that are no
// directories, for a hint where a file is missing. Errors yield none.
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
