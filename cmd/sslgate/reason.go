package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/reason"
)

// reasonJSON is what `reason --json` prints of one code.
type reasonJSON struct {
	Code     reason.Code `json:"code"`
	Kind     string      `json:"kind"`
	Step     int         `json:"step"`
	StepName string      `json:"step_name"`
	// Alert is null where none is wanted.
	Alert     *int   `json:"alert"`
	AlertName string `json:"alert_name,omitempty"`
	Sentence  string `json:"sentence"`
	Advice    string `json:"advice,omitempty"`
}

func newReasonCmd(stdout, stderr io.Writer) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reason [CODE]",
		Short: "Explain a reason code of the audit record, or list all of them",
		Example: `  sslgate reason certificate_expired
  sslgate reason --json`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.MaximumNArgs(1),
		ValidArgs:     reasonCodes(),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return printReasons(stdout, asJSON)
			}
			e, ok := reason.Lookup(reason.Code(args[0]))
			if !ok {
				return &exitError{2, fmt.Errorf("no such reason code: %q%s; `sslgate reason` lists all of them",
					args[0], fielderr.Suggest(args[0], reasonCodes()))}
			}
			if asJSON {
				return writeJSON(stdout, toReasonJSON(e))
			}
			return printReason(stdout, e)
		},
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of text")
	return cmd
}

func reasonCodes() []string {
	var codes []string
	for _, e := range reason.Sorted() {
		codes = append(codes, string(e.Code))
	}
	return codes
}

func printReason(w io.Writer, e reason.Entry) error {
	if err := say(w, "%s (%s)", e.Code, e.Kind); err != nil {
		return err
	}
	if err := printWrapped(w, "  ", e.Sentence+"."); err != nil {
		return err
	}
	var t table
	t.row("  step", "%d, %s", e.Step, handshake.Step(e.Step))
	t.row("  alert", "%s", alertText(e))
	if e.Advice != "" {
		t.row("  advice", "%s", e.Advice)
	}
	return t.print(w)
}

func printReasons(w io.Writer, asJSON bool) error {
	if asJSON {
		var all []reasonJSON
		for _, e := range reason.Sorted() {
			all = append(all, toReasonJSON(e))
		}
		return writeJSON(w, map[string]any{"reasons": all})
	}
	// The sentence has lines of its own: behind the other columns there is no
	// room for it.
	for _, e := range reason.Sorted() {
		if err := say(w, "%s: step %d, %s, alert %s", e.Code, e.Step, e.Kind, alertText(e)); err != nil {
			return err
		}
		if err := printWrapped(w, "    ", e.Sentence); err != nil {
			return err
		}
	}
	return nil
}

func alertText(e reason.Entry) string {
	if e.Alert == reason.NoAlert {
		return "none"
	}
	return handshake.Alert(e.Alert).String() // within 0..254, checked for all codes by a test
}

func toReasonJSON(e reason.Entry) reasonJSON {
	j := reasonJSON{Code: e.Code, Kind: e.Kind.String(), Step: e.Step, StepName: handshake.Step(e.Step).String(), Sentence: e.Sentence, Advice: e.Advice}
	if e.Alert != reason.NoAlert {
		j.Alert = &e.Alert
		j.AlertName, _, _ = strings.Cut(alertText(e), "(")
	}
	return j
}
