package config

import (
	"reflect"
	"strings"
	"time"
)

// View is a configuration, or a part of it, as it would be written, for
// people and programs: keys as in the file, durations and sizes as texts, and
// nothing that is not set. It holds what the file holds: paths of keys and
// tokens, never what is in them.
func View(part any) map[string]any {
	m, _ := view(reflect.ValueOf(part)).(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	return m
}

func view(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case Duration:
		return time.Duration(x).String()
	case *LocalOut:
		if x != nil && reflect.ValueOf(*x).IsZero() {
			return true
		}
	case Ports:
		if x.All {
			return "all"
		}
		return x.List
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return view(v.Elem())
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if f := v.Field(i); key != "" && key != "-" && !unset(f) {
				m[key] = view(f)
			}
		}
		return m
	case reflect.Map:
		m := map[string]any{}
		for it := v.MapRange(); it.Next(); {
			m[it.Key().String()] = view(it.Value())
		}
		return m
	case reflect.Slice:
		all := make([]any, 0, v.Len())
		for i := range v.Len() {
			all = append(all, view(v.Index(i)))
		}
		return all
	case reflect.String:
		return v.String()
	default:
		return v.Interface()
	}
}

// unset: a false or a 0 that is written out says no more than the default.
func unset(v reflect.Value) bool {
	return v.IsZero() || (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() == 0
}
