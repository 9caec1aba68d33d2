package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/times"
)

// socketFlag adds the flag that says where the gateway listens.
func socketFlag(cmd *cobra.Command, socket *string) {
	cmd.Flags().StringVar(socket, "socket", config.DefaultSocket, "admin `SOCKET` of the gateway")
}

func newStatusCmd(stdout io.Writer) *cobra.Command {
	var socket, kinds string
	var asJSON, onlyReady bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the running gateway stands",
		Long: `Print how the running gateway stands: whether it is ready, and if not, why;
flows, memory, policy, what was dropped.

With --ready it prints only why the gateway is not ready, and the exit code
answers: for the checks of keepalived and other supervisors of routes. A
gateway that drains is not ready from the first moment of limits.shutdown_delay.

With --kinds only some reasons count: stop (it drains, or another process has
its place), own (a fault of this host), identity (its certificate has ended,
or its signer does not sign), shared (other hosts with the same files have it
too: a revocation list that is gone) and load (limits.flows is reached). What
moves addresses to another host counts stop,own, and identity where each host
renews its own certificates: moving mends neither of the others.

Exit code 0: it answers; with --ready: it is ready. 1: it does not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := admin.NewClient(socket)
			if cmd.Flags().Changed("kinds") && !onlyReady {
				return &exitError{code: 2, err: errors.New("--kinds is for --ready")}
			}
			if onlyReady {
				which, err := admin.ParseReadyKinds(kinds)
				if err != nil {
					return &exitError{code: 2, err: err}
				}
				return printReady(cmd.Context(), stdout, c, which, asJSON)
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return &exitError{code: 1, err: err}
			}
			if asJSON {
				return writeJSON(stdout, s)
			}
			ready, err := c.Ready(cmd.Context())
			if err != nil {
				return &exitError{code: 1, err: err}
			}
			return printStatus(stdout, s, ready)
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&onlyReady, "ready", false, "only whether it is ready; exit code 1 where it is not")
	cmd.Flags().StringVar(&kinds, "kinds", "", "with --ready: only reasons of these `KINDS` count, of stop,own,identity,shared,load")
	return cmd
}

// printReady prints why the gateway is not ready, where reasons of these kinds count. It fails
// where it is not.
func printReady(ctx context.Context, w io.Writer, c *admin.Client, kinds []admin.ReadyKind, asJSON bool) error {
	ready, err := c.Ready(ctx, kinds...)
	if err != nil {
		return &exitError{code: 1, err: err}
	}
	ready = ready.Of(kinds) // a gateway from before has answered for all
	switch {
	case asJSON:
		err = writeJSON(w, ready)
	case !ready.Ready:
		why := ready.Reasons // of a version that knows no kinds, with its warnings
		if len(ready.Causes) > 0 {
			why = nil
		}
		for _, c := range ready.Causes {
			why = append(why, fmt.Sprintf("%s (%s)", c.Text, c.Kind))
		}
		for _, reason := range why {
			if err = say(w, "not ready: %s", escape.String(reason, 0)); err != nil {
				break
			}
		}
	}
	if err == nil && !ready.Ready {
		err = &exitError{code: 1}
	}
	return err
}

func printStatus(w io.Writer, s admin.Status, ready admin.Readiness) error {
	var t table
	row := t.row
	state := "running"
	if s.Draining {
		state = "draining"
	}
	row("state", "%s since %s (%s)", state, s.Started.Format(time.RFC3339), time.Since(s.Started).Round(time.Second))
	for i, reason := range ready.Reasons {
		name := ""
		switch {
		case i == 0 && ready.Ready:
			name = "warning"
		case i == 0:
			name = "not ready"
		}
		row(name, "%s", escape.String(reason, 0))
	}
	row("version", "%s", s.Version)
	row("config", "%s", escape.String(s.Config, 0))
	row("policy", "%s, %s", s.Policy, count(s.Rules, "rule"))
	row("snapshot", "%s", s.Snapshot)
	if f := s.Fleet; f != nil {
		row("fleet", "%s, site %s, gateway %s: epoch %d by root %d, source looked at %s ago",
			escape.String(f.Name, 80), escape.String(f.Site, 80), escape.String(f.Gateway, 80), f.Epoch, f.Root, time.Since(f.Contact).Round(time.Second))
		row("", "list %d of what is revoked: %s", f.Revoked.Number, count(f.Revoked.Entries, "certificate"))
	}
	for i, id := range s.TicketKeys {
		switch i {
		case 0:
			row("ticket keys", "%s seals and opens", escape.String(id, 40))
		default:
			row("", "%s opens", escape.String(id, 40))
		}
	}
	printRevocation(row, s)
	printIdentities(row, s)
	row("flows", "%d of %d", s.Flows, s.FlowsMax)
	row("handshakes", "%d in flight, %d wait, %d refused for want of a turn", s.Handshakes, s.Waiting, s.Refused)
	if m := s.Memory; m != nil && m.Ceiling > 0 {
		row("memory", "%d MiB in use, %d MiB resident of %d MiB, %s; flows hold %d MiB; %d flows refused, %d ended for want of it",
			m.InUse>>20, m.Resident>>20, m.Ceiling>>20, m.Level, m.Held>>20, m.Refused, m.Shed)
		if m.Loaned+m.Unmeasured > 0 || m.LoansRefused+m.LoansRecalled > 0 {
			row("loading", "%d MiB lent, %d MiB not measured yet; %d loans refused, %d called back",
				m.Loaned>>20, m.Unmeasured>>20, m.LoansRefused, m.LoansRecalled)
		}
	}
	row("tun", "%s, offload %v, %s", s.TUN, s.Offload, count(s.Queues, "queue"))
	if s.LocalOut {
		row("programs", "what programs of this host open is captured too (capture.local.out)")
	}
	row("SYNs", "%d passed, %d refused", s.SYNsPassed, s.SYNsRefused)
	row("packets", "%d dropped as malformed", s.BadPackets)
	for i, d := range s.Dropped {
		name := ""
		if i == 0 {
			name = "dropped"
		}
		row(name, "%d by the guard: %s: %s", d.Packets, d.Reason, d.Cause)
	}
	if sh := s.Shadow; sh != nil {
		row("shadow", "policy %s, %s decided by both", sh.Policy, count(sh.Flows, "flow"))
		for _, d := range sh.Differences {
			row("", "%s in %s: %s, the shadow says %s", d.Kind, count(d.Flows, "flow"), ruleSays(d.EnforcedRule, d.EnforcedReason), ruleSays(d.ShadowRule, d.ShadowReason))
		}
	}
	row("repairs", "%d of rules, routes and nft table", s.Repairs)
	row("reloads", "%d", s.Reloads)
	if r := s.LastReload; r != nil {
		what := "taken, policy " + r.Policy
		if r.Error != "" {
			what = "refused: " + escape.String(r.Error, 0)
		}
		row("last reload", "%s, %s", r.At.Format(time.RFC3339), what)
	}
	return t.print(w)
}

// printRevocation is a line for each authority that is checked, and one for
// each thing that is wrong there.
func printRevocation(row func(name, format string, args ...any), s admin.Status) {
	if s.CRLs != "" {
		row("lists", "%s", s.CRLs)
	}
	name := "revocation"
	for _, a := range s.Revocation {
		if a.Mode == "off" {
			continue
		}
		text := a.Mode
		if a.State != "" {
			text += ", " + a.State
		}
		if a.NextUpdate != nil {
			now := time.Now()
			if left := times.Text(now, *a.NextUpdate); now.Before(*a.NextUpdate) {
				text += ", next update in " + left
			} else {
				text += ", next update was due " + left + " ago"
			}
		}
		text += ", " + count(a.Lists, "list")
		if a.Lists > 0 {
			text += fmt.Sprintf(" with %d serials", a.Entries)
		}
		if a.OCSP != "" {
			text += fmt.Sprintf(", OCSP asked %d times, %d failed", a.OCSPAsked, a.OCSPFailures)
		}
		text += fmt.Sprintf("; %d good, %d revoked, %d unknown", a.Good, a.Revoked, a.UnknownRefused+a.UnknownAllowed)
		row(name, "%s: %s", escape.String(a.Authority, 0), text)
		name = ""
		for _, e := range a.Errors {
			row("", "%s: %s", escape.String(a.Authority, 0), escape.String(e, 0))
		}
	}
}

// ruleSays puts a rule and its reason in words.
func ruleSays(rule, why string) string {
	if rule == "" {
		rule = "the default"
	}
	if why == "" {
		return rule
	}
	return rule + " (" + why + ")"
}
