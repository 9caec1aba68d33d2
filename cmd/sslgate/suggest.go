package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/report"
	"github.com/sslgate/sslgate/internal/suggest"
	"github.com/sslgate/sslgate/policy"
)

// newSuggestCmd is `sslgate suggest`: rules for what was seen.
func newSuggestCmd(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	var file, out string
	cmd := &cobra.Command{
		Use:   "suggest -c FILE [--out NEW.yaml] RECORDS...",
		Short: "Suggest rules, with their tests, for exactly what was let through",
		Long: `Make rules of the flows that audit records let through under a configuration:
from the clients, to the destinations and by the names that were seen, with the
certificates that were proven. A rule is one of the configuration, narrowed; it
is never wider than what was seen. What the records cannot answer is asked, in
comments at the end.

Without --out the section "policy" is printed. With it the configuration with
this section, and NEW_test.yaml with tests of each rule, are written beside it.
Nothing that exists is overwritten.

Exit code 0. 2: wrong usage, a file cannot be read or written, or the result
would not be usable.`,
		Example: `  sslgate suggest -c sslgate.yaml --out next.yaml /var/log/sslgate/audit.jsonl*
  sslgate check -c next.yaml && sslgate test next_test.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			from, err := configFile(cmd, file, nil)
			if err != nil {
				return err
			}
			return orSignal(cmd.Context(), func() error {
				stand := policytest.NewStandIns()
				set, base, _, err := tryConfig(from, config.StandIns{Own: true}, stand)
				if err != nil {
					return err
				}
				identity, err := stand.Identity()
				if err != nil {
					return err
				}
				s := suggest.New(set, slices.Clone(base.Config.Policy.Rules))
				r := report.Reader{Stdin: stdin}
				clear := showProgress(&r, stderr)
				err = r.Each(cmd.Context(), files, s.Add)
				clear()
				if err != nil {
					return &exitError{code: 2, err: err}
				}
				rules, questions := s.Rules(func(spec policy.Spec) map[int]string {
					return mistakes(base, config.StandIns{Own: true, Identity: identity}, spec)
				})
				for _, d := range r.Damaged {
					questions = append(questions, fmt.Sprintf("%s was passed over: %s.", d.Place, d.Why))
				}
				for _, name := range r.Twice {
					questions = append(questions, name+" was given before, and was read once.")
				}
				section, err := suggest.Policy(rules, questions)
				if err != nil {
					return &exitError{code: 2, err: err}
				}
				if out == "" {
					_, err := stdout.Write(section)
					return err
				}
				if err := writeSuggestion(cmd, from, out, section, rules); err != nil {
					return &exitError{code: 2, err: err}
				}
				return say(stdout, "%s for %s in %s, %s below them; `sslgate check -c %s` and `sslgate test %s` are next",
					count(len(rules), "rule"), count(int(r.Lines()), "record"), out, count(len(questions), "question"), out, suggest.TestName(out))
			})
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&out, "out", "", "write a whole configuration to this `FILE`, and its tests beside it")
	return cmd
}

// mistakes says what is wrong with the rules of a policy in the place of a file's own, by
// their numbers. It changes the file.
func mistakes(file *config.File, ins config.StandIns, spec policy.Spec) map[int]string {
	file.Config.Policy.Sets, file.Config.Policy.Rules = spec.Sets, spec.Rules
	_, _, found := config.TryPolicy(file, engines.New(), ins)
	out := map[int]string{}
	for _, f := range found {
		var i int
		if n, _ := fmt.Sscanf(f.Path, "policy.rules[%d]", &i); n == 1 && !f.Warning {
			out[i] = f.Msg
		}
	}
	return out
}

func writeSuggestion(cmd *cobra.Command, from, out string, section []byte, rules []suggest.Rule) error {
	if filepath.Dir(filepath.Clean(from)) != filepath.Dir(filepath.Clean(out)) {
		return fmt.Errorf("%s is in another directory than %s, from where the files that it names are looked for", out, from)
	}
	_, text, err := readfile.All(cmd.Context(), from, maxTestFile, nil)
	if err != nil {
		return err
	}
	whole, err := suggest.Config(text, section)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	tests, err := suggest.Tests(rules, filepath.Base(out), time.Now().UTC().Format(time.RFC3339))
	if err != nil {
		return err
	}
	if _, err := os.Lstat(suggest.TestName(out)); err == nil {
		return fmt.Errorf("%s exists", suggest.TestName(out))
	}
	usable := func(name string) error {
		if _, _, err := ownPolicy(name); err != nil {
			return fmt.Errorf("what would be suggested is not usable, and nothing was written: %w", err)
		}
		return nil
	}
	if err := suggest.WriteNew(out, whole, usable); err != nil || tests == nil {
		return err
	}
	return suggest.WriteNew(suggest.TestName(out), tests, func(string) error { return nil })
}
