package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/escape"
)

// filterFlags are the flags of flows and trace that pick flows.
type filterFlags struct {
	rule, client, reason, verdict, step string
}

func (f *filterFlags) add(cmd *cobra.Command, finished bool) {
	fs := cmd.Flags()
	fs.StringVar(&f.rule, "rule", "", "only flows of this `RULE`")
	fs.StringVar(&f.client, "client", "", "only flows from this `ADDRESS` or network, as 192.0.2.0/24")
	fs.StringVar(&f.reason, "reason", "", "only flows with this reason `CODE`")
	fs.StringVar(&f.step, "step", "", "only flows that reached this `STEP`, 1 to 9, and no further")
	if finished {
		fs.StringVar(&f.verdict, "verdict", "", "only flows with this `VERDICT`: allowed, refused or failed")
	}
}

// filter parses the flags; an error is a usage error.
func (f *filterFlags) filter() (admin.Filter, error) {
	q := map[string][]string{"rule": {f.rule}, "client": {f.client}, "reason": {f.reason}, "verdict": {f.verdict}, "step": {f.step}}
	filter, err := admin.ParseFilter(q)
	if err != nil {
		return filter, &exitError{code: 2, err: err}
	}
	return filter, nil
}

// defaultFlows is how many flows are listed: more than anyone reads.
const defaultFlows = 1000

func newFlowsCmd(stdout, stderr io.Writer) *cobra.Command {
	var socket string
	var asJSON, watch bool
	var limit int
	var flags filterFlags
	cmd := &cobra.Command{
		Use:   "flows [ID]",
		Short: "List the live flows, or draw one; `sslgate flows end ID` ends one",
		Long: `List the live flows of the running gateway, the oldest first. On a terminal the
table keeps to 80 columns; anywhere else nothing is cut. STEP is the step of
the handshake that was reached, "relay" once data may flow.

With an ID that flow alone is drawn, both of its handshakes, while it lives and
as long as it is remembered afterwards. Exit code 1: nobody knows it.`,
		Example: "  sslgate flows --rule pay --watch\n  sslgate flows 5f1c22ab-3e\n  sslgate flows end 5f1c22ab-3e",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			filter, err := flags.filter()
			switch {
			case err != nil:
				return err
			case limit < 0:
				return &exitError{code: 2, err: fmt.Errorf("--limit is a number of flows, or 0 for all, not %d", limit)}
			case len(ids) > 0 && (filter != admin.Filter{} || cmd.Flags().Changed("limit")):
				return &exitError{code: 2, err: errors.New("an ID is one flow: no other flag picks flows then")}
			}
			c := admin.NewClient(socket)
			for {
				var show func() error
				if len(ids) > 0 {
					show, err = oneFlow(cmd.Context(), c, ids[0], stdout, asJSON)
				} else {
					show, err = allFlows(cmd.Context(), c, filter, limit, stdout, stderr, asJSON)
				}
				switch {
				case cmd.Context().Err() != nil && watch:
					return nil
				case err != nil:
					return &exitError{code: 1, err: err}
				}
				if watch && !asJSON && isTerminal(stdout) {
					fmt.Fprint(stdout, "\x1b[H\x1b[2J") // home and clear: ECMA-48, CUP and ED
				}
				if err := show(); err != nil || !watch || !pause(cmd.Context(), time.Second) {
					return err
				}
				if !asJSON && !isTerminal(stdout) {
					fmt.Fprintln(stdout)
				}
			}
		},
	}
	socketFlag(cmd, &socket)
	flags.add(cmd, false)
	cmd.Flags().IntVarP(&limit, "limit", "n", defaultFlows, "list so many flows at most, the `NUMBER` 0 is all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array, of one flow an object; with --watch one a second")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "look again each second until interrupted")
	cmd.AddCommand(newFlowsEndCmd(stdout))
	return cmd
}

