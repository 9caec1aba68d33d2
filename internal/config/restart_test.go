package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// changed calls f with a copy of a configuration for each of its keys in which that
// key alone has another value.
func changed(t *testing.T, f func(key string, c *Config)) {
	t.Helper()
	var walk func(path string, index []int, typ reflect.Type)
	walk = func(path string, index []int, typ reflect.Type) {
		for i := range typ.NumField() {
			field := typ.Field(i)
			at := append(slices.Clone(index), i)
			key := strings.TrimPrefix(path+"."+field.Tag.Get("yaml"), ".")
			if field.Type.Kind() == reflect.Struct && keyed(field.Type) {
				walk(key, at, field.Type)
				continue
			}
			var c Config
			if v := reflect.ValueOf(&c).Elem().FieldByIndex(at); !other(v) {
				t.Errorf("%s: a %v has no other value here", key, v.Type())
			}
			f(key, &c)
		}
	}
	walk("", nil, reflect.TypeFor[Config]())
}

// other gives a value that is zero another one.
func other(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Struct:
		return other(v.Field(0))
	default:
		return false
	}
	return true
}

// A key that a reload cannot change is named, and no other.
func TestNeedsRestart(t *testing.T) {
	// By the first words of their paths; all others are taken by a reload.
	want := []string{
		"tun.", "capture.", "upgrade.", "fail", "fleet", "state", "audit.", "log.", "dial.mark", "dial.table",
		"admin.socket", "admin.http", "admin.metrics.listen",
		"limits.flows", "limits.flows_per_client", "limits.memory",
	}
	keys := 0
	changed(t, func(key string, c *Config) {
		keys++
		restart := slices.ContainsFunc(want, func(w string) bool {
			return key == w || strings.HasSuffix(w, ".") && strings.HasPrefix(key, w)
		})
		got := NeedsRestart(&Config{}, c)
		switch {
		case restart && !slices.Equal(got, []string{key}):
			t.Errorf("%s has changed: %q need a restart, want that key", key, got)
		case !restart && got != nil:
			t.Errorf("%s has changed: %q need a restart, want none", key, got)
		}
	})
	if keys < 60 {
		t.Errorf("only %d keys were changed", keys)
	}
	var c Config
	c.Capture.Mark, c.Audit.File, c.Dial.Table = 1, "x", 7
	if got, want := NeedsRestart(&Config{}, &c), []string{"capture.mark", "dial.table", "audit.file"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
