package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/demo"
)

func newLabCmd(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Keep a client, gateway and server in namespaces to try things",
		Long: `Three network namespaces, client - gateway - server, that stay until "lab down",
with certificates and a configuration to start from; or five, with two gateways
and a network between them. docs/lab.md walks through both. Needs root.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLabUpCmd(stdout), newLabServeCmd(stdout, stderr), newLabExecCmd(), newLabDownCmd(stdout))
	return cmd
}

func newLabUpCmd(stdout io.Writer) *cobra.Command {
	var dir string
	var two bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make the namespaces, certificates and a configuration",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := filepath.Abs(dir)
			if err != nil {
				return &exitError{code: 2, err: err}
			}
			if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
				return &exitError{code: 2, err: fmt.Errorf("%s is not empty: remove it, or choose another --dir", dir)}
			}
			l, err := lab.New(lab.Options{Named: true, Servers: demo.LabServers, Two: two})
			if err != nil {
				return &exitError{code: 1, err: plainHelp(err)}
			}
			if err := demo.WriteLab(dir, two); err != nil {
				return &exitError{code: 1, err: errors.Join(err, l.Remove())}
			}
			if err := l.Close(); err != nil {
				return &exitError{code: 1, err: err}
			}
			help := demo.LabHelp
			if two {
				help = demo.TwoLabHelp
			}
			fmt.Fprint(stdout, help(command(), dir))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "sslgate-lab", "where certificates and sslgate.yaml are written: a new or empty `DIR`")
	cmd.Flags().BoolVar(&two, "two", false, "two gateways: client - gateway - between - gateway2 - server")
	return cmd
}

func newLabServeCmd(stdout, stderr io.Writer) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run destinations in the server namespace until interrupted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open("")
			if err != nil {
				return &exitError{code: 1, err: plainHelp(err)}
			}
			fmt.Fprintln(stderr, "serving until Ctrl-C ...")
			err = demo.ServeLab(cmd.Context(), l, dir, stdout)
			if err = errors.Join(err, l.Close()); err != nil {
				return &exitError{code: 1, err: err}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "sslgate-lab", "the `DIR` of lab up")
	return cmd
}

func newLabExecCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "exec client|gateway|between|gateway2|server COMMAND...",
		Short:   "Run a command inside a namespace",
		Example: "  sslgate lab exec gateway sslgate run -c sslgate-lab/sslgate.yaml\n  sslgate lab exec client curl https://...",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			ns := lab.NS(args[0])
			if !slices.Contains([]lab.NS{lab.Client, lab.Gateway, lab.Between, lab.Gateway2, lab.Server}, ns) {
				return &exitError{code: 2, err: fmt.Errorf("no namespace %q: client, gateway or server, and between or gateway2 of a lab with two", args[0])}
			}
			l, err := lab.Open("")
			if err != nil {
				return &exitError{code: 1, err: plainHelp(err)}
			}
			// Exec returns only if it fails: the command replaces this process, so that it
			// gets the signals and the terminal itself.
			err = l.Exec(ns, args[1:])
			return &exitError{code: 1, err: errors.Join(err, l.Close())}
		},
	}
	// All words after the namespace belong to the command.
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func newLabDownCmd(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the namespaces, also after a crash",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			gone, err := lab.Down("")
			if err != nil {
				return &exitError{code: 1, err: err}
			}
			if len(gone) == 0 {
				fmt.Fprintln(stdout, "no lab is up")
				return nil
			}
			fmt.Fprintf(stdout, "removed %s; the files of `lab up` stay\n", strings.Join(gone, ", "))
			return nil
		},
	}
}

// command returns how this program was called, for printed commands that a user can paste.
func command() string {
	self, err := os.Executable()
	if err != nil {
		return "sslgate"
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, self); err == nil && !strings.HasPrefix(rel, "..") {
			return "./" + rel
		}
	}
	return self
}
