package policy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// This file bounds what a condition costs, whatever a peer sends. CEL counts
// after a call what it has cost, and counts most functions as one unit; a single
// call of a regular expression, of a search or of sets takes as long as its
// operands are large. So:
//
//   - what a condition is given is at most maxInput bytes, or it is not
//     evaluated;
//   - a call that would take long, or make a large text, is refused before;
//   - every call is charged for the texts and lists that it looks at.
//
// A bound that is met is an error, and an error denies: in `!x` too, for CEL has
// no value for it. There is no clock in it: whether a client is let in must not
// depend on how busy the machine is.
const (
	// maxInput bounds the variables of one evaluation, in bytes, and inputItem is
	// what an entry of a list counts besides its text: 16 KiB of names are more
	// than any real certificate has.
	maxInput  = 16 << 10
	inputItem = 16
	// maxText bounds what a function makes, in bytes.
	maxText = 16 << 10
	// maxProgram bounds a regular expression, in instructions of the machine that
	// it is compiled to.
	maxProgram = 512
	// maxMatch bounds one match: instructions times bytes. Go's matcher is linear
	// in that, with 2 to 4 ns each.
	maxMatch = 128 << 10
	// maxPairs bounds comparisons of each with each in one call.
	maxPairs = 16 << 10
	// A unit of cost is about 50 ns: of a step of the evaluation, of so many bytes
	// that are looked at, or of so much of a match.
	bytesPerUnit = 32
	matchPerUnit = 16
)

// matcher is one regular expression of a condition.
type matcher struct {
	re   *regexp.Regexp
	size int // instructions
}

// newMatcher compiles a pattern. The error is for a person.
func newMatcher(pattern string) (*matcher, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("the regular expression cannot be compiled: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("the regular expression cannot be compiled: %w", err)
	}
	if n := len(program.Inst); n > maxProgram {
		return nil, fmt.Errorf("the regular expression has %d instructions when it is compiled; at most %d are possible, for each of them looks at each character: write + or * in the place of counts such as {1,63}, or compare with startsWith, endsWith and ==", n, maxProgram)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("the regular expression cannot be compiled: %w", err)
	}
	return &matcher{re, len(program.Inst)}, nil
}

// match refuses what would take long.
func (m *matcher) match(text string) ref.Val {
	if len(text)*m.size > maxMatch {
		return types.NewErr("a text of %d bytes is too long for a regular expression of %d instructions: at most %d", len(text), m.size, maxMatch/m.size)
	}
	return types.Bool(m.re.MatchString(text))
}

// costs charges for the calls of one condition.
type costs struct{ matchers map[string]*matcher }

// CallCost implements cost.ActualCostEstimator.
func (c *costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	total := uint64(1)
	cheap := function == operators.Add || function == operators.Index || function == overloads.Size // of lists
	for _, v := range append(args[:len(args):len(args)], result) {
		if _, list := v.(traits.Lister); !list || !cheap {
			total += weight(v)
		}
	}
	switch function {
	case overloads.Matches:
		if len(args) == 2 {
			text, _ := args[0].Value().(string)
			pattern, _ := args[1].Value().(string)
			if m := c.matchers[pattern]; m != nil {
				total += uint64(len(text) * m.size / matchPerUnit)
			}
		}
	case "sets.contains", "sets.intersects", "sets.equivalent":
		if len(args) == 2 {
			total += uint64(sizeOf(args[0]) * sizeOf(args[1]))
		}
	}
	return &total
}

// weight is what looking at a value costs, in units.
func weight(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / bytesPerUnit
	case types.Bytes:
		return uint64(len(v)) / bytesPerUnit
	case traits.Sizer:
		n, _ := v.Size().(types.Int)
		return uint64(max(0, n))
	}
	return 0
}

func sizeOf(v ref.Val) int {
	if s, ok := v.(traits.Sizer); ok {
		n, _ := s.Size().(types.Int)
		return int(n)
	}
	return 0
}

// regexes compiles the regular expressions of a condition and finds those that
// are not written out: of them no bound can be known.
func (c *costs) regexes(compiled *cel.Ast, report func(id int64, format string, args ...any)) {
	c.matchers = map[string]*matcher{}
	ast.PostOrderVisit(compiled.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		args := e.AsCall().Args()
		switch e.AsCall().FunctionName() {
		case "format":
			report(e.ID(), "format is not possible in a condition: the text that it makes has no bound; put texts together with +")
			return
		case overloads.Matches:
		default:
			return
		}
		if len(args) == 0 {
			return
		}
		arg := args[len(args)-1]
		pattern, ok := "", false
		if arg.Kind() == ast.LiteralKind {
			pattern, ok = arg.AsLiteral().Value().(string)
		}
		if !ok {
			report(arg.ID(), "the regular expression must be written out as a text: what it costs cannot be known of one that is put together")
			return
		}
		m, err := newMatcher(pattern)
		if err != nil {
			report(arg.ID(), "%v", err)
			return
		}
		c.matchers[pattern] = m
	}))
}

// optimizations put our matchers in the place of CEL's.
func (c *costs) optimizations() []*interpreter.RegexOptimization {
	factory := func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
		m := c.matchers[pattern]
		if m == nil {
			return nil, errors.New("a regular expression that was not compiled")
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(values ...ref.Val) ref.Val {
			if len(values) == 2 {
				if text, ok := values[0].Value().(string); ok {
					return m.match(text)
				}
			}
			return types.NoSuchOverloadErr()
		}), nil
	}
	return []*interpreter.RegexOptimization{
		{Function: overloads.Matches, OverloadID: overloads.Matches, RegexIndex: 1, Factory: factory},
		{Function: overloads.Matches, OverloadID: overloads.MatchesString, RegexIndex: 1, Factory: factory},
	}
}