// allFlows asks for the list and returns a function that prints it.
func allFlows(ctx context.Context, c *admin.Client, filter admin.Filter, limit int, stdout, stderr io.Writer, asJSON bool) (func() error, error) {
	flows, all, err := c.Flows(ctx, filter, limit)
	if err != nil {
		return nil, err
	}
	return func() error {
		if flows == nil {
			flows = []admin.Flow{}
		}
		var err error
		if asJSON {
			err = writeJSON(stdout, flows)
		} else {
			err = printFlows(stdout, flows, isTerminal(stdout))
		}
		if err == nil && all > len(flows) {
			_, err = fmt.Fprintf(stderr, "sslgate: these are the oldest %d of %s; --limit 0 lists all\n", len(flows), count(all, "flow"))
		}
		return err
	}, nil
}

func newFlowsEndCmd(stdout io.Writer) *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "end ID...",
		Short: "End live flows with a reset to both sides",
		Long: `End live flows with a reset to both sides; their records say
ended_by_operator. Exit code 1 if one of them is not live.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			var missing []string
			for _, id := range ids {
				ok, err := admin.NewClient(socket).EndFlow(cmd.Context(), id)
				if err != nil {
					return &exitError{code: 1, err: err}
				}
				if !ok {
					missing = append(missing, escape.String(id, 80))
					continue
				}
				fmt.Fprintf(stdout, "ended %s\n", escape.String(id, 80))
			}
			if missing != nil {
				return &exitError{code: 1, err: fmt.Errorf("no live flow has the id %s", strings.Join(missing, ", "))}
			}
			return nil
		},
	}
	socketFlag(cmd, &socket)
	return cmd
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// The columns of the table on a terminal: 80 with two blanks between each.
var flowColumns = [...]struct {
	name  string
	width int
}{{"ID", 14}, {"AGE", 5}, {"CLIENT", 15}, {"TO", 15}, {"RULE", 8}, {"STEP", 5}, {"BYTES", 6}}

func printFlows(w io.Writer, flows []admin.Flow, narrow bool) error {
	if len(flows) == 0 {
		_, err := fmt.Fprintln(w, "no live flow")
		return err
	}
	var out strings.Builder
	tw := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	row := func(cells [len(flowColumns)]string) {
		for i := range cells {
			if narrow {
				cells[i] = fit(cells[i], flowColumns[i].width)
			}
		}
		fmt.Fprintln(tw, strings.Join(cells[:], "\t"))
	}
	var head [len(flowColumns)]string
	for i, c := range flowColumns {
		head[i] = c.name
	}
	row(head)
	for _, f := range flows {
		step := strconv.Itoa(f.Step)
		if f.Relaying {
			step = "relay"
		}
		to := f.SNI
		if to == "" {
			to = f.Destination
		}
		client := f.Client
		if ap, err := netip.ParseAddrPort(f.Client); err == nil && narrow {
			client = ap.Addr().String()
		}
		rule := f.Rule
		if rule == "" {
			rule = "-" // not decided yet
		}
		row([...]string{f.ID, age(time.Since(f.Since)), client, escape.String(to, 0), escape.String(rule, 0), step, amount(f.BytesUp + f.BytesDown)})
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, line := range strings.SplitAfter(out.String(), "\n") {
		if line != "" {
			fmt.Fprintln(w, strings.TrimRight(line, " \n"))
		}
	}
	return nil
}

// fit cuts a text in the middle, because both ends of an address or a name are informative.
func fit(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	tail := (n - 2) / 2
	return string(r[:n-2-tail]) + ".." + string(r[len(r)-tail:])
}

// age is a duration in at most five columns.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", max(d.Milliseconds(), 0))
	case d < 100*time.Second:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// amount is a number of bytes in at most six columns.
func amount(n int64) string {
	if n < 10000 {
		return strconv.FormatInt(n, 10)
	}
	v := float64(n)
	for _, unit := range []string{"K", "M", "G", "T"} {
		if v /= 1024; v < 1000 {
			return fmt.Sprintf("%.3g%s", v, unit)
		}
	}
	return fmt.Sprintf("%.0fP", v/1024)
}
