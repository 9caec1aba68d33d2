package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/service"
)

// defaultWatch is how long a new process is watched.
const defaultWatch = time.Minute

func newUpgradeCmd(stdout, stderr io.Writer) *cobra.Command {
	var file, binary string
	var watch time.Duration
	cmd := &cobra.Command{
		Use:   "upgrade [FILE]",
		Short: "Replace the running gateway by a new process, and lose no flow",
		Long: `Start another process with the program and the configuration as they are now,
beside the running gateway. Once it is ready and has carried a probe, new flows
begin in the new process, and live ones stay where they are. It is watched for a
while; if it ends or is not ready meanwhile, the older one goes on as before.
Then the older process ends with its last flow, at the latest after
upgrade.drain.

If the program does not start, the configuration is refused, or anything else
fails before that, nothing happens to the running gateway.

The new process goes on when the command has ended, with the same standard
output and error.

Exit code 0: the new process stays. 1: it does not, and the message says which
process goes on.`,
		Example: "  sslgate upgrade -c sslgate.yaml --watch 5m",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := configFile(cmd, file, args)
			if err != nil {
				return err
			}
			if binary == "" {
				if binary, err = os.Executable(); err != nil {
					return &exitError{code: 1, err: err}
				}
			}
			if err := upgrade(cmd.Context(), nextProcess(binary, file, watch), stdout, stderr); err != nil {
				return &exitError{code: 1, err: err}
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&binary, "binary", "", "the new program (default: this one)")
	cmd.Flags().DurationVar(&watch, "watch", defaultWatch, "how long the new process must do well before the older one drains")
	return cmd
}

func nextProcess(program, file string, watch time.Duration) *exec.Cmd {
	return exec.Command(program, "run", "-c", file, "--take-over", "--watch", watch.String(), "--tell-fd", "3")
}

// step is one line of what a new process tells the command that has started it.
type step struct {
	Text   string `json:"text"`
	Stays  bool   `json:"stays,omitempty"`
	Older  int    `json:"older,omitempty"`
	Socket string `json:"socket,omitempty"`
}

// upgrade starts the new process and returns when it stays, or with the reason why not.
func upgrade(ctx context.Context, next *exec.Cmd, stdout, stderr io.Writer) error {
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	next.Stdout, next.Stderr, next.ExtraFiles = os.Stdout, os.Stderr, []*os.File{out}
	next.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the terminal's signals are for the command
	err = next.Start()
	_ = out.Close() // the new process has its own
	if err != nil {
		return fmt.Errorf("%w; %s", err, nothingTaken)
	}
	// Until it stays, an end of the command ends the new process, which gives everything back.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(stop)
	ended := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		for {
			select {
			case <-stop:
				_ = next.Process.Signal(syscall.SIGTERM)
			case <-ended:
				return
			}
		}
	}()
	defer func() { close(ended); <-forwarded }()
	var older step
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var s step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			continue
		}
		if err := say(stdout, "%s", s.Text); err != nil {
			fmt.Fprintln(stderr, err)
		}
		if s.Stays {
			return nil
		}
		if s.Older != 0 {
			older = s
		}
	}
	err = next.Wait()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		return err
	}
	return fmt.Errorf("the new process has ended (%s); %s", next.ProcessState, whoGoesOn(context.WithoutCancel(ctx), older.Older, older.Socket))
}

// nothingTaken is what is true where no gateway has agreed to anything.
const nothingTaken = "nothing was taken over: a gateway that runs goes on"

// goesOnTime is how long the older process has to show what has become of it.
const goesOnTime = 10 * time.Second

// whoGoesOn says which process serves after one has not taken over: the older one, by its process
// ID and its socket, another one, or none. older is 0 if nothing was taken over.
func whoGoesOn(ctx context.Context, older int, socket string) string {
	if older == 0 {
		return nothingTaken
	}
	ctx, cancel := context.WithTimeout(ctx, goesOnTime)
	defer cancel()
	client := admin.NewClient(socket)
	for {
		process, err := client.Process(ctx)
		var st admin.Status
		if err == nil {
			st, err = client.Status(ctx)
		}
		if err == nil && process == 0 { // it is in another PID namespace
			process = older
		}
		switch {
		case err == nil && st.HandedOver: // not decided yet
		case err == nil && st.Draining:
			return fmt.Sprintf("process %d goes on until its flows have ended: it was told to stop", process)
		case err == nil && process == older:
			return fmt.Sprintf("process %d goes on, with all new flows", process)
		case err == nil:
			return fmt.Sprintf("process %d has ended too, and process %d serves", older, process)
		case errors.Is(syscall.Kill(older, 0), syscall.ESRCH):
			return fmt.Sprintf("process %d has ended too, and no gateway answers: captured traffic goes nowhere until one starts (unless `fail: open` was in force and it was stopped in order)", older)
		}
		select {
		case <-ctx.Done():
			return fmt.Sprintf("whether process %d goes on is not known: it does not answer on %s", older, socket)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// takeOver is what the flags of run say about a process to take over from.
type takeOver struct {
	on    bool
	watch time.Duration
	fd    int
}

func (o *takeOver) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.on, "take-over", false, "take over from the running gateway; sslgate upgrade starts such a process")
	cmd.Flags().DurationVar(&o.watch, "watch", defaultWatch, "with --take-over: how long this process must do well before the other one drains")
	cmd.Flags().IntVar(&o.fd, "tell-fd", -1, "with --take-over: descriptor that steps are told on")
	_ = cmd.Flags().MarkHidden("tell-fd") // fails only for a flag that is not there
}

func (o *takeOver) options() (*service.TakeOver, error) {
	if !o.on {
		return nil, nil
	}
	if o.watch < 0 {
		return nil, errors.New("--watch is a time")
	}
	to := &service.TakeOver{Watch: o.watch, Tell: func(service.Step) {}}
	if o.fd < 0 {
		return to, nil
	}
	syscall.CloseOnExec(o.fd)
	out := os.NewFile(uintptr(o.fd), "steps")
	to.Tell = func(s service.Step) {
		// It fails if the command that has started this process is gone, which ends nothing.
		_ = json.NewEncoder(out).Encode(step(s))
		if s.Stays {
			_ = out.Close()
		}
	}
	return to, nil
}

func newDrainCmd(stdout io.Writer) *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Take no new flows, let the live ones end, then stop for good",
		Long: `Make the running gateway take no new flows, limits.shutdown_delay after it has
said that it is not ready any more. The live ones have limits.drain to end;
then it stops, and systemd does not start it again: "systemctl start sslgate"
does. Unless fail is "open", captured traffic goes nowhere meanwhile. The
command does not wait for the end.`,
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
