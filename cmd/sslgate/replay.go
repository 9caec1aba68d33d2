package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/replay"
	"github.com/sslgate/sslgate/internal/report"
	"github.com/sslgate/sslgate/policy"
)

// newReplayCmd is `sslgate replay`: a policy against the records of another one.
func newReplayCmd(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	var file string
	var asJSON, strict bool
	cmd := &cobra.Command{
		Use:   "replay -c NEW FILE...",
		Short: "Say who of yesterday's records a policy would decide differently",
		Long: `Ask a policy about the flows of audit records, and say who would be decided
differently than they were. The functions are those that decide real flows.

The records have addresses, time and hello of every flow, but of certificates
the names alone. So a flow that has shown one is decided for certain if the
rule that it comes to demands the same as then (the CAs of an authority are
taken to be the same), and else called uncertain. Flows that no policy had its
word about, because no hello came or a limit was met, are counted apart.

Exit code 0: nobody. 1: somebody would be decided differently. 2: wrong usage,
or a file cannot be read. 3: nobody surely, but not one flow could be decided;
with --strict, but some flow could not be, or a line was passed over.`,
		Example: "  sslgate replay -c next.yaml /var/log/sslgate/audit.jsonl*",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			config, err := configFile(cmd, file, nil)
			if err != nil {
				return err
			}
			return orSignal(cmd.Context(), func() error {
				set, _, err := ownPolicy(config)
				if err != nil {
					return err
				}
				rep := replay.New(set)
				r := report.Reader{Stdin: stdin}
				clear := showProgress(&r, stderr)
				err = r.Each(cmd.Context(), files, rep.Add)
				clear()
				if err != nil {
					return &exitError{code: 2, err: err}
				}
				result := rep.Result()
				if asJSON {
					err = writeJSON(stdout, replayJSON{result, r.Bad, r.Damaged, r.Twice})
				} else {
					err = replayText(stdout, &result, &r)
				}
				open := result.Uncertain > 0 || r.Bad > 0
				switch {
				case err != nil:
				case result.Different > 0:
					err = &exitError{code: 1}
				case open && (strict || result.Same == 0):
					err = &exitError{code: 3}
				}
				return err
			})
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of text")
	cmd.Flags().BoolVar(&strict, "strict", false, "exit code 3 where a flow is uncertain or a line was passed over")
	return cmd
}

// replayJSON is what `replay --json` prints. The names are stable.
type replayJSON struct {
	replay.Result
	Damaged int64           `json:"damaged"`
	At      []report.Damage `json:"damaged_at"`
	Twice   []string        `json:"files_twice"` // were given before, and were read once
}

func replayText(w io.Writer, r *replay.Result, read *report.Reader) error {
	for _, d := range read.Damaged {
		if err := printWrapped(w, "damaged  ", fmt.Sprintf("%s: %s; passed over", d.Place, d.Why)); err != nil {
			return err
		}
	}
	for _, name := range read.Twice {
		if err := printWrapped(w, "twice    ", name+" was given before, and is read once"); err != nil {
			return err
		}
	}
	if r.Again > 0 {
		fmt.Fprintf(w, "twice    %s: read before in another file, and counted once\n", count(int(r.Again), "record"))
	}
	title := map[string]string{
		policy.ShadowDenies.String(): "NOW REFUSED", policy.ShadowAllows.String(): "NOW LET THROUGH", policy.OtherAction.String(): "another action",
		policy.OtherReason.String(): "refused for another reason", policy.OtherRule.String(): "another rule, the same answer", policy.OtherObserved.String(): "observed otherwise",
	}
	last := ""
	for i := range r.Groups {
		g := &r.Groups[i]
		if g.Kind != last {
			fmt.Fprintln(w, title[g.Kind])
			last = g.Kind
		}
		if err := printWrapped(w, "  ", fmt.Sprintf("%s, %s: %s", count(int(g.Flows), "flow"), count(g.Clients, "client"), g)); err != nil {
			return err
		}
		if err := printWrapped(w, "      ", fmt.Sprintf("%s; for example flow %s", strings.Join(g.Some, ", "), g.Example)); err != nil {
			return err
		}
	}
	if len(r.Unknown) > 0 {
		fmt.Fprintln(w, "uncertain")
	}
	for _, u := range r.Unknown {
		text := fmt.Sprintf("%s: %s", count(int(u.Flows), "flow"), u.Why)
		if u.Rule != "" {
			text += " (rule " + u.Rule + ")"
		}
		if err := printWrapped(w, "  ", text); err != nil {
			return err
		}
	}
	return say(w, "%s: %d as they were, %d differently, %d uncertain, %d that no policy decided", count(int(r.Flows), "flow"), r.Same, r.Different, r.Uncertain, r.Undecided)
}
