package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/diagram"
)

// errEnough ends a trace that has shown what was asked for.
var errEnough = errors.New("enough")

func newTraceCmd(stdout, stderr io.Writer) *cobra.Command {
	var socket string
	var asJSON bool
	var n int
	var flags filterFlags
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Show every flow as it finishes, with its handshake drawn",
		Long: `Show every flow of the running gateway as it finishes: both handshakes drawn
in 80 columns, then verdict, rule, reason and alerts. With --json each is one
line, as in the audit file.

No flow waits for the reader: what comes faster than it is read is left out,
and standard error says how many that were.`,
		Example: "  sslgate trace --verdict refused -n 1\n  sslgate trace --json --client 192.0.2.0/24 | jq .reason",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := flags.filter()
			if err != nil {
				return err
			}
			if n < 0 {
				return &exitError{code: 2, err: fmt.Errorf("-n is a number of flows, not %d", n)}
			}
			shown := 0
			err = admin.NewClient(socket).Trace(cmd.Context(), filter, func(l admin.TraceLine) error {
				if l.Lost > 0 {
					fmt.Fprintf(stderr, "sslgate: %s left out, they came faster than they were read\n", count(int(l.Lost), "flow"))
				}
				if l.Record == nil {
					return nil
				}
				if err := printTraced(stdout, l.Record, asJSON, shown > 0); err != nil {
					return err
				}
				if shown++; shown == n {
					return errEnough
				}
				return nil
			})
			switch {
			case errors.Is(err, errEnough), errors.Is(err, context.Canceled):
				return nil
			case errors.Is(err, io.EOF):
				return &exitError{code: 1, err: errors.New("the gateway has gone")}
			default:
				return &exitError{code: 1, err: err}
			}
		},
	}
	socketFlag(cmd, &socket)
	flags.add(cmd, true)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	cmd.Flags().IntVarP(&n, "number", "n", 0, "end after `N` flows; 0 is never")
	return cmd
}

// printTraced prints one record.
func printTraced(w io.Writer, raw json.RawMessage, asJSON, between bool) error {
	if asJSON {
		return writeJSON(w, raw)
	}
	r, err := audit.Parse(raw)
	if err != nil {
		return fmt.Errorf("audit record: %w", err)
	}
	if between {
		fmt.Fprintf(w, "\n%s\n\n", strings.Repeat("-", 80))
	}
	fmt.Fprint(w, diagram.Field("flow", r.ID+" "+r.Time))
	_, err = io.WriteString(w, diagram.Block(r))
	return err
}
