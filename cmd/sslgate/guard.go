package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/service"
	"github.com/sslgate/sslgate/tun"
)

// newGuardCmd is `sslgate guard`.
func newGuardCmd(stdout, stderr io.Writer) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "guard [FILE]",
		Short: "Let captured traffic go nowhere until the gateway runs",
		Long: `Set the guard alone: from then on captured traffic goes nowhere, until
"sslgate run" takes it or "sslgate release" lets it pass. It is for the time
between boot and the first start: run it before the network comes up. Neither
the TUN nor the captured interfaces need to exist, and only the sections tun
and capture of the configuration are used.`,
		Example: "  sslgate guard -c sslgate.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := configFile(cmd, file, args)
			if err != nil {
				return err
			}
			c, err := loadCapture(file, stderr)
			if err != nil {
				return err
			}
			switch err := tun.Guard(service.SteerConfig(c)); {
			case errors.Is(err, tun.ErrRunning):
				return say(stdout, "the guard is set already: %v", err)
			case err != nil:
				return &exitError{code: 1, err: err}
			}
			return say(stdout, "the guard is set: %s goes nowhere until `sslgate run` or `sslgate release`", captured(c))
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// newReleaseCmd is `sslgate release`.
func newReleaseCmd(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	var file string
	var yes bool
	cmd := &cobra.Command{
		Use:   "release [FILE]",
		Short: "Let captured traffic pass uninspected",
		Long: `Remove everything that "sslgate run" and "sslgate guard" have set: guard, rules
and routes. Captured traffic then passes uninspected. It asks before, and does
nothing while the gateway runs.`,
		Example: "  sslgate release -c sslgate.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := configFile(cmd, file, args)
			if err != nil {
				return err
			}
			c, err := loadCapture(file, stderr)
			if err != nil {
				return err
			}
			if !yes {
				fmt.Fprintf(stdout, "%s will pass uninspected. Type yes to go on: ", captured(c))
				// 100 bytes are enough for a yes.
				answer, _ := bufio.NewReader(io.LimitReader(stdin, 100)).ReadString('\n')
				if strings.TrimSpace(answer) != "yes" {
					fmt.Fprintln(stdout)
					return &exitError{code: 1, err: errors.New("nothing was released")}
				}
			}
			if err := tun.Release(service.SteerConfig(c)); err != nil {
				return &exitError{code: 1, err: err}
			}
			return say(stdout, "released: %s passes uninspected", captured(c))
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// loadCapture reads what guard and release need. Mistakes elsewhere in the file do not stop it.
func loadCapture(file string, stderr io.Writer) (*config.Config, error) {
	c, found := config.LoadCapture(file)
	if c == nil {
		for _, f := range found {
			if err := printFinding(stderr, f); err != nil {
				return nil, err
			}
		}
		return nil, &exitError{code: 2, err: fmt.Errorf("%s does not say what is captured; nothing was changed", file)}
	}
	if config.Failed(found) {
		if err := say(stderr, "sslgate: %s has mistakes that do not matter here: see `sslgate check -c %s`", file, file); err != nil {
			return nil, err
		}
	}
	if c.TUN.Attach {
		return nil, &exitError{code: 2, err: fmt.Errorf("with tun.attach %s is routed, and guarded, by somebody else", c.TUN.Name)}
	}
	return c, nil
}

// captured says in words what is captured.
func captured(c *config.Config) string {
	ports := "every port"
	if !c.Capture.Ports.All {
		list := make([]string, len(c.Capture.Ports.List))
		for i, p := range c.Capture.Ports.List {
			list[i] = fmt.Sprint(p)
		}
		ports = "port " + strings.Join(list, ", ")
	}
	return fmt.Sprintf("forwarded TCP to %s from %s", ports, strings.Join(c.Capture.Interfaces, ", "))
}
