package config

import (
	"strings"
	"testing"
)

// The default of audit.rotate is there for files, and in the way of nothing else;
// size 0 is "never", and what cannot be rotated is not said to be.
func TestRotateDefaults(t *testing.T) {
	const most = "capture: {interfaces: [eth1], ports: [443]}\nversion: 1\npolicy: {rules: []}\n"
	for audit, want := range map[string]struct {
		rotate Rotate
		wrong  string
	}{
		"":                               {Rotate{128 << 20, 7}, ""},
		"audit: {file: a.jsonl}":         {Rotate{128 << 20, 7}, ""},
		`audit: {file: "-"}`:             {Rotate{128 << 20, 7}, ""},
		"audit: {journal: true}":         {Rotate{128 << 20, 7}, ""},
		"audit: {syslog: /dev/log}":      {Rotate{128 << 20, 7}, ""},
		"audit: {rotate: {keep: 3}}":     {Rotate{128 << 20, 3}, ""},
		"audit: {rotate: {size: 0}}":     {Rotate{0, 7}, ""},
		"audit: {rotate: {size: 1MiB}}":  {Rotate{1 << 20, 7}, "only a file can be rotated"},
		"audit: {rotate: {size: 1}}":     {Rotate{1, 7}, "1 is less than 64KiB"},
		"audit: {rotate: {size: -1MiB}}": {Rotate{128 << 20, 7}, "must not be negative"},
		"audit: {file: a.jsonl, rotate: {size: 0, keep: 9}}":  {Rotate{0, 9}, ""},
		"audit: {file: a.jsonl, rotate: {size: 0KiB}}":        {Rotate{0, 7}, ""},
		"audit: {journal: true, rotate: {size: 128MiB}}":      {Rotate{128 << 20, 7}, "only a file can be rotated"},
		"audit: {syslog: /dev/log, rotate: {size: 128MiB}}":   {Rotate{128 << 20, 7}, "only a file can be rotated"},
		"limits: {memory: 0}\naudit: {file: a.jsonl}":         {Rotate{128 << 20, 7}, "limits.memory: 0 is too little"},
		"limits: {hello: 0}\naudit: {file: a.jsonl}":          {Rotate{128 << 20, 7}, "limits.hello: 0 is out of range"},
		"limits: {chain_bytes: 0KiB}\naudit: {file: a.jsonl}": {Rotate{128 << 20, 7}, "limits.chain_bytes: 0 is out of range"},
	} {
		f := parse("x.yaml", []byte(most+audit+"\n"))
		var about []string
		for _, found := range f.findings {
			if strings.HasPrefix(found.Path, "audit") || strings.HasPrefix(found.Path, "limits") {
				about = append(about, found.Path+": "+found.Msg)
			}
		}
		text := strings.Join(about, "\n")
		if f.Config.Audit.Rotate != want.rotate || (text == "") != (want.wrong == "") || !strings.Contains(text, want.wrong) {
			t.Errorf("%s: %+v, %q", audit, f.Config.Audit.Rotate, text)
		}
	}
}
