package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/demo"
)

func newDemoCmd(stdout, stderr io.Writer) *cobra.Command {
	var opt demo.Options
	var list bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show what a gateway does, with real traffic in network namespaces",
		Long: `Make three network namespaces, client - gateway - server, and a throw-away PKI,
start the real gateway in the middle and drive good and bad clients through it.
For every scenario: who connected where, the nine steps of the handshake as
they happened, what was decided and why, and what the client saw. Nothing
outside of the namespaces is touched, and nothing is left behind.

It runs as root, and as a normal user where /dev/net/tun may be used by all.

Exit code 0: every scenario ended as it must. 1: one did not.`,
		Example: "  sslgate demo\n  sslgate demo --only expired --only thief-tls13\n  sslgate demo --json | jq .seen",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			scenarios, err := demo.Find(opt.Only)
			if err != nil {
				return &exitError{code: 2, err: err}
			}
			if !slices.Contains([]string{"", "std", "native"}, opt.Engine) {
				return &exitError{code: 2, err: fmt.Errorf("--engine %s: std or native", opt.Engine)}
			}
			if list {
				for _, s := range scenarios {
					fmt.Fprintf(stdout, "%-17s%s\n", s.Name, s.Title)
				}
				return nil
			}
			if lab.NeedReexec() {
				return again(demoArgs(opt), stdout, stderr)
			}
			if err := lab.Inside(); err != nil {
				return &exitError{code: 1, err: err}
			}
			if opt.Binary == "" {
				if opt.Binary, err = os.Executable(); err != nil {
					return &exitError{code: 1, err: err}
				}
			}
			opt.Stdout, opt.Progress = stdout, stderr
			_, failed, err := demo.Run(cmd.Context(), opt)
			if err != nil || failed > 0 {
				return &exitError{code: 1, err: plainHelp(err)}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&opt.JSON, "json", false, "print one JSON object a scenario, and a last line with the counts")
	cmd.Flags().StringSliceVar(&opt.Only, "only", nil, "run the scenario `NAME` only; may be repeated")
	cmd.Flags().BoolVar(&list, "list", false, "list the scenarios and do nothing")
	cmd.Flags().StringVar(&opt.Engine, "engine", "", "what makes the handshakes, `std` or native (docs/engine.md)")
	cmd.Flags().StringVar(&opt.Binary, "gateway", "", "the gateway to run, a `PROGRAM` like sslgate (default: this one)")
	return cmd
}

// demoArgs returns the arguments that express the same options.
func demoArgs(opt demo.Options) []string {
	args := []string{"demo"}
	if opt.JSON {
		args = append(args, "--json")
	}
	for _, n := range opt.Only {
		args = append(args, "--only", n)
	}
	if opt.Engine != "" {
		args = append(args, "--engine", opt.Engine)
	}
	if opt.Binary != "" {
		args = append(args, "--gateway", opt.Binary)
	}
	return args
}

// again runs this program as root of its own namespaces.
func again(args []string, stdout, stderr io.Writer) error {
	code, err := lab.Reexec(args, stdout, stderr)
	if err != nil {
		return &exitError{code: 1, err: plainHelp(err)}
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// plainHelp removes the sentinel from an error that is one sentence of help.
func plainHelp(err error) error {
	if err == nil || !errors.Is(err, lab.ErrHelp) {
		return err
	}
	return errors.New(lab.Help(err))
}
