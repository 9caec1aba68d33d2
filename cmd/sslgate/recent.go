package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/diagram"
	"github.com/sslgate/sslgate/internal/reason"
)

// defaultRecent is how many are listed: a screen or two.
const defaultRecent = 10

func newRecentCmd(stdout io.Writer) *cobra.Command {
	var socket string
	var asJSON bool
	var limit int
	var within time.Duration
	var flags filterFlags
	cmd := &cobra.Command{
		Use:   "recent",
		Short: "List the last refusals, with cause and advice",
		Long: `List the flows that the running gateway has refused last, or that have failed,
the newest first: who, where to, why, and what to do about it. The same refusal
of the same client again and again is listed once, with how often it was.

The gateway remembers the last 128, and the last one of each of some hundred
clients beyond them; the audit log has all. With --verdict allowed it lists
those of the last 128 flows that were let through.

Exit code 0: also where there is none.`,
		Example: "  sslgate recent --client 192.0.2.7 --since 10m\n  sslgate recent --reason certificate_expired --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := flags.filter()
			switch {
			case err != nil:
				return err
			case limit < 0:
				return &exitError{code: 2, err: fmt.Errorf("--limit is a number of flows, or 0 for all, not %d", limit)}
			case within < 0 || cmd.Flags().Changed("since") && within == 0:
				return &exitError{code: 2, err: fmt.Errorf("--since is how far back to look, such as 10m, not %s", within)}
			}
			all, complete, err := admin.NewClient(socket).Recent(cmd.Context(), filter)
			if err != nil {
				return &exitError{code: 1, err: err}
			}
			r := recent{flows: pick(all, filter, within, time.Now()), complete: complete, within: within, filter: filter}
			if asJSON {
				return r.json(stdout, limit)
			}
			return r.text(stdout, limit)
		},
	}
	socketFlag(cmd, &socket)
	flags.add(cmd, true)
	cmd.Flags().DurationVar(&within, "since", 0, "only those of the last `DURATION`, such as 10m or 1h30m")
	cmd.Flags().IntVarP(&limit, "limit", "n", defaultRecent, "list so many at most, the `NUMBER` 0 is all that are remembered")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array, of one flow an object")
	return cmd
}

// pick returns the flows that were not let through, unless the filter asks for others.
func pick(all []admin.Finished, filter admin.Filter, within time.Duration, now time.Time) []admin.Finished {
	picked := []admin.Finished{}
	for _, f := range all {
		if (filter.Verdict != "" || f.Verdict != "allowed") && (within == 0 || now.Sub(f.At) <= within) {
			picked = append(picked, f)
		}
	}
	return picked
}

// recent is the content of the list, the newest first.
type recent struct {
	flows    []admin.Finished
	complete time.Time // since then no refusal was forgotten; zero: none at all
	within   time.Duration
	filter   admin.Filter
}

// recentJSON is one flow in --json. The names are stable.
type recentJSON struct {
	admin.Finished
	Sentence string `json:"sentence"`
	Advice   string `json:"advice,omitempty"`
	Rule     string `json:"rule_to_write,omitempty"` // for a client that may speak without TLS
}

func (r recent) json(w io.Writer, limit int) error {
	out := []recentJSON{}
	for _, f := range r.flows {
		if limit > 0 && len(out) == limit {
			break
		}
		e, _ := reason.Lookup(reason.Code(f.Reason))
		out = append(out, recentJSON{f, e.Sentence, e.Advice, plainRule(e.Code, f.Client, f.Destination)})
	}
	return writeJSON(w, out)
}

// sameRefusal are the fields in which flows of one group agree.
type sameRefusal struct {
	client                    netip.Addr
	rule, code, end, sni, why string
	destination, subject      string
}

// recentGroup is the newest of the flows that agree, with the others.
type recentGroup struct {
	admin.Finished
	times int
	first time.Time
}

func (r recent) groups() []*recentGroup {
	var groups []*recentGroup
	known := map[sameRefusal]*recentGroup{}
	for _, f := range r.flows {
		client, _ := netip.ParseAddrPort(f.Client)
		key := sameRefusal{client.Addr(), f.Rule, f.Reason, f.End, f.SNI, f.Detail, f.Destination, f.Subject}
		g := known[key]
		if g == nil {
			g = &recentGroup{Finished: f}
			known[key] = g
			groups = append(groups, g)
		}
		g.times++
		g.first = f.At
	}
	return groups
}

func (r recent) text(w io.Writer, limit int) error {
	var b strings.Builder
	groups := r.groups()
	for i, g := range groups {
		if limit > 0 && i == limit {
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		g.write(&b)
	}
	if len(groups) == 0 {
		b.WriteString("no " + r.what() + " is remembered\n")
	} else {
		b.WriteByte('\n')
	}
	note := func(format string, args ...any) {
		for _, line := range wrap(fmt.Sprintf(format, args...), columns(w)) {
			b.WriteString(line + "\n")
		}
	}
	if n := len(groups) - limit; limit > 0 && n > 0 {
		note("and %d more: --limit 0 lists all", n)
	}
	if !r.complete.IsZero() && r.filter.Verdict != "allowed" && (r.within == 0 || time.Since(r.complete) < r.within) {
		note("Of refusals before %s only some are remembered; the audit log has all.", r.complete.Local().Format(time.DateTime))
	}
	if len(groups) > 0 {
		note("`sslgate flows ID` draws the handshake of one.")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// what is listed, in words.
func (r recent) what() string {
	what := "refusal"
	if r.filter.Verdict != "" {
		what = r.filter.Verdict + " flow"
	}
	if r.filter != (admin.Filter{Verdict: r.filter.Verdict}) {
		what += " of that kind"
	}
	if r.within > 0 {
		what += " in the last " + r.within.String()
	}
	return what
}

func (g *recentGroup) write(b *strings.Builder) {
	e, _ := reason.Lookup(reason.Code(g.Reason))
	field := func(name, text string) {
		if text != "" {
			b.WriteString(diagram.Field(name, text))
		}
	}
	b.WriteString(diagram.Field(g.Verdict, g.Reason))
	field("", e.Sentence+".")
	field("detail", g.Detail)
	when := g.At.Local().Format(time.DateTime)
	if g.times > 1 {
		when = fmt.Sprintf("%d times since %s, the last at %s", g.times, g.first.Local().Format(time.DateTime), when)
	}
	field("when", when)
	field("client", g.Client)
	if g.Subject != "" || len(g.SANs) > 0 {
		names := append([]string{g.Subject}, g.SANs...)
		if g.Subject == "" {
			names = g.SANs
		}
		claim := ""
		if !g.Proven {
			claim = " (a claim: the key was not proved)"
		}
		field("certificate", strings.Join(names, ", ")+claim)
	}
	to := g.Destination
	if g.SNI != "" {
		to = g.SNI + ", " + to
	}
	field("to", to)
	rule := g.Rule
	if rule == "" {
		rule = "none"
	}
	field("rule", fmt.Sprintf("%s, decided at step %d", rule, g.Step))
	field("alert", g.Alert)
	if g.End != "" {
		field("end", g.End)
	}
	field("id", g.ID)
	field("advice", e.Advice)
	field("a rule", plainRule(e.Code, g.Client, g.Destination))
}
