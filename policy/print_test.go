package policy

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawValue fills every kind of field that a spec has.
func drawValue(t *rapid.T, v reflect.Value, label string) {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"a", "1", "1.5", "true", "no", "~", "null", "0x1f", "1e3", "- a", "a: b", "#x", "a #b", "@set", "*a", "&a", " a ", "it's", `"q"`, "a\nb", "\\x", "10.0.0.0/8", "08:00", ".inf", "2026-11-23", "é", "\u2028", "\ufeff", "=", "<<"}))
	switch {
	case v.Type() == reflect.TypeFor[SetSpec]():
		if rapid.Bool().Draw(t, "file") {
			v.Set(reflect.ValueOf(SetSpec{File: text.Filter(func(s string) bool { return s != "" }).Draw(t, label)}))
		} else {
			v.Set(reflect.ValueOf(SetSpec{Members: rapid.SliceOfN(text, 1, 3).Draw(t, label)}))
		}
		return
	case v.Type() == reflect.TypeFor[Expression]():
		v.SetString(rapid.OneOf(text, rapid.SampledFrom([]string{"a\n&& b", "a\n\n  b\nc", "a \nb", "a\n", " a\nb", "a\tb\nc", "true"})).Draw(t, label))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text.Draw(t, label))
	case reflect.Int:
		v.SetInt(rapid.Int64Range(-5, 9000).Draw(t, label))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, label) {
			v.Set(reflect.New(v.Type().Elem()))
			drawValue(t, v.Elem(), label)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if rapid.Bool().Draw(t, "set "+label) {
				drawValue(t, v.Field(i), v.Type().Field(i).Name)
			}
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 2).Draw(t, label)
		if n == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			drawValue(t, v.Index(i), label)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9._-]{1,8}`), 1, 3, rapid.ID).Draw(t, label) {
			elem := reflect.New(v.Type().Elem()).Elem()
			drawValue(t, elem, name)
			v.SetMapIndex(reflect.ValueOf(name), elem)
		}
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, label))
	default:
		t.Fatalf("%s: no values of kind %v", label, v.Kind())
	}
}

// What is printed is read as what it was, and printed the same.
func TestPrintIsIdentity(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var spec Spec
		drawValue(rt, reflect.ValueOf(&spec).Elem(), "policy")
		text := spec.YAML()
		again := readSpec(t, text)
		if diff := cmp.Diff(spec, again); diff != "" {
			rt.Fatalf("-printed +read:\n%s\n%s", diff, text)
		}
		if second := again.YAML(); second != text {
			rt.Fatalf("printed %s\nthen %s", text, second)
		}
	})
}
