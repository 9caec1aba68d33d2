package config

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/readfile"
)

// loading is what a configuration is read within: time, and memory that it
// borrows. A nil one has no bound.
type loading struct {
	ctx  context.Context // of this one call of CheckWithin, whose parts all have it at hand
	loan *memory.Loan
	err  error // why it stopped
}

// CheckWithin is Check where flows are alive: it stops when ctx ends, and takes
// the memory it needs of loan, whose context ctx is. The error says that it stopped;
// nothing was found out then.
func CheckWithin(ctx context.Context, loan *memory.Loan, path string, eng handshake.Engine) (*Runtime, []Finding, error) {
	in := &loading{ctx: ctx, loan: loan}
	f := loadIn(in, path)
	if in.over() {
		return nil, nil, in.err
	}
	rt, found := build(f, eng, time.Now())
	if in.over() {
		return nil, nil, in.err
	}
	f.in = nil
	return rt, found, nil
}

// over says that nothing more is to be done.
func (in *loading) over() bool {
	if in == nil {
		return false
	}
	if in.err == nil && in.ctx.Err() != nil {
		in.err = context.Cause(in.ctx)
	}
	return in.err != nil
}

// take asks for n bytes, and stops the loading where they are not to be had.
func (in *loading) take(n int64) bool {
	if in == nil {
		return true
	}
	if in.err == nil {
		in.stop(in.loan.Take(n))
	}
	return !in.over()
}

// stop notes an error that says nothing about the configuration; it says
// whether it was one.
func (in *loading) stop(err error) bool {
	if in == nil || !errors.Is(err, memory.ErrNoRoom) && (in.ctx.Err() == nil || !errors.Is(err, context.Cause(in.ctx))) {
		return false
	}
	if in.err == nil {
		in.err = err
	}
	return true
}

// context and room are for what reads and parses by itself.
func (in *loading) context() context.Context {
	if in == nil {
		return context.Background()
	}
	return in.ctx
}

func (in *loading) room() *memory.Loan {
	if in == nil {
		return nil
	}
	return in.loan
}

// read reads a whole file of at most limit bytes, and takes so many bytes for
// each of its own as are made of it.
func (in *loading) read(path string, limit, each int64) ([]byte, error) {
	_, text, err := readfile.All(in.context(), path, limit, in.room())
	if err == nil && in != nil {
		err = in.loan.Take(int64(len(text)) * each)
	}
	if in.stop(err) {
		return nil, fmt.Errorf("%s: not read: %w", path, err)
	}
	return text, err
}

// Ceiling is what limits.memory says, or what follows from the machine, in
// bytes; 0 where that is not known.
func (c *Config) Ceiling() int64 {
	if c.Limits.Memory != 0 {
		return int64(c.Limits.Memory)
	}
	return memory.DefaultCeiling()
}
