package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/times"
)

func newReloadCmd(stdout, stderr io.Writer) *cobra.Command {
	var socket string
	var pid int
	var asJSON, orUpgrade bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Read the configuration anew: all of it is put in place, or nothing",
		Long: `Make the running gateway read its configuration anew, with every certificate
it names. If anything is wrong the old one stays, and the mistakes are printed
with file, line and column. SIGHUP does the same without an answer.

With --pid that very process is meant: where another one or none answers on the
socket (admin.socket is "off", or elsewhere) it gets SIGHUP, and its log has the
answer.

With --or-upgrade another process takes over, as with "sslgate upgrade", where
the program is another one by now or a key has changed that no reload can
change. The systemd unit does this.

Exit code 0: it is in place, or SIGHUP was sent. 1: the old one stays.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := admin.NewClient(socket)
			if pid > 0 {
				if p, err := c.Process(cmd.Context()); err != nil || p != pid {
					return hangUp(stdout, pid)
				}
			}
			if orUpgrade && replaced(cmd.Context(), c) {
				return upgradeHere(cmd.Context(), stdout, stderr)
			}
			res, taken, err := c.Reload(cmd.Context())
			if err == nil && !taken && orUpgrade && len(res.NeedsRestart) > 0 {
				return upgradeHere(cmd.Context(), stdout, stderr)
			}
			switch {
			case err != nil:
				return &exitError{code: 1, err: err}
			case asJSON:
				err = writeJSON(stdout, res)
			default:
				err = printReload(stdout, stderr, res, taken)
			}
			if err == nil && !taken {
				err = &exitError{code: 1}
			}
			return err
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().IntVar(&pid, "pid", 0, "the process `ID` of the gateway that is meant")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&orUpgrade, "or-upgrade", false, "let another process take over where a reload is not enough; reads "+config.DefaultFile)
	return cmd
}

// replaced says whether the running gateway is of another program than this one: of another
// version, or its file was replaced since.
func replaced(ctx context.Context, c *admin.Client) bool {
	st, err := c.Status(ctx)
	if err != nil {
		return false // the reload says what is wrong
	}
	if st.Version != version() {
		return true
	}
	pid, err := c.Process(ctx)
	if err != nil || pid == 0 {
		return false
	}
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && strings.HasSuffix(program, " (deleted)")
}

// unitWatch is how long a new process is watched that systemd waits for (TimeoutStartSec).
const unitWatch = 15 * time.Second

func upgradeHere(ctx context.Context, stdout, stderr io.Writer) error {
	program, err := os.Executable()
	if err == nil {
		err = upgrade(ctx, nextProcess(program, config.DefaultFile, unitWatch), stdout, stderr)
	}
	if err != nil {
		return &exitError{code: 1, err: err}
	}
	return nil
}

// hangUp is a reload without an answer.
func hangUp(stdout io.Writer, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return &exitError{code: 1, err: fmt.Errorf("SIGHUP to process %d: %w", pid, err)}
	}
	return say(stdout, "process %d does not listen on the socket: it was sent SIGHUP, its log has the answer", pid)
}

func printReload(stdout, stderr io.Writer, res admin.ReloadResult, taken bool) error {
	for _, f := range res.Findings {
		if err := printHanging(stderr, "", "    ", escape.String(f, 2000)); err != nil {
			return err
		}
	}
	if !taken {
		return printWrapped(stderr, "sslgate: ", res.Error)
	}
	for i := range res.Certificates {
		if err := printHanging(stdout, "", "    ", changeText(&res.Certificates[i])); err != nil {
			return err
		}
	}
	if res.CertificatesMore > 0 {
		if err := say(stdout, "%s changed besides", count(res.CertificatesMore, "certificate")); err != nil {
			return err
		}
	}
	return say(stdout, "reloaded: policy %s (before: %s), %s ended", res.Policy, res.Before, count(res.Ended, "live flow"))
}

// changeText says which certificate has taken the place of which.
func changeText(c *admin.CertificateChange) string {
	one := func(c *admin.Certificate) string {
		return fmt.Sprintf("%s, serial %s, until %s", escape.Shown(c.Subject, 0), escape.String(c.Serial, 0), times.Stamp(c.NotAfter))
	}
	what := c.Kind + " " + escape.String(c.Name, 0) + ": "
	switch {
	case c.Old == nil && c.New == nil:
		return what + "changed"
	case c.Old == nil:
		return what + "new: " + one(c.New)
	case c.New == nil:
		return what + "gone: " + one(c.Old)
	}
	return what + one(c.New) + " (before: " + one(c.Old) + ")"
}
