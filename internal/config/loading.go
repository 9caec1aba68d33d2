package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/policy"
)

// loading is what a configuration is read within: the snapshot of its files, time,
// and memory that it borrows. A nil one has no bound, and reads no file.
type loading struct {
	ctx   context.Context // of this one call of CheckWithin, whose parts all have it at hand
	loan  *memory.Loan
	err   error // why it stopped
	files *fileset.Snapshot
	// named are the files whose change may mend what is wrong, see Checked.Named.
	named []string
}

// Checked is what CheckWithin found out.
type Checked struct {
	// Runtime is nil if any finding is more than a warning.
	Runtime  *Runtime
	Findings []Finding
	// Named are the configuration, the files that it names and those that its shadow
	// names, as far as they could be read, each once: there or not, good or not.
	Named []string
}

// newLoading reads from src.
func newLoading(ctx context.Context, loan *memory.Loan, src fileset.Source) *loading {
	return &loading{ctx: ctx, loan: loan, files: fileset.New(src, fileset.MaxBytes)}
}

// CheckWithin is Check where flows are alive, and of files wherever they are: it stops
// when ctx ends, and takes the memory it needs of loan, whose context ctx is. The
// error says that it stopped; nothing was found out then.
func CheckWithin(ctx context.Context, loan *memory.Loan, src fileset.Source, path string, eng handshake.Engine) (Checked, error) {
	in := newLoading(ctx, loan, src)
	defer in.files.Close()
	in.named = []string{path}
	f := in.bundled(loadIn(in, path))
	if in.over() {
		return Checked{}, in.err
	}
	rt, found := build(f, eng, time.Now())
	if in.over() {
		return Checked{}, in.err
	}
	f.in = nil
	slices.Sort(in.named)
	return Checked{Runtime: rt, Findings: found, Named: slices.Compact(in.named)}, nil
}

// name notes the files that a configuration names; c has its paths resolved. Beside
// those of files() they are the shadow, which is one of Runtime.Files only once it
// was read, and the lists, which the checker reads again by itself once it has them.
func (in *loading) name(file string, c *Config) {
	in.named = append(in.named, files(file, c)...)
	if c.Shadow != "" {
		in.named = append(in.named, c.Shadow)
	}
	in.named = append(in.named, lists(c)...)
}

// expect says which files will be read of a configuration; c has its paths resolved.
func (in *loading) expect(c *Config) {
	for _, path := range slices.Concat(uses(c), lists(c)) {
		in.files.Expect(path)
	}
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

// What is taken for what is made of a configuration, in bytes. They are what was
// measured with files of ten thousand rules, identities or certificates, and some
// more.
const (
	// markCost is the tokens and the tree of a text in YAML, for each sign that
	// ends or begins a value (marks). They go when the values are decoded.
	markCost = 400
	// valueCost is the values and their places, for each such sign.
	valueCost = 150
	// aliasedCost is a value behind an alias.
	aliasedCost = 300
	// pemCost is what becomes of a byte of a PEM file: certificates, their names,
	// keys and pools.
	pemCost = 8
	// memberCost is what becomes of a byte of a set's file.
	memberCost = 6
	// ruleCost is a compiled rule, and expressionCost a byte of its expressions.
	ruleCost, expressionCost = 8 << 10, 512
)

// read reads a whole file of at most limit bytes, and takes each bytes for each
// of its own. All files of a configuration are read here or, with lists, in
// builder.lists, of the snapshot. Without an error the caller ends the use of the text
// with in.files.Done or DoneSecret.
func (in *loading) read(path string, limit, each int64) (fileset.File, error) {
	f, err := in.files.Read(in.context(), path, limit, in.room())
	if err == nil {
		if err = in.room().Take(int64(len(f.Text)) * each); err != nil {
			in.files.DoneSecret(path) // whatever it is
		}
	}
	if in.stop(err) {
		return fileset.File{}, fmt.Errorf("%s: not read: %w", path, err)
	}
	return f, err
}

// marks counts the signs that end or begin a value of a text in YAML.
func marks(text []byte) int64 {
	n := int64(0)
	for _, c := range text {
		switch c {
		case ',', ':', '[', ']', '{', '}', '\n', '"', '\'':
			n++
		}
	}
	return n
}

// rulesCost is what the rules of a file take once they are compiled.
func rulesCost(rules []policy.RuleSpec) int64 {
	n := int64(len(rules)) * ruleCost
	for i := range rules {
		n += int64(len(rules[i].Client.When)) * expressionCost
	}
	return n
}

// Ceiling is what limits.memory says, or what follows from the machine, in
// bytes; 0 where that is not known.
func (c *Config) Ceiling() int64 {
	if c.Limits.Memory != 0 {
		return int64(c.Limits.Memory)
	}
	return memory.DefaultCeiling()
}
