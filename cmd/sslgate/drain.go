package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/admin"
)

func newDrainCmd(stdout io.Writer) *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Take no new flows, let the live ones end, then stop for good",
		Long: `Make the running gateway take no new flows. The live ones have limits.drain to
end; then it stops, and systemd does not start it again: "systemctl start
sslgate" does. Unless fail is "open", captured traffic goes nowhere meanwhile.
The command does not wait for the end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := admin.NewClient(socket).Drain(cmd.Context())
			switch {
			case err != nil:
				return &exitError{code: 1, err: err}
			case asJSON:
				return writeJSON(stdout, d)
			}
			return say(stdout, "draining: it stops when the last live flow has ended, at %s at the latest", d.Deadline.Format(time.RFC3339))
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
