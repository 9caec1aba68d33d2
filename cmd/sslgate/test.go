package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/internal/readfile"
)

// newTestCmd is `sslgate test`: the unit tests of a policy.
func newTestCmd(stdout io.Writer) *cobra.Command {
	var file string
	var asJSON, coverage bool
	cmd := &cobra.Command{
		Use:   "test FILE_test.yaml...",
		Short: "Run the tests of a policy",
		Long: `Run the tests of a policy: flows made of words, and what should become of each.
They are decided by the same functions that decide real ones. Private keys are
not read and the files of authorities may be missing, so that tests run where
the secrets are not: certificates are made up on the spot, signed by a stand-in
of the authority that the test names.

Exit code 0: all pass. 1: one fails, or with --coverage a rule has no test.
2: wrong usage, or a file with mistakes. The form of the files is in
docs/policy.md.`,
		Example: `  sslgate test sslgate_test.yaml
  sslgate test --coverage -c sslgate.yaml tests/*.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return orSignal(cmd.Context(), func() error { return testPolicies(stdout, file, args, asJSON, coverage) })
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration `FILE` (default: the one the test file names)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a test")
	cmd.Flags().BoolVar(&coverage, "coverage", false, "a rule that no test comes to is a failure")
	return cmd
}

func testPolicies(stdout io.Writer, configFile string, files []string, asJSON, coverage bool) error {
	failed := false
	for _, name := range files {
		report, err := testPolicy(configFile, name)
		if err != nil {
			return testMistake(stdout, err, asJSON)
		}
		uncovered := report.Uncovered()
		failed = failed || report.Failed > 0 || coverage && len(uncovered) > 0
		write := testText
		if asJSON {
			write = testJSON
		}
		if err := write(stdout, name, report); err != nil {
			return err
		}
	}
	if failed {
		return &exitError{code: 1}
	}
	return nil
}

// maxTestFile bounds a file of tests, in bytes.
const maxTestFile = 8 << 20

// testPolicy runs one file.
func testPolicy(configFile, name string) (*policytest.Report, error) {
	_, text, err := readfile.All(context.Background(), name, maxTestFile, nil)
	if err != nil {
		return nil, &exitError{2, err}
	}
	tests, err := policytest.Parse(name, text)
	if err != nil {
		return nil, err
	}
	if configFile == "" {
		if configFile = tests.PolicyFile(); configFile == "" {
			return nil, &exitError{2, fmt.Errorf("%s names no policy: begin it with `policy: FILE`, or give -c FILE", name)}
		}
	}
	stand := policytest.NewStandIns()
	set, file, err := standInPolicy(configFile, stand)
	if err != nil {
		return nil, err
	}
	return tests.Run(set, file.Config.Policy.Rules, stand, readChain)
}

// testMistake prints the mistakes of a test file with their places.
func testMistake(stdout io.Writer, err error, asJSON bool) error {
	var found config.Findings
	if !errors.As(err, &found) || errors.As(err, new(*exitError)) {
		return err
	}
	for _, f := range found {
		if asJSON {
			if err := writeJSON(stdout, checkFinding{f.File, f.Line, f.Col, f.Path, f.Msg, f.Warning}); err != nil {
				return err
			}
			continue
		}
		if err := printFinding(stdout, f); err != nil {
			return err
		}
	}
	return &exitError{code: 2}
}

func testText(w io.Writer, name string, r *policytest.Report) error {
	for _, result := range r.Results {
		if len(result.Wrong) == 0 {
			fmt.Fprintf(w, "ok    %s\n", escape.String(result.Case.Name, 0))
			continue
		}
		fmt.Fprintf(w, "FAIL  %s (%s:%d)\n", escape.String(result.Case.Name, 0), name, result.Line)
		for _, wrong := range result.Wrong {
			if err := printWrapped(w, "        ", wrong); err != nil {
				return err
			}
		}
		for _, why := range result.Why.Change {
			if err := printWrapped(w, "        because  ", why); err != nil {
				return err
			}
		}
	}
	uncovered := r.Uncovered()
	sum := fmt.Sprintf("%s: %s, %d failed; %d of %s covered", name, count(len(r.Results), "test"), r.Failed, len(r.Rules)-len(uncovered), count(len(r.Rules), "rule"))
	if len(uncovered) > 0 {
		sum += ", not " + strings.Join(uncovered, ", ")
	}
	return say(w, "%s", sum)
}

// testResult is the form of a result in --json. The names are stable.
type testResult struct {
	File   string   `json:"file"`
	Line   int      `json:"line"`
	Name   string   `json:"name"`
	Pass   bool     `json:"pass"`
	Rule   string   `json:"rule"`
	Got    string   `json:"verdict"`
	Reason string   `json:"reason"`
	Wrong  []string `json:"wrong,omitempty"`
}

func testJSON(w io.Writer, name string, r *policytest.Report) error {
	for _, result := range r.Results {
		v := result.Why.Verdict
		err := writeJSON(w, testResult{name, result.Line, result.Case.Name, len(result.Wrong) == 0, v.Rule, policytest.Verdict(v), string(v.Reason), result.Wrong})
		if err != nil {
			return err
		}
	}
	uncovered := r.Uncovered()
	if uncovered == nil {
		uncovered = []string{}
	}
	return writeJSON(w, map[string]any{"file": name, "tests": len(r.Results), "failed": r.Failed, "rules": len(r.Rules), "uncovered": uncovered})
}
