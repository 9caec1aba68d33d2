package policy

import (
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

	"github.com/sslgate/sslgate/internal/times"
)

// farTimes makes arithmetic on times end at the largest or least value where
// CEL's own fails: a certificate without an end says 9999-12-31 (RFC 5280,
// section 4.1.2.5), and a duration reaches 292 years. "More than 292 years left"
// is the right answer to every question about days.
func farTimes() cel.ProgramOption {
	return cel.CustomDecoratorV2(func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		if call, ok := i.(interpreter.InterpretableCall); ok && len(call.Args()) == 2 {
			switch call.Function() {
			case operators.Subtract, operators.Add:
				return farTime{call}, nil
			}
		}
		return i, nil
	})
}

// farTime is an addition or a subtraction. Each operand is evaluated once, so the
// cost of an expression stays what CEL counts.
type farTime struct{ interpreter.InterpretableCall }

// Exec answers as CEL does, or with the bound.
func (f farTime) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	left := f.Args()[0].Eval(frame)
	if types.IsUnknownOrError(left) {
		return left
	}
	right := f.Args()[1].Eval(frame)
	if types.IsUnknownOrError(right) {
		return right
	}
	return f.of(left, right)
}

// Eval is Exec for a plain activation.
func (f farTime) Eval(a interpreter.Activation) ref.Val {
	frame, ok := a.(*interpreter.ExecutionFrame)
	if !ok {
		return f.InterpretableCall.Eval(a)
	}
	return f.Exec(frame)
}

// of works one operation out, as the standard functions of CEL do.
func (f farTime) of(left, right ref.Val) ref.Val {
	minus := f.Function() == operators.Subtract
	var v ref.Val
	switch l := left.(type) {
	case traits.Subtractor:
		if minus {
			v = l.Subtract(right)
			break
		}
		if adder, ok := left.(traits.Adder); ok {
			v = adder.Add(right)
		}
	case traits.Adder:
		if !minus {
			v = l.Add(right)
		}
	}
	if v == nil {
		return types.NoSuchOverloadErr()
	}
	if types.IsError(v) {
		if bound := farther(left, right, minus); bound != nil {
			return bound
		}
	}
	return v
}

// farther is the bound of an operation on times that CEL has no value for; nil
// for operands of other types.
func farther(left, right ref.Val, minus bool) ref.Val {
	switch l := left.(type) {
	case types.Timestamp:
		switch r := right.(type) {
		case types.Timestamp:
			if minus {
				return types.Duration{Duration: times.Sub(l.Time, r.Time)}
			}
		case types.Duration:
			return farthest((r.Duration < 0) != minus)
		}
	case types.Duration:
		switch r := right.(type) {
		case types.Timestamp:
			if !minus {
				return farthest(l.Duration < 0)
			}
		case types.Duration:
			if l.Duration < 0 {
				return types.Duration{Duration: -1 << 63}
			}
			if l.Duration > 0 || minus && r.Duration < 0 {
				return types.Duration{Duration: 1<<63 - 1}
			}
		}
	}
	return nil
}

// farthest are the bounds of CEL's timestamps.
func farthest(past bool) ref.Val {
	if past {
		return types.Timestamp{Time: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	return types.Timestamp{Time: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)}
}
