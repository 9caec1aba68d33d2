package policy

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/policy/pattern"
)

// The bounds of a condition. They hold whatever the certificate is: a hostile
// one can make a condition fail, and with it its own flow, but not slow. What
// they rest on stands in whencost.go.
const (
	maxCondition = 4096   // characters
	maxNesting   = 64     // levels of an expression
	maxCost      = 10_000 // units of about 50 ns: half a millisecond
)

// condition is a compiled `when`: CEL, type-checked, its cost limited. It is
// safe for concurrent use.
type condition struct {
	text    string
	program cel.Program
	names   []string // of the variables it speaks of, in their order
}

// values writes the variables that the condition speaks of, for a person.
func (w *condition) values(a *activation) string {
	var parts []string
	for _, name := range w.names {
		v, ok := a.ResolveName(name)
		if !ok {
			v = "missing"
		}
		parts = append(parts, clip(fmt.Sprintf("%s = %v", name, v)))
	}
	return strings.Join(parts, ", ")
}

// holds evaluates the condition; c is nil where no certificate was shown. An
// error is no answer: whoever asks denies.
func (w *condition) holds(f Facts, c *claims) (bool, error) {
	a := &activation{facts: f, claims: c}
	out, _, err := w.program.Eval(a)
	if a.failed != nil {
		return false, a.failed // whatever the rest says
	}
	if err != nil {
		switch {
		case c == nil && strings.Contains(err.Error(), "no such attribute(s): "+certPrefix):
			err = fmt.Errorf("no certificate was shown: %w", err)
		case f.State == nil && strings.Contains(err.Error(), "no such attribute(s): "+tlsPrefix):
			err = fmt.Errorf("the handshake's result is not known: %w", err)
		}
		return false, err
	}
	ok, is := out.Value().(bool)
	if !is {
		return false, errors.New("the condition is neither true nor false") // its type was checked
	}
	return ok, nil
}

// conditions compiles conditions, equal ones once.
type conditions struct {
	done map[string]*condition
}

// environment declares the variables. It is the same for every policy, never
// changes, and takes a millisecond to make.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	opts := []cel.EnvOption{
		ext.Network(), ext.Strings(ext.StringsVersion(4)), ext.Sets(),
		cel.ParserExpressionSizeLimit(maxCondition), cel.ParserRecursionLimit(maxNesting),
		cel.DefaultUTCTimeZone(true),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
	}
	opts = append(opts, bounded()...)
	for _, v := range variables {
		opts = append(opts, cel.Variable(v.Name, v.kind))
	}
	return cel.NewEnv(opts...)
})

// compile returns nil for an empty expression, and where there is a mistake,
// which has its place inside the text.
func (cs *conditions) compile(at scope, field string, expr Expression) *condition {
	text := string(expr)
	if text == "" {
		return nil
	}
	if c, ok := cs.done[text]; ok && c != nil {
		return c
	}
	if strings.TrimSpace(text) == "" {
		at.errorf(field, "the condition is empty; leave it out for none")
		return nil
	}
	if n := len([]rune(text)); n > maxCondition {
		at.errorf(field, "the condition has %d characters; at most %d are possible", n, maxCondition)
		return nil
	}
	env, err := environment()
	if err != nil {
		at.errorf(field, "conditions cannot be compiled: %v", err)
		return nil
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		reportIssues(at, field, text, issues)
		return nil
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) {
		at.errorf(field, "the condition is of type %s; it must be true or false", t)
		return nil
	}
	charge, sound := &costs{}, true
	charge.regexes(ast, func(id int64, format string, args ...any) {
		loc := ast.NativeRep().SourceInfo().GetStartLocation(id)
		at.errorAt(field, offsetOf(text, loc.Line(), loc.Column()), format, args...)
		sound = false
	})
	if !sound {
		return nil
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.CostTracking(charge), farTimes(), cel.OptimizeRegex(charge.optimizations()...))
	if err != nil {
		at.errorf(field, "the condition cannot be compiled: %v", err)
		return nil
	}
	doubtCondition(at, field, ast)
	c := &condition{text: text, program: program, names: namesIn(ast)}
	cs.done[text] = c
	return c
}

// namesIn lists the variables that an expression speaks of.
func namesIn(compiled *cel.Ast) []string {
	used := map[string]bool{}
	for _, ref := range compiled.NativeRep().ReferenceMap() {
		used[ref.Name] = true
	}
	var out []string
	for _, v := range variables {
		if used[v.Name] {
			out = append(out, v.Name)
		}
	}
	return out
}

// maxIssues bounds what is said about one condition.
const maxIssues = 5

func reportIssues(at scope, field, text string, issues *cel.Issues) {
	for i, e := range issues.Errors() {
		if i == maxIssues {
			break
		}
		offset := offsetOf(text, e.Location.Line(), e.Location.Column())
		msg, _, _ := strings.Cut(e.Message, "\n")
		if strings.HasPrefix(msg, undeclared) {
			offset = beginOfName([]rune(text), offset)
		}
		at.errorAt(field, offset, "%s", issueText(msg, text, offset))
	}
}

// offsetOf turns a line (from 1) and column (from 0) in characters into an
// offset in characters; 0 where there is no such place.
func offsetOf(text string, line, column int) int {
	offset := 0
	for n, l := range strings.Split(text, "\n") {
		size := len([]rune(l))
		if n+1 == line {
			return offset + max(0, min(column, size))
		}
		offset += size + 1
	}
	return 0
}

const undeclared = "undeclared reference to '"

// beginOfName goes back from the dot of a dotted name, which is where CEL sees
// it, to its begin.
func beginOfName(text []rune, offset int) int {
	for offset > 0 && inName(text[offset-1]) {
		offset--
	}
	return offset
}

func inName(r rune) bool { return r == '.' || r == '_' || r < 0x80 && pattern.IsLetterOrDigit(byte(r)) }

// issueText words what people meet most; the rest is CEL's own.
func issueText(msg, text string, offset int) string {
	if name, is := strings.CutPrefix(msg, undeclared); is {
		name, _, _ = strings.Cut(name, "'")
		if rest := []rune(text)[offset:]; strings.HasPrefix(string(rest), name) {
			end := 0
			for end < len(rest) && inName(rest[end]) {
				end++
			}
			name = strings.TrimRight(string(rest[:end]), ".")
		}
		names := make([]string, 0, len(variables))
		for _, v := range variables {
			names = append(names, v.Name)
		}
		return fmt.Sprintf("there is no variable or function %q%s", name, fielderr.Suggest(name, names))
	}
	msg = strings.TrimSuffix(strings.TrimPrefix(msg, "Syntax error: "), " (in container '')")
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, msg)
}
