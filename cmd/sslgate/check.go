package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/config"
)

// newCheckCmd is `sslgate check`: everything that is wrong with a
// configuration, at once.
func newCheckCmd(stdout io.Writer) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say everything that is wrong with a configuration",
		Long: `Say everything that is wrong with a configuration, at once: each mistake with
file, line and column, the line itself and, for a misspelt word, what may have
been meant. The certificates, keys and other files it names are read too.
Nothing is changed. What check refuses, run refuses.

Exit code 0: it can be used, perhaps with warnings. 2: it cannot.`,
		Example: "  sslgate check sslgate.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := configFile(cmd, file, args)
			if err != nil {
				return err
			}
			rt, found, err := checkUntilSignal(cmd.Context(), file)
			if err != nil {
				return err
			}
			if asJSON {
				return checkJSON(stdout, found)
			}
			for _, f := range found {
				if err := printFinding(stdout, f); err != nil {
					return err
				}
			}
			if err := say(stdout, "%s: %s", file, checkSummary(rt, found)); err != nil {
				return err
			}
			return checkResult(found)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a finding, nothing if there is none")
	return cmd
}

// answer is what a check says.
type answer struct {
	rt    *config.Runtime
	found []config.Finding
}

// checkUntilSignal is config.Check until a signal comes.
func checkUntilSignal(ctx context.Context, file string) (rt *config.Runtime, found []config.Finding, err error) {
	own, wrong := config.InFleet(file)
	if own == nil && wrong != nil {
		return nil, wrong, nil
	}
	a, err := untilSignal(ctx, func() answer {
		if own != nil {
			return fleetAnswer(ctx, file, own)
		}
		rt, found := config.Check(file, engines.New())
		if rt != nil {
			found = append(found, hostFindings(rt)...)
		}
		return answer{rt, found}
	})
	return a.rt, a.found, err
}

// fleetAnswer is config.Check for a gateway in a fleet, with the bundle that is in force.
func fleetAnswer(ctx context.Context, file string, own *config.Config) answer {
	checked, err := inForce(ctx, file, own)
	if err != nil {
		checked.Findings = append(checked.Findings, config.Finding{File: file, Line: 1, Col: 1, Path: "fleet", Msg: err.Error()})
	} else if checked.Runtime != nil {
		checked.Findings = append(checked.Findings, hostFindings(checked.Runtime)...)
	}
	return answer{checked.Runtime, checked.Findings}
}

// checkFinding is the form of a finding in --json. The names are stable.
type checkFinding struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Message string `json:"message"`
	Warning bool   `json:"warning"`
}

func checkJSON(w io.Writer, found []config.Finding) error {
	for _, f := range found {
		if err := writeJSON(w, checkFinding{f.File, f.Line, f.Col, f.Path, f.Msg, f.Warning}); err != nil {
			return fmt.Errorf("write findings: %w", err)
		}
	}
	return checkResult(found)
}

// checkSummary is the last line: "3 errors, 1 warning", or "ok (4 rules,
// policy 1a2b3c4d5e6f, snapshot 9c0ffee01234)", with the warnings after it.
func checkSummary(rt *config.Runtime, found []config.Finding) string {
	errs, warnings := 0, 0
	for _, f := range found {
		if f.Warning {
			warnings++
		} else {
			errs++
		}
	}
	var parts []string
	if rt != nil {
		// Twelve hexadecimal digits are enough to tell policies apart.
		parts = append(parts, fmt.Sprintf("ok (%s, policy %.12s, snapshot %.12s)", count(len(rt.Config.Policy.Rules), "rule"), rt.Set.ID(), rt.Snapshot))
	}
	if errs > 0 {
		parts = append(parts, count(errs, "error"))
	}
	if warnings > 0 {
		parts = append(parts, count(warnings, "warning"))
	}
	return strings.Join(parts, ", ")
}

func count[N int | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func checkResult(found []config.Finding) error {
	if config.Failed(found) {
		return &exitError{code: 2}
	}
	return nil
}

// isTerminal says whether colours make sense on w (https://no-color.org).
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}
