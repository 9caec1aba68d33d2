package main

import (
	"io"

	"github.com/spf13/cobra"
)

// addCommands is the list of what sslgate can do, in the order of its help.
func addCommands(root *cobra.Command, stdin io.Reader, stdout, stderr io.Writer) {
	root.AddGroup(
		&cobra.Group{ID: "gateway", Title: "Run a gateway:"},
		&cobra.Group{ID: "try", Title: "Try it out:"},
		&cobra.Group{ID: "look", Title: "Look things up:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("gateway", newCheckCmd(stdout), newRunCmd(stdout, stderr), newStatusCmd(stdout), newReloadCmd(stdout, stderr), newUpgradeCmd(stdout, stderr), newDrainCmd(stdout), newFlowsCmd(stdout, stderr), newRecentCmd(stdout), newTraceCmd(stdout, stderr), newGuardCmd(stdout, stderr), newReleaseCmd(stdin, stdout, stderr), newSignerCmd(stdout), newFleetCmd(stdout, stderr))
	add("try", newDemoCmd(stdout, stderr), newLabCmd(stdout, stderr), newPKICmd(stdout, stderr))
	add("look", newExplainCmd(stdout), newTestCmd(stdout), newDoctorCmd(stdout), newProbeCmd(stdout, stderr), newProfilesCmd(stdout), newReportCmd(stdin, stdout, stderr), newReplayCmd(stdin, stdout, stderr), newSuggestCmd(stdin, stdout, stderr), newReasonCmd(stdout, stderr), newVersionCmd(stdout))
	root.AddCommand(newCompletionCmd(root, stdout), newManCmd(root, stdout))
}
