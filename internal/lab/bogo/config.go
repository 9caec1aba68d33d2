package bogo

import (
	_ "embed" // the lists
	"encoding/json"
	"fmt"
	"strings"
)

// The lists for the runner: what it leaves out, and what its names of errors mean here.
var (
	//go:embed testdata/disabled.txt
	disabledText string
	//go:embed testdata/errors.txt
	errorsText string
)

// feature is what tests are left out for.
type feature struct {
	engine   string // both, std or native
	reason   string
	patterns []string
}

// of says whether it concerns an engine.
func (f *feature) of(engine string) bool { return f.engine == "both" || f.engine == engine }

// features reads testdata/disabled.txt.
func features(text string) ([]feature, error) {
	var list []feature
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		pattern, indented := strings.CutPrefix(line, "\t")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case indented && len(list) > 0:
			last := &list[len(list)-1]
			last.patterns = append(last.patterns, pattern)
		default:
			engine, reason, ok := strings.Cut(line, " ")
			if !ok || engine != "both" && engine != "std" && engine != "native" {
				return nil, fmt.Errorf("cannot read %q", line)
			}
			list = append(list, feature{engine: engine, reason: reason})
		}
	}
	return list, nil
}

// Config is the runner's configuration for an engine: the tests that it leaves out, with
// the reason of each, and what stands for BoringSSL's names of errors.
func Config(engine string) ([]byte, error) {
	if engine != "std" && engine != "native" {
		return nil, fmt.Errorf("engine %q: std or native", engine)
	}
	list, err := features(disabledText)
	if err != nil {
		return nil, fmt.Errorf("disabled.txt: %w", err)
	}
	var config struct {
		DisabledTests map[string]string
		ErrorMap      map[string][]string
	}
	config.DisabledTests, config.ErrorMap = map[string]string{}, map[string][]string{}
	for _, f := range list {
		for _, p := range f.patterns {
			if f.of(engine) {
				config.DisabledTests[p] = f.reason
			}
		}
	}
	for line := range strings.Lines(errorsText) {
		line = strings.TrimSpace(line)
		name, words, ok := strings.Cut(line, " ")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("errors.txt: cannot read %q", line)
		}
		for word := range strings.SplitSeq(words, "|") {
			config.ErrorMap[name] = append(config.ErrorMap[name], strings.TrimSpace(word))
		}
	}
	return json.MarshalIndent(&config, "", "\t")
}
