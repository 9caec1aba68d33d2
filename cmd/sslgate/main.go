// Command sslgate is a transparent TLS gateway: packets of a TUN device go
// through a userspace TCP stack, every flow is terminated, its client's
// certificate and cryptography checked against policy, and relayed to the
// destination it was meant for.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/internal/applog"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: 0 is good, 1 means the answer is no, 2 means wrong usage or
// configuration, 3 is exitDrained.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCmd(stdin, stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{code: 2, err: err}
	}
	if e.err != nil {
		fmt.Fprintf(applog.At(zapcore.ErrorLevel, stderr), "sslgate: %v\n", e.err)
	}
	return e.code
}

func newRootCmd(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "sslgate",
		Short: "Transparent TLS gateway",
		Long: `Transparent TLS gateway: every connection on the path shows a good client
certificate and uses good cryptography, or does not pass.`,
		Version:       versionLine(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().BoolP("version", "v", false, "print the version")
	addCommands(root, stdin, stdout, stderr)
	dress(root)
	return root
}
