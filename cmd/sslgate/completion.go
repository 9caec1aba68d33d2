package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// newCompletionCmd is `sslgate completion`.
func newCompletionCmd(root *cobra.Command, stdout io.Writer) *cobra.Command {
	shells := map[string]func() error{
		"bash":       func() error { return root.GenBashCompletionV2(stdout, true) },
		"zsh":        func() error { return root.GenZshCompletion(stdout) },
		"fish":       func() error { return root.GenFishCompletion(stdout, true) },
		"powershell": func() error { return root.GenPowerShellCompletionWithDesc(stdout) },
	}
	names := []string{"bash", "fish", "powershell", "zsh"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Write what a shell needs to complete commands and flags",
		Long: `Write what a shell needs to complete commands and flags: SHELL is bash, zsh,
fish or powershell. The Debian package installs it for all but the last.`,
		Example: `  sslgate completion bash > /etc/bash_completion.d/sslgate
  sslgate completion zsh > "${fpath[1]}/_sslgate"
  sslgate completion fish > ~/.config/fish/completions/sslgate.fish`,
		Args:                  cobra.ExactArgs(1),
		ValidArgs:             names,
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			write := shells[args[0]]
			if write == nil {
				return usageError(c, "no completion for the shell %q%s", args[0], fielderr.Suggest(args[0], names))
			}
			if err := write(); err != nil {
				return &exitError{code: 1, err: fmt.Errorf("write the completion: %w", err)}
			}
			return nil
		},
	}
}
