package soak

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is what a run has found.
type Report struct {
	OK      bool  `json:"ok"`
	Seconds int   `json:"seconds"`
	Race    bool  `json:"race"`
	Rounds  int   `json:"rounds"`
	Reloads int   `json:"reloads"`
	CRLs    int64 `json:"crls"` // revocation lists that were in place
	Flows   int64 `json:"flows"`
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"` // compared by SHA-256
	Dialed  int64 `json:"dialed"`
	Stalls  int64 `json:"stalls"` // how often the machine stood still for a second

	Kinds    map[string]int64 `json:"kinds"`    // connections by clients
	Outcomes map[string]int64 `json:"outcomes"` // by verdict and reason of the records
	Quiet    []Sample         `json:"quiet"`
	Problems []string         `json:"problems"`
}

// counts is a copy of the sums.
type counts struct {
	begun, written, exactBytes, dialed int64
}

func (b *book) counts() counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return counts{b.begun, b.written, b.exactBytes, b.dialed}
}

func (r *run) report() *Report {
	b := r.book
	for _, g := range growth(r.grownUp(), r.opt.Race) {
		b.complain("%s", g)
	}
	c := b.counts()
	p := &Report{
		Seconds: int(time.Since(r.start).Seconds()), Race: r.opt.Race, Rounds: r.rounds, Reloads: r.site.reloads, CRLs: r.site.crlNow().number,
		Flows: c.begun, Records: c.written, Bytes: c.exactBytes, Dialed: c.dialed, Stalls: r.stalls.Load(),
		Outcomes: map[string]int64{}, Quiet: r.quiet, Problems: []string{},
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p.Kinds = maps.Clone(b.kinds)
	for d, n := range b.decisions {
		p.Outcomes[d.verdict+" "+d.reason] += n
	}
	p.Problems = append(p.Problems, b.problems...)
	if b.more > 0 {
		p.Problems = append(p.Problems, fmt.Sprintf("and %d more problems", b.more))
	}
	p.OK = len(p.Problems) == 0
	return p
}

// grownUp are the samples but the first, while there are enough.
func (r *run) grownUp() []Sample {
	if len(r.quiet) > 2 {
		return r.quiet[1:]
	}
	return r.quiet
}

func (p *Report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(p)
}

func (p *Report) write(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	table := func(head string, m map[string]int64) {
		fmt.Fprintf(t, "\n%s\tflows\n", head)
		for _, name := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(t, "%s\t%d\n", name, m[name])
		}
	}
	table("clients", p.Kinds)
	table("audit log", p.Outcomes)
	fmt.Fprintf(t, "\nquiet after\theap\truntime\trss\tgoroutines\tfds\tflows\n")
	for _, s := range p.Quiet {
		fmt.Fprintf(t, "%ds\t%s\t%s\t%s\t%d\t%d\t%d\n", s.Second, size(s.Heap), size(s.Runtime), size(s.RSS), s.Goroutines, s.FDs, s.Flows+s.Lingering)
	}
	_ = t.Flush() // to a terminal or a buffer
	fmt.Fprintf(w, "\n%d s, %d rounds, %d reloads, %d CRLs: %d flows by clients, %d by the audit log, %d reached an origin; %s compared\n",
		p.Seconds, p.Rounds, p.Reloads, p.CRLs, p.Flows, p.Records, p.Dialed, size(p.Bytes))
	if p.OK {
		fmt.Fprintln(w, "soak: ok; no byte lost or changed, nothing grew, all accounts agree")
		return
	}
	fmt.Fprintf(w, "soak: FAILED, %d problems\n", len(p.Problems))
	if p.Stalls > 0 {
		fmt.Fprintf(w, "  (this machine stood still for more than a second %d times: timeouts may come from that)\n", p.Stalls)
	}
	for _, s := range p.Problems {
		fmt.Fprintf(w, "  %s\n", s)
	}
}

// size is a number of bytes for reading.
func size(n int64) string {
	switch {
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d GiB", n>>30)
}
