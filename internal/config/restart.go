package config

import "reflect"

// NeedsRestart lists the keys that differ and that a reload cannot change, as
// paths such as "capture.ports" or "fail", in the order of the file. They are those
// with the tag `reload:"restart"`, or inside a section that has it.
func NeedsRestart(old, now *Config) []string {
	return restartKeys(nil, "", reflect.ValueOf(*old), reflect.ValueOf(*now), false)
}

// restartKeys appends the paths of the keys in a section; whole says that all of
// them need a restart.
func restartKeys(found []string, path string, old, now reflect.Value, whole bool) []string {
	for i := range old.NumField() {
		field := old.Type().Field(i)
		key := field.Tag.Get("yaml")
		if path != "" {
			key = path + "." + key
		}
		tagged := whole || field.Tag.Get("reload") == "restart"
		a, b := old.Field(i), now.Field(i)
		switch {
		case field.Type.Kind() == reflect.Struct && keyed(field.Type):
			found = restartKeys(found, key, a, b, tagged)
		case tagged && !reflect.DeepEqual(a.Interface(), b.Interface()):
			found = append(found, key)
		}
	}
	return found
}

// keyed says whether a struct is a section of the file, and no value such as a
// list of ports.
func keyed(t reflect.Type) bool {
	return t.NumField() > 0 && t.Field(0).Tag.Get("yaml") != ""
}
